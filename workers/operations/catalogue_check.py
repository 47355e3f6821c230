"""The catalogue in the state against the items topic: for each item the newest record of its partition that can be read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import xxhash
from pydantic import ValidationError

from schemas.catalogue import Item
from schemas.decoding import decode_item, decode_key
from schemas.errors import Poison
from workers.kafka.offsets import end_offsets_async, start_offsets_async
from workers.kafka.records import Place, RangeReader, Record
from workers.settings import Settings
from workers.state.item_content import stored_content
from workers.state.port import StateStore, StoredItem

RECORDS_AT_ONCE = 1_000
ITEMS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class _Newest:
    """The newest record of an item in one partition; `digest` is the hash of its content, None for a tombstone."""

    source_offset: int
    digest: int | None


@dataclass(slots=True)
class Catalogue:
    """Holds what the items topic says of each item, by item id and partition, from `starts` to `ends` by partition.

    Workers have applied what is before `applied`. What comes later may be missing in the state without being lost.
    """

    starts: dict[int, int]
    ends: dict[int, int]
    applied: Mapping[int, int]
    newest: dict[str, dict[int, _Newest]] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)
    """Items with a record that cannot be read: compaction may have deleted the good one before it, which the state still knows."""

    def take(self, record: Record) -> None:
        """Fold the next record of a partition; one that cannot be read changes nothing."""
        try:
            item_id = decode_key(record.key)
        except Poison:
            return
        try:
            item = decode_item(record.value, record.key)
        except Poison:
            self.unreadable.add(item_id)
            return
        found = _Newest(record.source_offset, None if item is None else _digest(stored_content(item)))
        self.newest.setdefault(item_id, {})[record.partition] = found

    def difference(self, item_id: str, stored: StoredItem | None) -> str | None:
        """Describe how a stored item differs from the topic, None if it does not."""
        catalogue = self.newest.get(item_id, {})
        if stored is None:
            late = {p: newest for p, newest in catalogue.items() if newest.source_offset < self.applied.get(p, 0)}
            return "the topic has a record of it, the state has none" if late else None
        if stored.source_offset >= self.ends.get(stored.partition, 0):
            return None  # newer than what was read
        if stored.content is not None and item_id in self.unreadable:
            return None
        newest = catalogue.get(stored.partition)
        if newest is None:
            gone = stored.content is not None and self.starts.get(stored.partition) == 0
            return "the state describes it, the topic has no record of it" if gone else None
        if newest.source_offset == stored.source_offset:
            return None if _says(stored.content, newest.digest) else _contradiction(stored, newest)
        if newest.source_offset < stored.source_offset:  # its tombstone was compacted away, or the topic was made again
            return None if stored.content is None else "the state describes it by a record that the topic has not got"
        return "the topic has a newer record of it" if newest.source_offset < self.applied.get(stored.partition, 0) else None


def _contradiction(stored: StoredItem, newest: _Newest) -> str:
    if stored.content is None:
        return "the state says that it was removed, its record describes it"
    return "the state describes it, its record removed it" if newest.digest is None else "it has another content than its record"


def _says(content: bytes | None, digest: int | None) -> bool:
    """Return whether stored content equals that of a record with this digest, also if another version of the workers wrote it."""
    if content is None or digest is None or _digest(content) == digest:
        return (content is None) == (digest is None)
    try:
        return _digest(stored_content(Item.model_validate_json(content))) == digest
    except ValidationError:
        return False


def _digest(content: bytes) -> int:
    return xxhash.xxh3_64_intdigest(content)


async def applied_offsets(store: StateStore, topic: str) -> dict[int, int]:
    """Up to which offset (exclusive) each partition of a low-rate topic is in the state; empty while workers read it from its start."""
    if not await store.catalogue_read():
        return {}
    noted = {place.rpartition("/")[::2]: at for place, at in (await store.catalogue_offsets()).items()}
    return {int(partition): at for (name, partition), at in noted.items() if name == topic}


async def read_catalogue(settings: Settings, applied: Mapping[int, int], *, whole: bool = True) -> Catalogue:
    """Fold the items topic, of which the state has `applied` what is before these offsets by partition; if not `whole`, only up to there.

    Raises Transient, Fatal when the topic is missing."""
    topic = settings.topics.items
    starts = await start_offsets_async(settings, [topic])
    ends = await end_offsets_async(settings, [topic]) if whole else {(topic, partition): end for partition, end in applied.items()}
    catalogue = Catalogue({p: at for (_, p), at in starts.items()}, {p: at for (_, p), at in ends.items()}, applied)
    filled: dict[Place, int] = {place: start for place, start in starts.items() if ends.get(place, 0) > start}
    if filled:
        async with RangeReader(settings, filled, max_records=RECORDS_AT_ONCE) as reader:
            async for found in reader.until(ends):
                for place, records in found.items():
                    for record in records:
                        if record.source_offset < ends[place]:
                            catalogue.take(record)
                await asyncio.sleep(0)
    return catalogue


async def catalogue_differences(store: StateStore, catalogue: Catalogue, names: Sequence[str]) -> tuple[int, list[tuple[str, str]]]:
    """Return the number of items compared, of the topic and of the state, and (item id, difference) of those that differ."""
    numbers = {item_id: number for number, item_id in enumerate(names)}
    n_compared, differences = 0, []
    for start in range(0, len(names), ITEMS_AT_ONCE):
        some = range(start, min(start + ITEMS_AT_ONCE, len(names)))
        for number, stored in zip(some, await store.read_stored_items(some), strict=True):
            item_id = names[number]
            n_compared += stored is not None or item_id in catalogue.newest
            if (line := catalogue.difference(item_id, stored)) is not None:
                differences.append((item_id, line))
    for item_id in catalogue.newest.keys() - numbers.keys():
        n_compared += 1
        if (line := catalogue.difference(item_id, None)) is not None:
            differences.append((item_id, line))
    return n_compared, differences
