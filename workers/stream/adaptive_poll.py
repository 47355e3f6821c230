"""Polls of the events topic: how many records a batch takes, and what it waits for."""

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
"""How long a poll that found such records waits at most for what has come since they were fetched."""
BEHIND_FACTOR = 4
"""A worker that is behind and makes no lists takes up to so many times `stream.batch_max_events` at once: rows that a batch touches more
than once are written once."""


class Polling:
    """The next records of a consumer. While polls come back full the worker is behind: they grow, as long as no lists are made of them."""

    def __init__(self, settings: StreamSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock = settings, clock
        self._wanted = settings.batch_max_events

    async def poll(self, consumer: AIOKafkaConsumer, *, makes_lists: bool) -> tuple[Batch, bool]:
        """The next records, and whether there were as many as asked for."""
        usual = self._settings.batch_max_events
        most = usual * (1 if makes_lists else BEHIND_FACTOR)
        wanted = min(self._wanted, most)
        batch = await self._fetched(consumer, wanted)
        n_records = sum(map(len, batch.values()))
        is_full = n_records >= wanted
        self._wanted = min(2 * wanted, most) if is_full else max(wanted // 2, min(usual, most))
        return batch, is_full

    async def _fetched(self, consumer: AIOKafkaConsumer, wanted: int) -> Batch:
        """Up to so many records. The consumer fetches ahead, but only once: what lay there was fetched when the last batch was polled. So
        what has come since is waited for; it is there after a round trip."""
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
