"""Publishes which items rise in each category, on a schedule, and at once when an item on such a list can no longer be listed.

The key of a list is `category:` and the category. It belongs to an item group as if it were an item, and so to one worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from aiokafka import AIOKafkaProducer
from numpy.typing import NDArray

from recsys.catalogue.labels import CATEGORY
from recsys.related.trending import Rising, by_value, rising
from schemas.decoding import decode_key, encode, key_of
from schemas.errors import Poison
from schemas.related import Scope, Trending, TrendingItem
from workers.kafka.batch_publisher import ListPublisher
from workers.kafka.partitioner import partition_for
from workers.settings import Settings
from workers.stream.listed_numbers import listed_numbers, packed_list
from workers.stream.partitions import Partitions
from workers.stream.pipeline import Pipeline
from workers.stream.published_topic import READ, UNKNOWN, published_keys, unread
from workers.stream.related_lists import owned_groups

I64 = NDArray[np.int64]
TOPIC, FIELD = "trending", b"trending:"
"""What is published is remembered under this and the key."""
MOST_RISING = 20_000
"""Items that rise most surely, from which categories take theirs."""
STEPS = 4
"""A list is published again once an item is elsewhere, or a score is another quarter of a doubling."""


class TrendingLists:
    """Makes the lists of all categories of this worker's groups. A list replaces the one before, so it may be published twice."""

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
        self._settings, self._pipeline, self._partitions = settings, pipeline, partitions
        self._producer, self._clock, self._wall_clock = producer, clock, wall_clock
        self._start_over()

    def _start_over(self) -> None:
        self._resets = self._pipeline.state.resets
        self._groups: dict[int, int] = {}
        self._published: dict[bytes, bytes] = {}
        """Key ▸ what is remembered of the published list."""
        self._made_s = float("-inf")

    async def look(self) -> int:
        """Publish the lists that are different, if they are due; return how many. Raises Transient, Fatal, Fenced."""
        state = self._pipeline.state
        if state.resets != self._resets:
            self._start_over()
        await self._follow_groups()
        if not self._groups or not self._is_due:
            return 0
        started_s, now_ms = self._clock(), int(self._wall_clock() * 1000)
        async with state.turn():
            if state.resets != self._resets or self._now_owned() != self._groups:
                return 0
            made = await self._make(now_ms)
        different = {key: made.get(key) for key in made.keys() | self._published.keys() if self._differs(key, made)}
        if different:
            async with self._partitions.handing_over:  # a list that came after the next owner's would stay
                if self._now_owned() != self._groups:
                    return 0
                await self._publish(different)
        self._made_s = started_s
        return len(different)

    def _now_owned(self) -> dict[int, int]:
        return owned_groups(self._partitions.terms, self._settings.topics.partitions, self._settings.state.item_groups)

    def _group_of(self, key: bytes) -> int:
        return partition_for(key, self._settings.state.item_groups)

    async def _follow_groups(self) -> None:
        groups = self._now_owned()
        if groups == self._groups:
            return
        gained = [group for group, term in groups.items() if self._groups.get(group) != term]
        kept = groups.keys() - set(gained)
        self._published = {key: packed for key, packed in self._published.items() if self._group_of(key) in kept}
        store = self._pipeline.state.store
        published = {group: await store.published_lists(group) for group in gained}
        for of_group in published.values():
            self._made_s = float("-inf")
            for field, packed in of_group.items():
                if field.startswith(FIELD) and field != FIELD + READ:
                    self._published[field.removeprefix(FIELD)] = packed
        if without := unread(gained, published, TOPIC):
            keys = await published_keys(self._settings, self._settings.topics.trending)
            for group in without:
                mine = {key: UNKNOWN for key in keys if self._group_of(key) == group and key not in self._published}
                self._published |= mine
                await store.note_published(group, {FIELD + READ: b"", **{FIELD + key: packed for key, packed in mine.items()}})
        self._groups = groups

    @property
    def _is_due(self) -> bool:
        if self._clock() - self._made_s >= self._settings.related.trending_every_s:
            return True
        catalogue = self._pipeline.state.engine.catalogue
        listed = [listed_numbers(packed) for packed in self._published.values()]
        numbers = np.unique(np.concatenate(listed)) if listed else np.zeros(0, np.int64)
        return not catalogue.recommendable_of(numbers[numbers < catalogue.n_items], int(self._wall_clock())).all()

    async def _make(self, now_ms: int) -> dict[bytes, tuple[bytes, bytes]]:
        """Return the record of each list of this worker, and what is remembered of it, by key."""
        state, related = self._pipeline.state, self._settings.related
        await state.item_cache.refresh(np.zeros(0, np.int64))  # popularity
        engine = state.engine
        listable = engine.catalogue.recommendable(max(state.item_cache.newest_s, now_ms // 1000))
        found = rising(
            engine.popularity, listable, now=related.trending_now, before=related.trending_before, least=related.trending_least
        )
        found = found.of(np.arange(min(len(found.numbers), MOST_RISING)))
        made = {}
        for name, best in by_value(found, engine.catalogue.labels[CATEGORY], related.size):
            record = Trending(scope=Scope.CATEGORY, name=name, generated_ts_ms=now_ms, items=self._places(best))
            key = key_of(record)
            if self._group_of(key) in self._groups and _may_be_key(key):
                made[key] = encode(record), packed_list(best.numbers, np.rint(np.log2(best.score + 1) * STEPS).astype(np.int64))
        return made

    def _places(self, best: Rising) -> tuple[TrendingItem, ...]:
        names = self._pipeline.state.numbering.names
        columns = zip(*(column.tolist() for column in (best.numbers, best.score, best.count, best.rise)), strict=True)
        return tuple(
            TrendingItem(rank=rank, item_id=names[number], score=round(score, 4), count=round(count, 4), rise=round(rise, 4))
            for rank, (number, score, count, rise) in enumerate(columns, 1)
        )

    def _differs(self, key: bytes, made: Mapping[bytes, tuple[bytes, bytes]]) -> bool:
        return key not in made or made[key][1] != self._published.get(key)

    async def _publish(self, lists: Mapping[bytes, tuple[bytes, bytes] | None]) -> None:
        """Note that what is published is not known, publish, and only then remember: what fails or dies half way is made again, whatever
        it is by then."""
        records: dict[int, list[tuple[bytes, bytes | None]]] = {}
        for key, made in lists.items():
            place = partition_for(key, self._settings.topics.partitions)
            records.setdefault(place, []).append((key, None if made is None else made[0]))
        await self._note(dict.fromkeys(lists, UNKNOWN))
        await ListPublisher(self._producer(), self._settings.topics.trending).publish(records)
        await self._note({key: None if made is None else made[1] for key, made in lists.items()})

    async def _note(self, lists: Mapping[bytes, bytes | None]) -> None:
        """Remember what is published under these keys, here and in the state; None is nothing."""
        noted: dict[int, dict[bytes, bytes | None]] = {}
        for key, packed in lists.items():
            noted.setdefault(self._group_of(key), {})[FIELD + key] = packed
        for group, published in noted.items():
            await self._pipeline.state.store.note_published(group, published)
        for key, packed in lists.items():
            if packed is None:
                self._published.pop(key, None)
            else:
                self._published[key] = packed


def _may_be_key(key: bytes) -> bool:
    """Return whether readers take this for a key: a category may be longer than an id."""
    try:
        decode_key(key)
    except Poison:
        return False
    return True
