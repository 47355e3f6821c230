"""Publishes similar items and what is bought together, for the items of this worker's groups, as they change.

    who is gone or back ▸ queues of changed items ▸ all others in turn ▸ make ▸ publish ▸ remember ▸ take out of the queue

An item group belongs to the worker that owns the events partition `group % partitions`, so of several workers one publishes a key. What a
crash interrupts is still in its queue. Lists that nothing asks for, as those of before the setting was on, come with a round of all items.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

import numpy as np
from aiokafka import AIOKafkaProducer
from numpy.typing import NDArray

from recsys.state.related import SIMILAR
from workers.kafka.batch_publisher import ListPublisher
from workers.kafka.partitioner import partition_for
from workers.settings import Settings
from workers.stream.item_lists import ItemLists, MadeList
from workers.stream.listed_numbers import ListedNumbers
from workers.stream.partitions import Partitions
from workers.stream.pipeline import Pipeline
from workers.stream.published_topic import READ, UNKNOWN, published_keys, unread
from workers.stream.related_queue import Queue, read_queues, remove

Bools = NDArray[np.bool_]
MADE_AT_ONCE = 8
"""Lists made in one turn of the state, so that events wait some milliseconds at most."""
MOST_LOOK_S = 2.0
"""Work is allowed for so many seconds at most in one look: what a worker did not do while it was busy is not made up for at once."""


def owned_groups(terms: Mapping[int, int], n_partitions: int, item_groups: int) -> dict[int, int]:
    """Return the item groups of a worker that owns these events partitions, each with the term of its partition."""
    return {group: terms[group % n_partitions] for group in range(item_groups) if group % n_partitions in terms}


class RelatedLists:
    """Keeps one topic of lists of items up to date."""

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        partitions: Partitions,
        topic: str,
        *,
        producer: Callable[[], AIOKafkaProducer],
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`topic` is `SIMILAR` or `TOGETHER`."""
        self._settings, self._pipeline, self._partitions, self._topic = settings, pipeline, partitions, topic
        self._name = settings.topics.similar if topic == SIMILAR else settings.topics.bought_together
        self._producer, self._clock, self._wall_clock = producer, clock, wall_clock
        self._start_over()
        self._looked_s = clock()

    def _start_over(self) -> None:
        self._resets = self._pipeline.state.resets
        self._lists = ItemLists(self._settings, self._pipeline.state)
        self._listed = ListedNumbers(self._settings.related.size)
        self._groups: dict[int, int] = {}
        self._listable: Bools = np.zeros(0, np.bool_)
        self._due: dict[int, None] = {}
        """Items whose lists are to be made again because of the catalogue."""
        self._back: set[int] = set()
        """Those of them that may be listed since a moment ago."""
        self._next, self._began_s = 0, float("-inf")
        """Where the round of all items is, and when it began."""

    async def look(self) -> int:
        """Make some lists again and publish those that are different; return how many. Raises Transient, Fatal, Fenced."""
        now_s = self._clock()
        budget = max(1, round(self._settings.related.per_second * min(now_s - self._looked_s, MOST_LOOK_S)))
        self._looked_s = now_s
        if self._pipeline.state.resets != self._resets:
            self._start_over()
        await self._follow_groups()
        if not self._groups:
            return 0
        self._follow_catalogue()
        due = list(islice(self._due, budget))
        queues = await read_queues(self._pipeline.state.store, self._topic, list(self._groups))
        queued = _first(queues, budget - len(due))
        others, then = self._others(budget - len(due) - len(queued), {*due, *queued})
        chosen, n_published = list(dict.fromkeys((*due, *queued, *others))), 0
        for start in range(0, len(chosen), MADE_AT_ONCE):
            n_refreshed = await self._refresh(chosen[start : start + MADE_AT_ONCE])
            if n_refreshed is None:
                return n_published  # what was chosen is still due, in its queue, or before the next one
            n_published += n_refreshed
        for number in due:
            self._due.pop(number, None)
        self._next = then
        for queue in queues:
            if done := queued.keys() & set(queue.numbers):
                await remove(self._pipeline.state.store, queue, done)
        return n_published

    async def _follow_groups(self) -> None:
        """Learn what is published of groups that are new to this worker or were away for a while, and forget those of others."""
        settings, store = self._settings, self._pipeline.state.store
        groups = self._now_owned()
        if groups == self._groups:
            return
        gained = [group for group, term in groups.items() if self._groups.get(group) != term]
        self._groups = {group: term for group, term in self._groups.items() if group not in gained and group in groups}
        self._listed.keep_groups(self._groups, settings.state.item_groups)
        if gained:
            self._next, self._began_s = 0, self._clock()
            self._listable = self._listable[:0]  # lists that hold what is gone by now are looked for in all of them
        published = {group: await store.published_lists(group) for group in gained}
        for of_group in published.values():
            for field, packed in of_group.items():
                topic, _, number = field.decode().partition(":")
                if topic == self._topic and number.isdigit():
                    self._listed.put(int(number), packed)
                    if packed == UNKNOWN:
                        self._due[int(number)] = None
        if without := unread(gained, published, self._topic):
            await self._read_back(without)
        self._groups = groups

    async def _read_back(self, groups: Sequence[int]) -> None:
        """Learn from the topic which items of these groups have a list, and remove lists of items that this state does not know."""
        state, n_groups = self._pipeline.state, self._settings.state.item_groups
        keys = await published_keys(self._settings, self._name)
        async with state.turn():
            await state.learn_new_items()
        noted: dict[int, dict[bytes, bytes | None]] = {group: {f"{self._topic}:".encode() + READ: b""} for group in groups}
        strangers = []
        for key in sorted(keys):
            number = state.numbering.numbers.get(key.decode(errors="replace"))
            group = partition_for(key, n_groups) if number is None else number % n_groups
            if group in noted and number is None:
                strangers.append(key)
            elif group in noted and number is not None and number not in self._listed:
                noted[group][f"{self._topic}:{number}".encode()] = UNKNOWN
                self._listed.put(number, UNKNOWN)
                self._due[number] = None
        await self._send((key, None) for key in strangers)
        for group, lists in noted.items():
            await state.store.note_published(group, lists)

    def _follow_catalogue(self) -> None:
        """Note the lists that hold an item which is gone since the last look, and the items that are gone or back."""
        state = self._pipeline.state
        listable = state.engine.catalogue.recommendable(max(state.item_cache.newest_s, int(self._wall_clock())))
        before = np.zeros(len(listable), np.bool_)
        before[: len(self._listable)] = self._listable[: len(listable)]
        is_first, gone = not len(self._listable), before & ~listable
        changed = np.zeros(0, np.int64) if is_first else np.flatnonzero(before != listable)
        if is_first:
            gone = ~listable
        if gone.any():
            self._due.update(dict.fromkeys(self._listed.holders(gone)))
        self._due.update(dict.fromkeys(number for number in changed.tolist() if self._is_own(number)))
        if (back := np.flatnonzero(listable & ~before)).size and not is_first:
            self._back.update(back.tolist())
            self._due.update(dict.fromkeys(back.tolist()))  # of other groups too: their lists name items that should list them
        self._listable = listable

    def _is_own(self, number: int) -> bool:
        return number % self._settings.state.item_groups in self._groups

    def _now_owned(self) -> dict[int, int]:
        return owned_groups(self._partitions.terms, self._settings.topics.partitions, self._settings.state.item_groups)

    def _others(self, budget: int, taken: set[int]) -> tuple[list[int], int]:
        """Return the next items of the round of all items, and where it goes on. When it is over, the next one begins `related.again_s`
        after it began."""
        n_items, chosen = self._pipeline.state.engine.n_items, list[int]()
        if self._next >= n_items and self._clock() - self._began_s >= self._settings.related.again_s:
            self._next, self._began_s = 0, self._clock()
        at = self._next
        while len(chosen) < budget and at < n_items:
            if self._is_own(at) and at not in taken:
                chosen.append(at)
            at += 1
        return chosen, at

    async def _refresh(self, numbers: Sequence[int]) -> int | None:
        """Make the lists of these items, publish those that are different, and remember them; return how many those are. None: items have
        other numbers by now, or other workers own them, and nothing is published."""
        pipeline = self._pipeline
        async with pipeline.state.turn():
            if pipeline.state.resets != self._resets or self._now_owned() != self._groups:
                return None
            made = await self._lists.make(self._topic, numbers, self._listable, int(self._wall_clock() * 1000))
        for number in self._back.intersection(made):  # so may it be on the lists of those that its own list names
            self._due.update(dict.fromkeys(other for other in made[number].listed if self._is_own(other)))
        self._back.difference_update(made)
        different = {number: one for number, one in made.items() if self._is_own(number) and self._differs(number, one)}
        if different:
            async with self._partitions.handing_over:  # a list that came after the next owner's would stay
                if self._now_owned() != self._groups:
                    return None
                await self._publish(different)
        return len(different)

    def _differs(self, number: int, made: MadeList) -> bool:
        if made.record is None:
            return number in self._listed
        return not self._listed.is_of(number, made.packed)

    async def _publish(self, lists: dict[int, MadeList]) -> None:
        """Note that what is published is not known, publish, and only then remember: what fails or dies half way is made again, whatever
        it is by then."""
        await self._note(dict.fromkeys(lists, UNKNOWN))
        await self._send((one.key, one.record) for one in lists.values())
        await self._note({number: None if one.record is None else one.packed for number, one in lists.items()})

    async def _note(self, lists: Mapping[int, bytes | None]) -> None:
        """Remember what is published of these items, here and in the state; None is nothing."""
        noted: dict[int, dict[bytes, bytes | None]] = {}
        for number, packed in lists.items():
            noted.setdefault(number % self._settings.state.item_groups, {})[f"{self._topic}:{number}".encode()] = packed
        for group, published in noted.items():
            await self._pipeline.state.store.note_published(group, published)
        for number, packed in lists.items():
            if packed is None:
                self._listed.drop([number])
            else:
                self._listed.put(number, packed)

    async def _send(self, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        placed: dict[int, list[tuple[bytes, bytes | None]]] = {}
        for key, record in records:
            placed.setdefault(partition_for(key, self._settings.topics.partitions), []).append((key, record))
        if placed:
            await ListPublisher(self._producer(), self._name).publish(placed)


def _first(queues: Sequence[Queue], budget: int) -> dict[int, None]:
    """Return the first items of all queues, taking turns, as many as the budget allows."""
    chosen: dict[int, None] = {}
    longest = max((len(queue.numbers) for queue in queues), default=0)
    for place in range(longest):
        for queue in queues:
            if len(chosen) >= budget:
                return chosen
            if place < len(queue.numbers):
                chosen[queue.numbers[place]] = None
    return chosen
