"""Lists that belong to no user, under keys of their own in the recommendations topic: for everybody, of a category, for a segment.

The worker that owns a key's partition makes its list, on a schedule, and at once when an item on it can no longer be listed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from aiokafka import AIOKafkaProducer
from numpy.typing import NDArray

from recsys.catalogue.labels import CATEGORY
from recsys.models.segments.model import SegmentsModel
from recsys.models.segments.segment import Segment
from workers.kafka.batch_publisher import ListPublisher
from workers.kafka.partitioner import partition_for
from workers.lists.shared_keys import category_key, default_key, segment_key
from workers.settings import Settings
from workers.stream.partitions import Partitions
from workers.stream.pipeline import Pipeline
from workers.stream.shared_records import SharedList, SharedRecord, SharedRecords

log = logging.getLogger(__name__)

I64 = NDArray[np.int64]

AT_ONCE = 50
"""Lists made between two looks, half a second apart: events come first."""
COUNTED_EVERY_S = 5.0
"""How often the largest categories are looked up at most, while the catalogue changes."""


@dataclass(frozen=True, slots=True)
class _Made:
    """A list that was made: when, of which state, of how many items, under which ownership, and what it shows."""

    at_s: float
    of_state: int
    n_items: int
    partition: int
    term: int
    record: SharedRecord


class SharedLists:
    """Makes these lists and publishes them. A list replaces the one before, so it may be published twice."""

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        partitions: Partitions,
        *,
        producer: Callable[[], AIOKafkaProducer],
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._lists, self._topic = settings, settings.lists, settings.topics.recommendations
        self._pipeline, self._partitions, self._producer = pipeline, partitions, producer
        self._records = SharedRecords(pipeline.state, pipeline.lists)
        self._clock, self._wall_clock = clock, wall_clock
        self._made: dict[str, _Made] = {}
        self._largest: tuple[tuple[int, int, int], float, list[str]] | None = None
        self._unusable: set[str] = set()
        self._partition_of: dict[str, int] = {}

    async def look(self) -> None:
        """Publish lists that are due in partitions that this worker owns. Raises Transient, Fatal, Fenced."""
        state = self._pipeline.state
        # another worker makes the lists of other partitions, and this one at once when a partition comes back
        terms = self._partitions.terms
        self._made = {key: made for key, made in self._made.items() if terms.get(made.partition) == made.term}
        if not state.engine.n_items:
            return
        wanted = {one.key: one for one in self._wanted() if self._partitions.owns(one.partition)}
        removed = [key for key in self._made if key not in wanted][:AT_ONCE]
        due = [one for one in wanted.values() if self._is_due(one)][:AT_ONCE]
        if not due and not removed:
            return
        records: dict[int, list[tuple[bytes, bytes | None]]] = {}
        new: dict[str, _Made] = {}
        async with state.turn():
            applied = {one.partition: self._pipeline.last_applied(one.partition) for one in due}
            offsets = {partition: offset for partition, offset in applied.items() if offset is not None}
            due = [one for one in due if one.partition in offsets]
            at_s, now_ms = self._clock(), int(self._wall_clock() * 1000)
            for one, made in zip(due, await self._records.make(due, offsets, now_ms), strict=True):
                before = self._made.get(one.key)
                new[one.key] = _Made(at_s, state.resets, state.engine.n_items, one.partition, terms[one.partition], made)
                if made.record is not None or before is None or before.record.record is not None:
                    records.setdefault(one.partition, []).append((one.key.encode(), made.record))
        for key in removed:
            records.setdefault(self._made[key].partition, []).append((key.encode(), None))
        if records:
            async with self._partitions.handing_over:  # a list that came after the next owner's would stay until that one's is due
                if self._partitions.terms != terms:
                    return
                await ListPublisher(self._producer(), self._topic).publish(records)
        self._made = {key: made for key, made in self._made.items() if key not in removed} | new

    def _is_due(self, one: SharedList) -> bool:
        made, state = self._made.get(one.key), self._pipeline.state
        if made is None or made.of_state != state.resets or self._clock() - made.at_s >= self._lists.shared_every_s:
            return True
        if len(made.record.shown) < self._lists.size and made.n_items != state.engine.n_items:
            return True  # the catalogue had too few items, and has more now
        return not state.engine.catalogue.recommendable_of(made.record.shown, int(self._wall_clock())).all()

    def _wanted(self) -> Iterator[SharedList]:
        """Yield the lists that there should be."""
        yield self._list(default_key(self._settings))
        for category in self._categories():
            if (key := self._usable(category_key(self._settings, category), f"category {category}")) is not None:
                yield self._list(key, category=category)
        serving = self._pipeline.state.engine.models.get(SegmentsModel.kind) if self._lists.shared_segments else None
        if serving is not None and isinstance(serving.model, SegmentsModel):
            for segment in (one for one in serving.model.segments if one.name in self._lists.shared_segments):
                if (key := self._usable(segment_key(self._settings, segment), f"segment {segment}")) is not None:
                    yield self._list(key, segment=segment)

    def _list(self, key: str, category: str | None = None, segment: Segment | None = None) -> SharedList:
        if key not in self._partition_of:
            self._partition_of[key] = partition_for(key.encode(), self._settings.topics.partitions)
        return SharedList(key, self._partition_of[key], category, segment)

    def _usable(self, key: str | None, what: str) -> str | None:
        """Return the key; say once of what there can be no list."""
        if key is None and what not in self._unusable:
            self._unusable.add(what)
            log.warning("lists.shared_categories, lists.shared_segments: %r has no list: its key would be no id of at most 128 bytes", what)
        return key

    def _categories(self) -> list[str]:
        """Return the categories that have a list: those of the settings, or with "all" those of most items."""
        named, engine = self._lists.shared_categories, self._pipeline.state.engine
        if named != "all":
            return list(named)
        labels, now_s = engine.catalogue.labels[CATEGORY], self._clock()
        key, held = (self._pipeline.state.resets, labels.changes, engine.n_items), self._largest
        if held is None or (held[0] != key and now_s - held[1] >= COUNTED_EVERY_S):
            counts = labels.counts(engine.catalogue.recommendable(int(self._wall_clock())))
            largest = np.lexsort((np.arange(len(counts)), -counts))[: self._lists.shared_most]
            found = [labels.texts[number] for number in largest.tolist() if counts[number] > 0]
            held = self._largest = (key, now_s, found)
        return held[2]
