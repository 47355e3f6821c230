"""Records of a compacted topic in a file, for a training process that reads no topic.

Each entry: length of the key and of the value (u32, little-endian), key, value. A removal has no value.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from workers.kafka.offsets import end_offsets_async, start_offsets_async
from workers.kafka.records import RangeReader
from workers.settings import Settings

READ_SILENCE_S = 30.0
_LENGTHS = struct.Struct("<II")


async def save_topic(settings: Settings, topic: str, path: Path) -> int:
    """Write all records of a topic to a file, those of one key in their order, and return their number. Raises Transient, Fatal."""
    ends, starts = await end_offsets_async(settings, [topic]), await start_offsets_async(settings, [topic])
    ends = {place: end for place, end in ends.items() if end > starts.get(place, 0)}
    path.write_bytes(b"")
    n_records = 0
    if ends:
        async with RangeReader(settings, {place: starts[place] for place in ends}, role="trainer", silence_s=READ_SILENCE_S) as reader:
            async for polled in reader.until(ends):
                entries = [(record.key, record.value or b"") for record in chain.from_iterable(polled.values()) if record.key is not None]
                await asyncio.to_thread(append_entries, path, entries)
                n_records += len(entries)
    return n_records


def append_entries(path: Path, entries: Sequence[tuple[bytes, bytes]]) -> None:
    """Write entries behind those of the file."""
    with path.open("ab") as file:
        for key, value in entries:
            file.write(_LENGTHS.pack(len(key), len(value)) + key + value)


def read_entries(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of a file, one after another."""
    with path.open("rb") as file:
        while len(lengths := file.read(_LENGTHS.size)) == _LENGTHS.size:
            n_key, n_value = _LENGTHS.unpack(lengths)
            yield file.read(n_key), file.read(n_value)
