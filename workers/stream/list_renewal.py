"""Makes lists again that hold an item which is no longer available, has expired or was removed.

A worker remembers the newest lists that it made (`workers/stream/listed_items.py`). Those that were made before it owned a partition it
reads from the recommendations topic, once something on them may be gone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

import numpy as np
import orjson
from numpy.typing import NDArray

from workers.kafka.offsets import end_offsets_async, start_offsets_async
from workers.kafka.placement import is_reserved
from workers.kafka.records import RangeReader, Record
from workers.lists.policy_options import remembered_users
from workers.lists.row_specs import shown_ids, shown_size
from workers.settings import Settings
from workers.stream.partitions import Partitions
from workers.stream.pipeline import Pipeline

log = logging.getLogger(__name__)

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
READ_AT_ONCE = 100
"""Lists that are parsed before events go on: a millisecond."""


class ListRenewal:
    """Notes whose lists are to be made again, with those that were deferred."""

    def __init__(
        self, settings: Settings, pipeline: Pipeline, partitions: Partitions, *, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._settings, self._pipeline, self._partitions, self._wall_clock = settings, pipeline, partitions, wall_clock
        self._topic, self._limit = settings.topics.recommendations, remembered_users(settings.lists)
        self._renews, self._keeps_order = settings.lists.renewed_users > 0, settings.lists.stability.margin > 0
        self._listable: Bools = np.zeros(0, np.bool_)
        self._read: set[int] = set()
        self._resets = pipeline.state.resets

    async def look(self) -> None:
        """Find items that are gone since the last look, and note whose lists hold one; where lists keep their order, learn those of
        partitions that have come. Raises Transient, Fatal, Fenced."""
        listed = self._pipeline.lists.listed_items
        self._follow_partitions()
        listable = self._now_listable()
        gone = ~listable
        reads = self._keeps_order or bool(gone.any())
        unread = [partition for partition in self._partitions.owned if partition not in self._read] if reads else []
        if unread:
            await self._read_lists(unread)
        else:
            gone[: len(self._listable)] &= self._listable
        if self._renews and gone.any() and (n_due := listed.expect(gone)):
            log.info("items are gone from lists: %d users wait for another one", n_due)
        self._listable = listable
        if listed.are_due:
            await self._defer()

    def _follow_partitions(self) -> None:
        """Forget what other workers own now, and everything when the state is another one."""
        listed, state = self._pipeline.lists.listed_items, self._pipeline.state
        if state.resets != self._resets:
            self._resets = state.resets
            self._listable, self._read = self._listable[:0], set()
            listed.clear()
        lost = self._read - set(self._partitions.owned)
        if lost:
            listed.forget(lost)
            self._read -= lost

    def _now_listable(self) -> Bools:
        state = self._pipeline.state
        return state.engine.catalogue.recommendable(max(state.item_cache.newest_s, int(self._wall_clock())))

    async def _defer(self) -> None:
        async with self._pipeline.state.turn():
            taken = self._pipeline.lists.listed_items.take()
            taken = {partition: users for partition, users in taken.items() if self._partitions.owns(partition)}
            await self._pipeline.defer(taken)
            self._partitions.note_deferred(taken)

    async def _read_lists(self, partitions: Sequence[int]) -> None:
        """Remember the newest lists of these partitions, as many as are remembered at all."""
        firsts = await start_offsets_async(self._settings, [self._topic])
        ends = await end_offsets_async(self._settings, [self._topic])
        places = [(self._topic, partition) for partition in partitions]
        starts = {place: max(firsts[place], ends[place] - self._limit) for place in places}
        wanted = {place: ends[place] for place in places if ends[place] > starts[place]}
        if wanted:
            reader = RangeReader(self._settings, {place: starts[place] for place in wanted}, max_records=READ_AT_ONCE, role="stream")
            async with reader:
                async for polled in reader.until(wanted):
                    for (_, partition), records in polled.items():
                        self._note(partition, records)
                    await asyncio.sleep(0)
        self._read.update(partitions)

    def _note(self, partition: int, records: Sequence[Record]) -> None:
        """Remember lists that were read. What this project did not write is passed over."""
        numbers, size = self._pipeline.state.numbering.numbers, shown_size(self._settings.lists)
        user_ids, items = list[str](), np.full((len(records), size), -1, np.int64)
        for record in records:
            if not record.key or record.value is None:
                continue
            try:
                user_id, listed = record.key.decode(), shown_ids(orjson.loads(record.value))
            except (ValueError, TypeError, KeyError):
                continue
            if not is_reserved(user_id, self._settings.lists):
                items[len(user_ids), : min(len(listed), size)] = [numbers.get(item_id, -1) for item_id in listed[:size]]
                user_ids.append(user_id)
        self._pipeline.lists.listed_items.note_older(partition, user_ids, items[: len(user_ids)])
