"""Fold the log in several processes, each with partitions of its own, into one new generation.

A partition's events are applied in their order by one process, as by one of several stream workers: what users, items and popularity get
from different partitions are sums and newest entries, which do not depend on the order of partitions.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from workers.bootstrap import open_store
from workers.errors import Fatal, Transient, WorkerError, describe
from workers.kafka.records import Place, RangeReader
from workers.operations.rebuild_claim import Claim
from workers.operations.rebuild_fold import EventFold, Say, repeat_until_done
from workers.runtime.redaction import hide_secrets
from workers.settings import Settings
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.pipeline import Pipeline
from workers.stream.reference_topics import Intake
from workers.stream.reread import reread_compacted

log = logging.getLogger(__name__)

WATCH_S = 0.2
END_S = 10.0
"""A process that was asked to end has so long before it is killed."""


@dataclass(frozen=True, slots=True)
class _Said:
    """A line of a process, or its end: how many events it has folded, or what went wrong for good or for now."""

    line: str = ""
    n_events: int | None = None
    fatal: str | None = None
    transient: str | None = None


class _ParentLives(Claim):
    """The claim as a process sees it: the one that started it holds it, and ends it when the claim is lost."""

    def __init__(self, parent: int) -> None:
        super().__init__()
        self._parent = parent

    def check(self) -> None:
        if os.getppid() != self._parent:
            raise Fatal("the rebuild that started this process has ended")


def shares(lengths: Mapping[int, int], n_jobs: int) -> list[list[int]]:
    """Deal partitions to at most `n_jobs` processes, the longest first to whoever has least; none is empty."""
    dealt: list[list[int]] = [[] for _ in range(min(n_jobs, len(lengths)))]
    totals = [0] * len(dealt)
    for partition in sorted(lengths, key=lambda partition: (-lengths[partition], partition)):
        least = totals.index(min(totals))
        dealt[least].append(partition)
        totals[least] += max(1, lengths[partition])
    return [sorted(part) for part in dealt if part]


async def fold_in_parallel(
    settings: Settings, shadow: int, starts: Mapping[Place, int], ends: Mapping[Place, int], n_jobs: int, claim: Claim, say: Say
) -> int:
    """Fold the log between `starts` and its end into generation `shadow` in `n_jobs` processes; return the number of events.

    Raises: Fatal, Transient: the first of those of the processes; the others are ended then.
    """
    parts = shares({place[1]: ends.get(place, start) - start for place, start in starts.items()}, n_jobs)
    context = multiprocessing.get_context("spawn")
    jobs: list[tuple[SpawnProcess, Connection]] = []
    results: list[asyncio.Task[int]] = []
    try:
        for part in parts:
            ours, theirs = context.Pipe(duplex=False)
            own = {place: start for place, start in starts.items() if place[1] in part}
            process = context.Process(target=fold_part, args=(settings, shadow, own, os.getpid(), theirs), daemon=True)
            await asyncio.to_thread(process.start)
            theirs.close()
            jobs.append((process, ours))
        results = [asyncio.create_task(_result(at, process, said, claim, say)) for at, (process, said) in enumerate(jobs, 1)]
        return sum(await asyncio.gather(*results))
    finally:
        for result in results:
            result.cancel()
        await asyncio.gather(*results, return_exceptions=True)
        for process, _ in jobs:
            process.terminate()
        for process, said in jobs:
            await asyncio.to_thread(process.join, END_S)
            if process.exitcode is None:
                process.kill()
            said.close()


async def _result(at: int, process: SpawnProcess, said: Connection, claim: Claim, say: Say) -> int:
    """Wait for the end of a process; return how many events it has folded."""
    while True:
        claim.check()
        if not await asyncio.to_thread(said.poll, WATCH_S):
            continue
        try:
            heard: _Said = said.recv()
        except EOFError:
            await asyncio.to_thread(process.join)
            raise Transient(f"a process of the rebuild ended with code {process.exitcode}: run it again") from None
        if heard.line:
            say(f"job {at}: {heard.line}")
        if heard.fatal is not None:
            raise Fatal(heard.fatal)
        if heard.transient is not None:
            raise Transient(heard.transient)
        if heard.n_events is not None:
            return heard.n_events


def fold_part(settings: Settings, shadow: int, starts: Mapping[Place, int], parent: int, say: Connection) -> None:
    """Be one of the processes."""
    hide_secrets(settings)
    gc.set_threshold(200_000, 50, 100)
    try:
        n_events = asyncio.run(_fold_part(settings, shadow, starts, _ParentLives(parent), lambda line: say.send(_Said(line))))
        say.send(_Said(n_events=n_events))
    except Transient as error:
        say.send(_Said(transient=str(error)))
    except WorkerError as error:
        say.send(_Said(fatal=str(error)))
    except Exception as error:
        log.debug("a process of the rebuild failed", exc_info=True)
        say.send(_Said(fatal=f"rebuild: unexpected {describe(error)}; nothing is switched, report this as a defect"))


async def _fold_part(settings: Settings, shadow: int, starts: Mapping[Place, int], claim: Claim, say: Say) -> int:
    store = open_store(settings, pinned=shadow)
    pipeline = Pipeline(settings, store)
    try:
        await repeat_until_done(pipeline.open)
        intake = Intake(settings, pipeline.state, pipeline.lists, CatalogueFollower(pipeline.state))
        await repeat_until_done(lambda: reread_compacted(settings, intake))
        async with RangeReader(settings, starts, max_records=settings.stream.batch_max_events) as reader:
            fold = EventFold(settings, pipeline, reader, starts, claim, say)
            await fold.catch_up()
            return fold.n_events
    finally:
        await store.close()
