"""Polls the events topic: decides how many records a batch takes, and how long it waits."""

from __future__ import annotations

import time
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer

from workers.kafka.records import Record, records_of
from workers.settings import StreamSettings

Batch = dict[int, list[Record]]
"""Records by partition, in the order of their offsets."""

AT_ONCE_S = 0.0005
"""Records that a poll answers within this were fetched before it."""
SINCE_MS = 5
"""Milliseconds that a poll that found such records waits at most for what has come since they were fetched."""
BEHIND_FACTOR = 4
"""Factor on `stream.batch_max_events` up to which a worker polls that is behind and makes no lists: rows that a batch touches more than
once are written once."""


class Polling:
    """Polls a consumer. While polls return as many records as asked for the worker is behind: they grow, as long as it makes no lists."""

    def __init__(self, settings: StreamSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock = settings, clock
        self._wanted = settings.batch_max_events

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
        """Return up to `wanted` records. The consumer fetches ahead, but only once: prefetched records are from when the last batch was
        polled. So newer records are waited for; they come after a round trip."""
        asked_s = self._clock()
        found = await _getmany(consumer, self._settings.batch_wait_ms, wanted)
        lay_there = found and self._clock() - asked_s < AT_ONCE_S
        if lay_there and (room := wanted - sum(map(len, found.values()))) > 0:
            for partition, records in (await _getmany(consumer, SINCE_MS, room)).items():
                found.setdefault(partition, []).extend(records)
        return found


async def _getmany(consumer: AIOKafkaConsumer, timeout_ms: int, most: int) -> Batch:
    found = await consumer.getmany(timeout_ms=timeout_ms, max_records=most)
    return {at.partition: records_of((at.topic, at.partition), records) for at, records in found.items() if records}
