"""Reads from a topic which lists are published, where the state does not say: it is new, was lost, or was built again from the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from workers.kafka.offsets import end_offsets_async, start_offsets_async
from workers.kafka.records import RangeReader
from workers.settings import Settings
from workers.stream.listed_numbers import DIGEST_BYTES

READ_AT_ONCE = 500
READ = b"read"
"""Field, after a topic's name, that says that a group's published lists are known."""
UNKNOWN = bytes(DIGEST_BYTES)
"""Stands for a published list whose items are not known: any other list differs from it, and so does none. It is noted before a list is
sent, because nobody knows whether one arrived whose sender had no answer, or died."""


def unread(groups: Iterable[int], published: Mapping[int, Mapping[bytes, bytes]], topic: str) -> list[int]:
    """Return the groups of which the state does not say what is published on a topic."""
    return [group for group in groups if topic.encode() + b":" + READ not in published[group]]


async def published_keys(settings: Settings, name: str) -> set[bytes]:
    """Return the keys of a compacted topic that have a list. Raises Transient, Fatal."""
    firsts, ends = await start_offsets_async(settings, [name]), await end_offsets_async(settings, [name])
    wanted = {place: end for place, end in ends.items() if end > firsts[place]}
    keys: set[bytes] = set()
    if wanted:
        reader = RangeReader(settings, {place: firsts[place] for place in wanted}, max_records=READ_AT_ONCE, role="stream")
        async with reader:
            async for polled in reader.until(wanted):
                for record in (record for records in polled.values() for record in records if record.key):
                    assert record.key is not None
                    (keys.discard if record.value is None else keys.add)(record.key)
    return keys
