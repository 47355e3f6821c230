"""The catalogue in a file, for a training process that reads no topic: the newest record of each item, as it is on the topic.

Each entry: length of the key and of the value (u32, little-endian), key, value. Removed items are left out.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from recsys.catalogue.items import ItemContent
from schemas import Poison
from schemas.catalogue import Item
from schemas.decoding import decode_item
from workers.kafka.offsets import end_offsets_async, start_offsets_async
from workers.kafka.records import RangeReader
from workers.lists.item_content import content_of
from workers.settings import Settings

READ_SILENCE_S = 30.0
_LENGTHS = struct.Struct("<II")


async def save_catalogue(settings: Settings, path: Path) -> int:
    """Write the catalogue to a file, and return the number of its items. Raises Transient, Fatal."""
    topic = settings.topics.items
    ends, starts = await end_offsets_async(settings, [topic]), await start_offsets_async(settings, [topic])
    ends = {place: end for place, end in ends.items() if end > starts.get(place, 0)}
    newest: dict[bytes, bytes | None] = {}
    if ends:
        async with RangeReader(settings, {place: starts[place] for place in ends}, role="trainer", silence_s=READ_SILENCE_S) as reader:
            async for polled in reader.until(ends):
                for record in chain.from_iterable(polled.values()):
                    if record.key is not None:
                        newest[record.key] = record.value
    kept = [(key, value) for key, value in newest.items() if value is not None]
    await asyncio.to_thread(_write, path, kept)
    return len(kept)


def _write(path: Path, entries: Sequence[tuple[bytes, bytes]]) -> None:
    with path.open("wb") as file:
        for key, value in entries:
            file.write(_LENGTHS.pack(len(key), len(value)) + key + value)


def read_catalogue(path: Path, item_ids: Sequence[str]) -> dict[int, ItemContent]:
    """Return what is known of these items, by their position. Records that cannot be read are left out.

    All count as available: the catalogue does not say when an item was not.
    """
    position = {item_id: number for number, item_id in enumerate(item_ids)}
    items = read_items(path, position)
    return {position[item.item_id]: replace(content_of(item), available=True) for item in items}


def read_items(path: Path, wanted: Container[str] | None = None) -> Iterator[Item]:
    """Yield the items of the catalogue, or those whose ids are `wanted`. Records that cannot be read are left out."""
    content, at = path.read_bytes(), 0
    while at < len(content):
        n_key, n_value = _LENGTHS.unpack_from(content, at)
        at += _LENGTHS.size
        key, value = content[at : at + n_key], content[at + n_key : at + n_key + n_value]
        at += n_key + n_value
        if wanted is not None and key.decode(errors="replace") not in wanted:
            continue
        try:
            item = decode_item(value, key)
        except Poison:
            continue
        if item is not None:
            yield item
