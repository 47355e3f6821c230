"""Tracks how far this worker is in each partition that its consumer group gave to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError

from workers.errors import Transient
from workers.kafka.bounded_reading import GAPS, stable_end
from workers.kafka.records import Record

SHOWN = 5
"""Partitions that a message names at most."""


@dataclass(slots=True)
class PartitionState:
    """One partition. It is assigned from when the group gives it until it is owned: until its watermark is read and its log is sought."""

    is_assigned: bool = False
    is_owned: bool = False
    next_offset: int | None = None
    """Offset expected next: all before it is applied, or lies before the start. None while the partition is not owned."""
    sought_offset: int | None = None
    """Where a hole in the log made the consumer seek back to; a hole that is still there then is the log's own."""
    applying: tuple[int, int] | None = None
    """First and last offset of the batch that is being applied."""
    uncommitted_offset: int | None = None
    """Next offset after what is published, until it is committed."""
    has_deferred_lists: bool = False
    """Users of the partition may wait for a deferred list."""


class Partitions:
    """The partitions of one topic that the group gave to this worker."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._states: dict[int, PartitionState] = {}
        self._terms: dict[int, int] = {}
        self.handing_over = asyncio.Lock()
        """Held while a partition is let go, and while what its owner alone publishes without an event is on its way."""

    def __getitem__(self, partition: int) -> PartitionState:
        return self._states[partition]

    def __contains__(self, partition: int) -> bool:
        return partition in self._states

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._states))

    @property
    def assigned(self) -> list[int]:
        """Return the partitions that the group gave and that are not owned yet."""
        return [partition for partition in self if self._states[partition].is_assigned]

    @property
    def owned(self) -> list[int]:
        """Return the partitions whose events this worker applies."""
        return [partition for partition in self if self.owns(partition)]

    @property
    def terms(self) -> dict[int, int]:
        """Return of each owned partition how many times this worker has come to own it. With another term, another worker may have owned
        it since."""
        return {partition: self._terms[partition] for partition in self.owned}

    def owns(self, partition: int) -> bool:
        """Return whether this worker applies the partition's events."""
        return partition in self._states and self._states[partition].is_owned

    def take(self, partitions: Iterable[int]) -> None:
        """Note that the group gives these partitions. They are owned in the next round."""
        for partition in partitions:
            self._states.setdefault(partition, PartitionState()).is_assigned = True

    def withdraw(self, partitions: Iterable[int]) -> None:
        """Note that the group takes these partitions away. Those that are owned stay so until their last batch is delivered."""
        for partition in partitions:
            if partition in self._states:
                self._states[partition].is_assigned = False

    def own(self, partition: int, next_offset: int, *, has_deferred_lists: bool) -> None:
        """Own an assigned partition from this offset on."""
        state = self._states[partition]
        state.is_assigned, state.is_owned = False, True
        self._terms[partition] = self._terms.get(partition, 0) + 1
        state.next_offset, state.sought_offset = next_offset, None
        state.has_deferred_lists |= has_deferred_lists

    def disown(self, partitions: Iterable[int]) -> None:
        """Forget these partitions."""
        for partition in partitions:
            self._states.pop(partition, None)

    def start_over(self, assigned: Iterable[int]) -> None:
        """Own nothing, and have these partitions owned again in the next round: from their commits and watermarks on."""
        kept = {partition: self._states.get(partition, PartitionState()) for partition in assigned}
        self._states = {
            partition: PartitionState(is_assigned=True, has_deferred_lists=state.has_deferred_lists) for partition, state in kept.items()
        }

    def contiguous(self, polled: Mapping[int, list[Record]], seek: Callable[[int, int], None]) -> dict[int, list[Record]]:
        """Return the polled records of owned partitions that continue where the last batch ended.

        A poll may still hold records from before a seek. A hole that the fetcher has read over, or that stays after seeking back once, is
        the log's own (transactions, retention, compaction); before any other hole the partition is sought back, and left out.
        Raises Transient when the log went back.
        """
        batch: dict[int, list[Record]] = {}
        for partition, records in polled.items():
            state = self._states.get(partition)
            if state is None or not state.is_owned or state.next_offset is None:
                continue
            expected = state.next_offset
            if records[-1].source_offset < expected:
                raise Transient(f"partition {partition}: the log went back: looking at it again")
            kept = records if records[0].source_offset >= expected else [record for record in records if record.source_offset >= expected]
            first = kept[0].source_offset
            is_hole = first > expected and GAPS.start_of((self._topic, partition), first) > expected
            if is_hole and state.sought_offset != expected:
                state.sought_offset = expected
                seek(partition, expected)
                continue
            batch[partition] = kept
        return batch

    def begin(self, batch: Mapping[int, Sequence[Record]]) -> None:
        """Note that these records are being applied."""
        for partition, records in batch.items():
            self._states[partition].applying = records[0].source_offset, records[-1].source_offset

    def end(self) -> None:
        """Note that nothing is being applied."""
        for state in self._states.values():
            state.applying = None

    def describe_applying(self) -> str:
        """Return where the events stand still while a batch fails; empty while none is being applied."""
        found = [(partition, state.applying) for partition, state in sorted(self._states.items()) if state.applying is not None]
        shown = [f"partition {partition}, offsets {first} to {last}" for partition, (first, last) in found[:SHOWN]]
        return f"not applied: {'; '.join(shown)}{' and more' if len(found) > SHOWN else ''}" if shown else ""

    @property
    def next_offsets(self) -> dict[int, int]:
        """Return the offsets expected next of the owned partitions."""
        return {partition: state.next_offset for partition, state in self._states.items() if state.next_offset is not None}

    def note_applied(self, next_offsets: Mapping[int, int]) -> None:
        """Expect these offsets next."""
        for partition, next_offset in next_offsets.items():
            if partition in self._states:
                self._states[partition].next_offset = next_offset

    def note_published(self, next_offsets: Mapping[int, int]) -> None:
        """Note that all before these offsets is published, so that it can be committed."""
        for partition, next_offset in next_offsets.items():
            if partition in self._states:
                self._states[partition].uncommitted_offset = next_offset

    def take_uncommitted(self) -> dict[int, int]:
        """Return the next offsets of what is published and not committed, and count them as committed."""
        taken = {}
        for partition, state in self._states.items():
            if state.uncommitted_offset is not None:
                taken[partition], state.uncommitted_offset = state.uncommitted_offset, None
        return taken

    def note_deferred(self, partitions: Iterable[int]) -> None:
        """Note that users of these partitions wait for a list."""
        for partition in partitions:
            if partition in self._states:
                self._states[partition].has_deferred_lists = True

    @property
    def with_deferred_lists(self) -> list[int]:
        """Return the owned partitions in which users may wait for a list."""
        return [partition for partition, state in self._states.items() if state.is_owned and state.has_deferred_lists]

    def lag(self, consumer: AIOKafkaConsumer) -> dict[int, int]:
        """Return how many offsets each owned partition is behind its end."""
        lag = {}
        for partition, expected in self.next_offsets.items():
            with contextlib.suppress(IllegalStateError, AssertionError):  # the group has taken it away a moment ago
                lag[partition] = max(0, stable_end(consumer, TopicPartition(self._topic, partition)) - expected)
        return lag

    async def pass_gaps(self, consumer: AIOKafkaConsumer) -> None:
        """Count the end of a log as applied where it holds no records: markers of transactions, or what was aborted."""
        for partition, expected in self.next_offsets.items():
            with contextlib.suppress(IllegalStateError, AssertionError):  # the group has taken it away a moment ago
                at = TopicPartition(self._topic, partition)
                if stable_end(consumer, at) <= expected:
                    continue
                position = await consumer.position(at)
                if position > expected and GAPS.start_of((self._topic, partition), position) <= expected:
                    self.note_applied({partition: position})
                    self.note_published({partition: position})
