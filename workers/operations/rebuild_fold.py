"""Fold the events of the log into a new generation of the state, and repeat steps that Redis or Kafka interrupts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from workers.errors import Fatal, Fenced, Transient, describe
from workers.kafka.offsets import end_offsets_async
from workers.kafka.records import Place, RangeReader, Record
from workers.kafka.topics import topic_ids_async, topic_problem
from workers.operations.rebuild_claim import Claim
from workers.runtime.rounds import ALARM_FAILURES, PASSING, Rounds, patiently
from workers.settings import Settings
from workers.stream.pipeline import Pipeline

PATIENCE_S = 60.0
"""Redis or Kafka may be away for so long; then the rebuild gives up."""
PROGRESS_S = 5.0

T = TypeVar("T")
Say = Callable[[str], None]


async def repeat_until_done(step: Callable[[], Awaitable[T]]) -> T:
    """Repeat a step until it succeeds.

    Raises: Transient when it has not within a minute of its first failure, Fatal when it fails three times for an unexpected reason.
    """
    results: list[T] = []
    failures: list[tuple[float, Exception]] = []

    async def attempt() -> None:
        results.append(await step())

    def gives_up(error: Exception) -> bool:
        failures.append((time.monotonic(), error))
        n_unexpected = sum(not isinstance(error, PASSING) for _, error in failures)
        if n_unexpected >= ALARM_FAILURES:
            raise Fatal(f"rebuild: {n_unexpected} times unexpected {describe(error)}; nothing is switched, report this as a defect")
        return failures[-1][0] - failures[0][0] > PATIENCE_S

    await patiently(attempt, gives_up=gives_up, rounds=Rounds("rebuild"))
    return results[0]


class EventFold:
    """Applies the events of the log, batch by batch, through a pipeline of its own."""

    def __init__(
        self, settings: Settings, pipeline: Pipeline, reader: RangeReader, starts: Mapping[Place, int], claim: Claim, say: Say
    ) -> None:
        self._settings, self._pipeline, self._reader, self._starts = settings, pipeline, reader, starts
        self._claim, self._say = claim, say
        self._topic = settings.topics.events
        self._resets: int | None = None
        self._failed = False
        self._started_s = self._said_s = time.monotonic()
        self.n_events = 0

    async def catch_up(self) -> None:
        """Fold until less than one batch is left of the log as it is by then. Raises Fatal, Transient."""
        if self._resets is None:
            await repeat_until_done(self._assign)
            self._resets = self._pipeline.state.resets
        self._reader.expect()
        while True:
            ends = await self._ends()
            if self._reader.left(ends) == 0:
                break
            while left := self._reader.left(ends):
                await repeat_until_done(self._step)
                self._reader.check_silence(ends)
                self._progress(left)
            if self._reader.left(await self._ends()) < self._settings.stream.batch_max_events:
                break
        while await self._pipeline.state.compact_rows():
            self._claim.check()
            await asyncio.sleep(0)

    async def _ends(self) -> dict[Place, int]:
        return await end_offsets_async(self._settings, [self._topic])

    async def _step(self) -> None:
        """One batch; after a failure it begins with the shadow's watermarks."""
        self._claim.check()
        if self._failed:
            await self._assign()
        self._failed = True
        found = await self._reader.poll()
        batch: dict[int, list[Record]] = {p: records for (_, p), records in found.items()}
        if batch:
            try:
                # the new state owes every user a list: the one of the old state may be another
                outcome = await self._pipeline.process(batch, defer_lists=True)
            except Fenced as error:
                raise Transient(str(error)) from None
            self.n_events += outcome.n_records
            await self._pipeline.state.compact_rows()
        self._failed = False

    async def _assign(self) -> None:
        """Own every partition of the shadow, and read on where it stands; what lies before the log's start is gone."""
        ids = await topic_ids_async(self._settings)
        if self._topic not in ids:
            raise Fatal(await asyncio.to_thread(topic_problem, self._settings, self._topic))
        for partition, first_new in (await self._pipeline.assign([p for _, p in self._reader.next_offsets], ids[self._topic])).items():
            place = (self._topic, partition)
            self._reader.seek(place, max(first_new, self._starts[place]))
        if self._resets is not None and self._pipeline.state.resets != self._resets:
            raise Fatal("Redis was restarted or failed over during the rebuild, the new state may lack something: run it again")

    def _progress(self, left: int) -> None:
        now_s = time.monotonic()
        if now_s - self._said_s >= PROGRESS_S:
            self._said_s = now_s
            per_s = self.n_events / (now_s - self._started_s)
            self._say(f"{self.n_events:,} events, {per_s:,.0f}/s, {left:,} are left")
