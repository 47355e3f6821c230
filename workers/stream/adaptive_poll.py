"""Polls the events topic: decides how many records a batch takes, and how long it waits."""

from __future__ import annotations

import time
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer

from workers.kafka.records import Record, records_of
from workers.settings import StreamSettings

Batch = dict[int, list[Record]]
"""Records by partition, in the order of their offsets."""

SINCE_MS = 5
"""Milliseconds that a poll which found records lying there waits at least for what has come since they were fetched."""
SINCE_SHARE = 0.25
"""Share of the time since the last poll that it waits at most: a busy machine makes both the batch and the fetch take longer."""
MAX_SINCE_MS = 50
"""Bound on that wait."""
BEHIND_FACTOR = 4
"""Factor on `stream.batch_max_events` up to which a worker polls that is behind and makes no lists: rows that a batch touches more than
once are written once."""


class Polling:
    """Polls a consumer. While polls return as many records as asked for the worker is behind: they grow, as long as it makes no lists."""

    def __init__(self, settings: StreamSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock = settings, clock
        self._wanted, self._polled_s = settings.batch_max_events, clock()

    async def poll(self, consumer: AIOKafkaConsumer, *, makes_lists: bool) -> tuple[Batch, bool]:
        """Return the next records, and whether there were as many as asked for."""
        usual = self._settings.batch_max_events
        most = usual * (1 if makes_lists else BEHIND_FACTOR)
        wanted = min(self._wanted, most)
        batch = await self._fetched(consumer, wanted)
        n_records = sum(map(len, batch.values()))
        is_full = n_records >= wanted
        self._wanted = min(2 * wanted, most) if is_full else max(wanted // 2, min(usual, most))
        return batch, is_full

    async def _fetched(self, consumer: AIOKafkaConsumer, wanted: int) -> Batch:
        """Return up to `wanted` records. The consumer fetches ahead, but only once: records that lie there are from when the last batch
        was polled. So newer records are waited for; they come after a round trip."""
        found = await _getmany(consumer, 0, wanted)
        if not found:
            found = await _getmany(consumer, self._settings.batch_wait_ms, wanted)
        elif (room := wanted - sum(map(len, found.values()))) > 0:
            since_ms = min(max(1000 * SINCE_SHARE * (self._clock() - self._polled_s), SINCE_MS), MAX_SINCE_MS)
            for partition, records in (await _getmany(consumer, round(since_ms), room)).items():
                found.setdefault(partition, []).extend(records)
        self._polled_s = self._clock()
        return found


async def _getmany(consumer: AIOKafkaConsumer, timeout_ms: int, most: int) -> Batch:
    found = await consumer.getmany(timeout_ms=timeout_ms, max_records=most)
    return {at.partition: records_of((at.topic, at.partition), records) for at, records in found.items() if records}
