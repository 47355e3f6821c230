"""A micro-batch: its records as columns, the events among them that count, and their users.

Shapes: N records, n events that could be read, h of them that count, u users of those.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from operator import add
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys.state.duplicates import DuplicateWindow, event_hashes
from recsys.state.event_weights import WeightTable, event_weights
from recsys.state.interactions import Interactions
from recsys.state.item_row import run_ends
from recsys.state.user_table import quantise_weights
from schemas.dead_letters import DeadLetter, make_dead_letter
from schemas.decoding import DecodedEvents, decode_events
from schemas.events import EventType
from workers.kafka.named import rows_of
from workers.kafka.placement import refuse_by_key
from workers.kafka.records import Record
from workers.lists.encoding import ListHead
from workers.settings import Settings

I64 = NDArray[np.int64]
T = TypeVar("T")


@dataclass(slots=True)
class OwnedPartition:
    """Last applied offset of an owned partition, and its window of duplicates."""

    topic_id: str
    last_applied_offset: int
    duplicates: DuplicateWindow


@dataclass(frozen=True, slots=True)
class Records:
    """A batch's records, partition after partition: the place, (N,), and the content of each."""

    partitions: NDArray[np.int32]
    source_offsets: I64
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    timestamps_ms: Sequence[int]

    @classmethod
    def of(cls, batch: Mapping[int, Sequence[Record]]) -> Records:
        columns = zip(*chain.from_iterable(batch.values()), strict=True)
        _, _, source_offsets, keys, values, timestamps_ms, _ = columns if any(batch.values()) else repeat((), 7)
        partitions = np.repeat(np.fromiter(batch, np.int32, len(batch)), [len(some) for some in batch.values()])
        return cls(partitions, np.array(source_offsets, np.int64), keys, values, timestamps_ms)


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """A batch whose records were validated, and how long that took."""

    batch: Mapping[int, Sequence[Record]]
    records: Records
    events: DecodedEvents
    seconds: float

    @classmethod
    def of(cls, batch: Mapping[int, Sequence[Record]], settings: Settings) -> DecodedBatch:
        """Validate records."""
        started = time.perf_counter()
        records = Records.of(batch)
        events = decode_events(
            list(zip(records.keys, records.values, strict=True)),
            record_ts_ms=records.timestamps_ms,
            future_skew_ms=settings.stream.future_skew_s * 1000,
            max_bytes=settings.stream.max_record_bytes,
        )
        refuse_by_key(events, records.keys, records.partitions, settings)
        return cls(batch, records, events, time.perf_counter() - started)

    @property
    def erased(self) -> dict[int, dict[str, int]]:
        """Return the users whom the batch erases, by partition, each with the offset of the last record that does."""
        found: dict[int, dict[str, int]] = {}
        for at, user_id in self.events.erasures:
            found.setdefault(int(self.records.partitions[at]), {})[user_id] = int(self.records.source_offsets[at])
        return found

    def parts(self, settings: Settings) -> list[DecodedBatch]:
        """Return the batch cut before each first event that follows an erasure of its user: in a part, a user who is erased does nothing
        afterwards."""
        if not self.events.erasures:
            return [self]
        users = dict(zip(self.events.index, self.events.user_ids, strict=True))
        erasures, start = dict(self.events.erasures), 0
        parts: list[dict[int, list[Record]]] = []
        for partition, records in self.batch.items():
            erased: set[str] = set()
            part = 0
            for at, record in enumerate(records, start):
                if users.get(at) in erased:
                    part, erased = part + 1, set()
                if at in erasures:
                    erased.add(erasures[at])
                if part == len(parts):
                    parts.append({})
                parts[part].setdefault(partition, []).append(record)
            start += len(records)
        return [self] if len(parts) == 1 else [DecodedBatch.of(part, settings) for part in parts]

    def times_ms(self, last: I64) -> dict[str, I64]:
        """Return the times of the events at these places, (u,), by whose clock: the producer's and Kafka's."""
        of_records = np.array(_at(self.events.index, last), np.int64)
        record_ms = np.array(_at(self.records.timestamps_ms, of_records), np.int64)
        return {"event": np.array(_at(self.events.event_ts_ms, last), np.int64), "record": record_ms[record_ms >= 0]}

    def dead_letters(self, settings: Settings, now_ms: int) -> list[DeadLetter]:
        """Return one dead letter for each record that was refused."""
        records = self.records
        return [
            make_dead_letter(
                poison,
                source_topic=settings.topics.events,
                source_partition=int(records.partitions[at]),
                source_offset=int(records.source_offsets[at]),
                source_timestamp_ms=records.timestamps_ms[at],
                key=records.keys[at],
                value=records.values[at],
                dead_letter_ts_ms=now_ms,
                with_payload=settings.stream.dead_letter_payload,
            )
            for at, poison in self.events.poisons
        ]


@dataclass(frozen=True, slots=True)
class BatchUsers:
    """The users of the events that count, in the order in which they come first: their keys in the engine, their newest event and its
    place among the events, (u,), and the user of each event, (h,)."""

    keys: list[str]
    heads: list[ListHead]
    last: I64
    of_events: I64

    def of_partition(self, partition: int) -> list[str]:
        """Return the ids of a partition's users."""
        return [head.user_id for head in self.heads if head.partition == partition]


@dataclass(frozen=True, slots=True)
class Admitted:
    """The events that could be read: for each its weight in units of 1/32 and where it came from, (n,). Which count: those of weight 0
    leave no trace, nor do duplicates, and old ones get their list again: `here` (h,), of which some are new, `is_new` (h,). The hashes of
    new ones by partition and chunk, and how many were duplicates."""

    events: DecodedEvents
    weights: NDArray[np.int8]
    partitions: NDArray[np.int32]
    source_offsets: I64
    here: I64
    is_new: NDArray[np.bool_]
    hashes: dict[int, dict[int, list[int]]]
    n_duplicates: int
    shown: I64
    """The new events that are impressions or weigh something, (s,), in order of arrival; none where impressions are not counted."""

    @property
    def newest_s(self) -> dict[int, int]:
        """Return the newest event time in seconds of each partition with an event that counts."""
        if not len(self.here):
            return {}
        partitions, times_ms = self.partitions[self.here], np.asarray(self.events.event_ts_ms, np.int64)[self.here]
        starts = np.concatenate(([0], run_ends(partitions)[:-1]))  # records lie partition after partition
        newest_s = np.maximum.reduceat(times_ms, starts) // 1000
        return dict(zip(partitions[starts].tolist(), newest_s.tolist(), strict=True))

    @property
    def new_item_ids(self) -> list[str]:
        """Return the items of the new events."""
        return self.item_ids_of(self.here[self.is_new])

    def item_ids_of(self, here: I64) -> list[str]:
        """Return the items of the events at these places."""
        return _at(self.events.item_ids, here)

    def users(self) -> BatchUsers:
        """Return the users of the events that count."""
        return self.users_of(self.here)

    def users_of(self, here: I64) -> BatchUsers:
        """Return the users of the events at these places, (h,)."""
        events = self.events
        keys = _user_keys(self.partitions[here], _at(events.user_ids, here))
        newest = dict(zip(keys, here.tolist(), strict=True))
        last = np.fromiter(newest.values(), np.int64, len(newest))
        where = self.partitions[last].tolist(), self.source_offsets[last].tolist()
        heads = rows_of(ListHead, _at(events.user_ids, last), *where, _at(events.event_ids, last))
        places = dict(zip(newest, range(len(newest)), strict=True))
        return BatchUsers(list(newest), heads, last, np.fromiter(map(places.__getitem__, keys), np.int64, len(keys)))

    def by_user(self, users: BatchUsers, numbers: Mapping[str, int], slot_of: Callable[[str], int]) -> tuple[Interactions, list[ListHead]]:
        """Return the new events as interactions, user after user, and the newest events of those users; all their items have numbers."""
        kept, user_of, item_ids = self.here[self.is_new], users.of_events[self.is_new], self.new_item_ids
        order = np.argsort(user_of, kind="stable")
        kept, user_of = kept[order], user_of[order]
        counts = np.bincount(user_of, minlength=len(users.keys))
        touched = np.flatnonzero(counts)
        times_ms = np.asarray(self.events.event_ts_ms, np.int64)
        interactions = Interactions(
            slots=np.array([slot_of(key) for key in _at(users.keys, touched)], np.int64),
            counts=counts[touched],
            items=np.fromiter(map(numbers.__getitem__, item_ids), np.uint32, len(item_ids))[order],
            times_s=(times_ms[kept] // 1000).astype(np.uint32),
            weights=self.weights[kept],
            types=np.asarray(self.events.types, np.int8)[kept],
            partitions=self.partitions[kept],
            source_offsets=self.source_offsets[kept],
        )
        return interactions, _at(users.heads, touched)


def admit(given: DecodedBatch, owned: Mapping[int, OwnedPartition], weights: WeightTable, *, with_shown: bool = False) -> Admitted:
    """Choose the events of a batch that count. New ones are remembered in their partition's window of duplicates. `with_shown` chooses
    impressions too."""
    events = given.events
    index = np.asarray(events.index, np.int64)
    partitions, source_offsets = given.records.partitions[index], given.records.source_offsets[index]
    units = quantise_weights(event_weights(np.asarray(events.types, np.int8), np.asarray(events.values, np.float64), weights))
    is_new, counts = np.zeros(len(index), np.bool_), np.ones(len(index), np.bool_)
    hashes: dict[int, dict[int, list[int]]] = {}
    start = 0
    for end in run_ends(partitions).tolist():
        of = owned[partition := int(partitions[start])]
        start += int(np.searchsorted(source_offsets[start:end], of.last_applied_offset, side="right"))
        if start < end:
            at, found = source_offsets[start:end].tolist(), event_hashes(events.user_ids[start:end], events.event_ids[start:end])
            admitted = of.duplicates.admit_all(at, found)
            is_new[start:end], counts[start:end] = True, admitted
            hashes[partition] = of.duplicates.by_chunk(at, found, admitted)
        start = end
    here = np.flatnonzero(counts & (units != 0))
    shown = np.zeros(0, np.int64)
    if with_shown:
        is_impression = np.asarray(events.types, np.int8) == EventType.IMPRESSION.code
        shown = np.flatnonzero(is_new & counts & ((units != 0) | is_impression))
    return Admitted(events, units, partitions, source_offsets, here, is_new[here], hashes, int((is_new & ~counts).sum()), shown)


def _at(column: Sequence[T], places: I64) -> list[T]:
    """Return the entries at these places. Places are distinct; if there are as many as entries, they ascend."""
    return list(column) if len(places) == len(column) else [column[place] for place in places.tolist()]


def _user_keys(partitions: NDArray[np.int32], user_ids: Sequence[str]) -> list[str]:
    """Return the users' keys in the engine: partition and id."""
    keys: list[str] = []
    start = 0
    for end in run_ends(partitions).tolist():
        keys += map(add, repeat(f"{partitions[start]}:"), user_ids[start:end])
        start = end
    return keys
