"""Producer duplicates: the same event id at two offsets counts once, within a bounded window of the log.

The window of an offset is its chunk of the partition and the chunk before it (`state.duplicate_chunk` offsets each), so it depends on
the log alone. Ids are kept as 64-bit hashes of user and event id: with 65,536 in a window a false match has a chance below 1 in 10¹⁴.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xxhash


def event_hash(user_id: str, event_id: str) -> int:
    """64 bits of a user's event id."""
    return xxhash.xxh3_64_intdigest(f"{user_id}\0{event_id}".encode())


class DuplicateWindow:
    """The hashes of one partition's two newest chunks."""

    def __init__(self, chunk_offsets: int) -> None:
        self.chunk_offsets = chunk_offsets
        self._chunks: dict[int, set[int]] = {}

    def chunk(self, source_offset: int) -> int:
        """The chunk that an offset belongs to."""
        return source_offset // self.chunk_offsets

    def load(self, chunks: Mapping[int, bytes]) -> None:
        """Hold these chunks (packed u64) and nothing else."""
        self._chunks = {chunk: set(np.frombuffer(packed, "<u8").tolist()) for chunk, packed in chunks.items()}

    def admit(self, source_offset: int, hashed: int) -> bool:
        """Remember the event; False when its id is in the window already."""
        chunk = source_offset // self.chunk_offsets
        here = self._chunks.get(chunk)
        if here is None:
            here = self._chunks[chunk] = set()
            for old in [held for held in self._chunks if held < chunk - 1]:
                del self._chunks[old]
        if hashed in here or hashed in self._chunks.get(chunk - 1, ()):
            return False
        here.add(hashed)
        return True
