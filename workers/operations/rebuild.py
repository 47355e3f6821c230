"""Rebuild the state from the log while workers serve the old one.

    claim ▸ catalogue, profiles, models ▸ removals that the topics have lost ▸ fold the events
    ▸ check ▸ catch up ▸ switch the pointer ▸ workers take over ▸ drop the old

All of it goes into the next generation of the namespace, which nobody else reads or writes. Until the pointer is switched, in one step, a
crash leaves nothing but keys that the next rebuild drops.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from workers.bootstrap import open_store
from workers.errors import Fatal, Transient, WorkerError
from workers.kafka.offsets import end_offsets_async, start_offsets_async
from workers.kafka.records import Place, RangeReader
from workers.operations.carry_over import carry_over
from workers.operations.catalogue_check import Catalogue, read_catalogue
from workers.operations.generations import switch, taken_over
from workers.operations.rebuild_claim import Claim, claimed
from workers.operations.rebuild_fold import EventFold, Say, repeat_until_done
from workers.operations.rebuild_jobs import fold_in_parallel
from workers.operations.verify import Verification, verify_store
from workers.settings import Settings
from workers.state.port import StateStore
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.pipeline import Pipeline
from workers.stream.reference_topics import Intake
from workers.stream.reread import reread_compacted

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """`n_events` records in `seconds` until the switch, `n_verified` of `n_users` users compared with the log; `taken_over`: workers have
    applied everything that the log held at the switch. `n_dropped` keys of the old generation."""

    generation: int
    n_events: int
    seconds: float
    n_users: int
    n_verified: int
    taken_over: bool
    n_dropped: int

    @property
    def events_per_s(self) -> float:
        return self.n_events / self.seconds if self.seconds > 0 else 0.0

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"seconds": round(self.seconds, 3), "events_per_s": round(self.events_per_s, 1)}


async def rebuild(
    settings: Settings,
    *,
    partial: bool = False,
    keep_old: bool = False,
    wait_s: float = 60.0,
    n_users: int = 200,
    n_items: int = 200,
    n_jobs: int = 1,
    say: Say = lambda line: None,
) -> Rebuilt:
    """Rebuild the state of these settings, compare `n_users` and `n_items` of it with the log, and make it the active one.

    With `n_jobs` above 1 as many processes fold the log, each some of its partitions.
    `wait_s` is how long workers may take over after the switch. `partial` accepts a log whose first events are gone.
    Raises: Fatal when the log is not whole and `partial` is off, the check finds a difference, or somebody else rebuilds or switched;
    Transient when Redis or Kafka stays away. The shadow is dropped then.
    """
    control = open_store(settings)
    try:
        old = await control.active_generation()
        async with claimed(control) as claim:
            shadow = await _free(control, old)
            starts = await _log_starts(settings, partial, say)
            if await control.drop_generation(shadow):
                say(f"generation {shadow}, which an earlier rebuild left behind, is dropped")
            try:
                made = await _make(settings, control, old, shadow, starts, (n_users, n_items), n_jobs, claim, say)
                claim.check()
                ends = await end_offsets_async(settings, [settings.topics.events])
                await switch(control, old, shadow)
            except BaseException:
                await _drop_abandoned(control, shadow)
                raise
            say(f"switched to generation {shadow}; workers take over")
            made = replace(made, taken_over=await taken_over(settings, control, shadow, ends, wait_s, say))
            if keep_old:
                say(f"generation {old} is kept: go back with `recsys state use {old}`, or delete it with `recsys state drop {old}`")
                return made
            try:
                n_dropped = await control.drop_generation(old)
            except Transient as error:
                raise Transient(f"generation {shadow} is served, the old one stays until `recsys state drop {old}`: {error}") from None
            say(f"generation {old} is dropped, {n_dropped:,} keys")
            return replace(made, n_dropped=n_dropped)
    finally:
        await control.close()


async def drop(settings: Settings, generation: int) -> int:
    """Drop a generation that is not active; how many keys it had. Raises Fatal for the active one, and while somebody rebuilds."""
    control = open_store(settings)
    try:
        async with claimed(control):
            return await control.drop_generation(generation)
    finally:
        await control.close()


async def _free(control: StateStore, old: int) -> int:
    """Return the next generation that no worker has served: one that is kept is not replaced."""
    shadow = old + 1
    while await control.catalogue_read_into(shadow):
        shadow += 1
    return shadow


async def _log_starts(settings: Settings, partial: bool, say: Say) -> dict[Place, int]:
    topic = settings.topics.events
    starts = await start_offsets_async(settings, [topic])
    n_partitions = settings.topics.partitions
    if len(starts) != n_partitions:
        raise Fatal(f"topic {topic} has {len(starts)} partitions, topics.partitions is {n_partitions}: correct the setting")
    late = {partition: start for (_, partition), start in sorted(starts.items()) if start > 0}
    if late:
        shown = ", ".join(f"{partition} at {start}" for partition, start in list(late.items())[:5])
        text = f"topic {topic} no longer holds its first events (partition {shown}): what they did will be missing in the rebuilt state"
        if not partial:
            raise Fatal(f"{text}; run with --partial to go on without them")
        say(text)
    return starts


async def _make(
    settings: Settings,
    control: StateStore,
    old: int,
    shadow: int,
    starts: Mapping[Place, int],
    compared: tuple[int, int],
    n_jobs: int,
    claim: Claim,
    say: Say,
) -> Rebuilt:
    """Fill the shadow generation and check it; less than one batch of the log is left afterwards. `compared`: users and items."""
    started_s = time.monotonic()
    store = open_store(settings, pinned=shadow)
    pipeline = Pipeline(settings, store)
    try:
        await pipeline.open()
        intake = Intake(settings, pipeline.state, pipeline.lists, CatalogueFollower(pipeline.state))
        items_ends = await repeat_until_done(lambda: end_offsets_async(settings, [settings.topics.items]))
        catalogue_ends = {partition: end for (_, partition), end in items_ends.items()}
        counts = await repeat_until_done(lambda: reread_compacted(settings, intake))
        say("read " + ", ".join(f"{count:,} {role}" for role, count in counts.items()))
        catalogue = await repeat_until_done(lambda: read_catalogue(settings, catalogue_ends, whole=False))
        n_carried = await repeat_until_done(lambda: carry_over(settings, control, old, pipeline, catalogue))
        if n_carried:
            say(f"{n_carried:,} items are taken over from generation {old}: the topic no longer tells of their removal or description")
        n_folded = 0
        if n_jobs > 1:
            ends = await repeat_until_done(lambda: end_offsets_async(settings, [settings.topics.events]))
            n_folded = await fold_in_parallel(settings, shadow, starts, ends, n_jobs, claim, say)
        async with RangeReader(settings, starts, max_records=settings.stream.batch_max_events) as reader:
            fold = EventFold(settings, pipeline, reader, starts, claim, say)
            await fold.catch_up()
            say(f"{n_folded + fold.n_events:,} events are folded")
            seed = secrets.randbits(32)
            found = await repeat_until_done(lambda: _check(settings, store, compared, seed, catalogue, say))
            _refuse_differences(found)
            say(f"{found.n_users:,} users, the rows of {found.n_items:,} items, popularity and catalogue are what the log says")
            await fold.catch_up()
        n_events = n_folded + fold.n_events
        return Rebuilt(shadow, n_events, time.monotonic() - started_s, found.n_users_stored, found.n_users, False, 0)
    finally:
        await store.close()


async def _check(
    settings: Settings, store: StateStore, compared: tuple[int, int], seed: int, catalogue: Catalogue, say: Say
) -> Verification:
    n_users, n_items = compared
    return await verify_store(settings, store, n_users=n_users, n_items=n_items, seed=seed, filled_from=catalogue, say=say)


def _refuse_differences(found: Verification) -> None:
    if found.differences:
        more = f" (and {found.n_differences - 1:,} more)" if found.n_differences > 1 else ""
        raise Fatal(f"the rebuilt state differs from the log and is not used: {found.differences[0]}{more}; report this as a defect")


async def _drop_abandoned(control: StateStore, shadow: int) -> None:
    try:
        await control.drop_generation(shadow)
    except WorkerError as error:  # the active one by now, or Redis is away: the next rebuild drops it
        log.debug("the shadow stays for now: %s", error)
