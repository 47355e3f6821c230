"""Follows the topic of lists into memory, without a consumer group: every gateway holds all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from workers.errors import Transient
from workers.kafka.offsets import end_offsets_async, start_offsets_async
from workers.kafka.records import Place, RangeReader
from workers.runtime.rounds import Rounds
from workers.runtime.status import WorkerStatus
from workers.settings import Settings
from workers.web.gateway_metrics import GatewayMetrics
from workers.web.held_lists import HeldLists

READ_AT_ONCE = 200
"""Records that are taken in before requests get their turn: 2 to 3 ms."""
LOADING = "lists"
"""Name of the reason why the gateway is not ready while it reads what is published."""


class ListFollower:
    """Reads the recommendations topic from its beginning, then as lists are published.

    Once all of it is held, a Kafka that is away makes no gateway unready: nobody can publish a newer list then.
    """

    def __init__(self, settings: Settings, held: HeldLists, metrics: GatewayMetrics, status: WorkerStatus) -> None:
        self._settings, self._held, self._metrics, self._status = settings, held, metrics, status
        self._next: dict[Place, int] = {}
        self._rounds = Rounds("lists", metrics, fatal_passes=True)
        self.is_loaded = False
        """Whether everything that was published at the start is held."""
        status.block(LOADING, "published lists are read from Kafka")

    async def run(self) -> None:
        """Follow until the task is cancelled; failures are logged and tried again."""
        while True:
            if not await self._rounds.attempt(self._follow) and not self.is_loaded:
                self._status.block(LOADING, f"published lists cannot be read: {self._rounds.why}")
            await asyncio.sleep(self._rounds.wait_s)

    async def _follow(self) -> None:
        topic = self._settings.topics.recommendations
        firsts = await start_offsets_async(self._settings, [topic])
        ends = await end_offsets_async(self._settings, [topic])
        wanted = self._settings.topics.partitions
        if len(ends) != wanted:
            raise Transient(f"topic {topic} has {len(ends)} partitions, topics.partitions is {wanted}: correct the setting")
        if any(ends.get(place, 0) < known for place, known in self._next.items()):  # the topic was made again
            self._next = {}
            self._held.clear()
        starts = {place: max(first, self._next.get(place, 0)) for place, first in firsts.items()}
        async with RangeReader(self._settings, starts, max_records=READ_AT_ONCE, role="reader") as reader:
            while True:
                await self._take_in(reader, lambda: not reader.left(ends))

    async def _take_in(self, reader: RangeReader, is_read: Callable[[], bool]) -> None:
        polled = await reader.poll()
        self._rounds.succeeded()
        for records in polled.values():
            for record in records:
                self._held.put(record.key, record.value)
            self._metrics.read_records.inc(len(records))
        self._next = dict(reader.next_offsets)
        self._metrics.held_lists.set(len(self._held))
        self._metrics.held_bytes.set(self._held.n_bytes)
        if not self.is_loaded and is_read():
            self.is_loaded = True
            self._status.clear(LOADING)
        await asyncio.sleep(0)
