"""Holds the newest published list of each key in memory, compressed, within a bound."""

from __future__ import annotations

import re
from collections.abc import Mapping

import orjson
from cramjam import lz4

from schemas.decoding import decode_recommendations
from schemas.errors import Poison
from schemas.unreadable import Unreadable

Version = tuple[int, int]
"""Of two lists of a key the larger one is the newer: source offset and time made, as `schemas.lists.Trigger` says."""
ENTRY_BYTES = 260
"""Memory of an entry beside its key and its list."""
_HEAD = re.compile(
    rb'\{"schema_version":[12],"list_id":"\d+-(\d{1,19})-[0-9a-f]{1,16}","user_id":"([^"\\]{1,128})","generated_ts_ms":(\d{1,13}),'
)
"""How records of `workers.lists.encoding` begin; others are decoded in full."""


class HeldLists:
    """Newest list by key. Dropped ones are those that were read longest ago."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._held: dict[bytes, tuple[Version, bytes]] = {}
        self.n_bytes = 0
        self.n_dropped = 0
        """Lists that were dropped for want of memory, since the last `clear`."""

    def __len__(self) -> int:
        return len(self._held)

    def clear(self) -> None:
        """Hold nothing."""
        self._held.clear()
        self.n_bytes = self.n_dropped = 0

    def put(self, key: bytes | None, value: bytes | Unreadable | None) -> None:
        """Take in a record of the topic; None removes the list of a key. A record that is no list changes nothing."""
        if not key or isinstance(value, Unreadable):
            return
        if value is None:
            self._remove(key)
            return
        version = version_of(key, value)
        if version is None:
            return
        held = self._held.get(key)
        if held is not None and version < held[0]:
            return  # the late list of a worker that no longer owns the partition
        self._remove(key)
        packed = bytes(lz4.compress_block(value))
        self._held[key] = version, packed
        self.n_bytes += _size(key, packed)
        while self.n_bytes > self._most_bytes and len(self._held) > 1:
            self._remove(next(iter(self._held)))
            self.n_dropped += 1

    def get(self, key: str) -> bytes | None:
        """Return the record of a key, None if there is none here."""
        encoded = key.encode()
        found = self._held.pop(encoded, None)
        if found is None:
            return None
        self._held[encoded] = found
        return bytes(lz4.decompress_block(found[1]))

    def _remove(self, key: bytes) -> None:
        found = self._held.pop(key, None)
        if found is not None:
            self.n_bytes -= _size(key, found[1])


def version_of(key: bytes, value: bytes) -> Version | None:
    """Return the version of a list; None for what is no list of that key."""
    head = _HEAD.match(value)
    if head is not None and head[2] == key and value.endswith(b"]}"):
        return int(head[1]), int(head[3])
    try:
        made = decode_recommendations(value, key)
    except Poison:
        return None
    return None if made is None else (made.trigger.source_offset, made.generated_ts_ms)


def parsed(record: bytes) -> Mapping[str, object]:
    """Return a held record as JSON values."""
    found: dict[str, object] = orjson.loads(record)
    return found


def _size(key: bytes, packed: bytes) -> int:
    return len(key) + len(packed) + ENTRY_BYTES
