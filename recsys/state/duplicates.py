"""Define when two records are the same event: it counts once, for the state and for the trainer's event log alike.

Two records are the same event if they have one user id and one event id, lie in one partition, and the later one is within the window of
the earlier one. The window of an offset is its chunk of the partition and the chunk before it (`state.duplicate_chunk` offsets each), so
it depends on the log alone, not on how it was read. Only records that count open a window: a repeat does not prolong it, and an event that
is sent again after its window counts again. The repeat of an event in another partition is another event.

Ids are compared as 64-bit hashes of user and event id: with 65,536 in a window a false match has a chance below 1 in 10¹⁴.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress

import numpy as np
import xxhash


def event_hash(user_id: str, event_id: str) -> int:
    """Return 64 bits of a user's event id."""
    return xxhash.xxh3_64_intdigest(f"{user_id}\0{event_id}".encode())


def event_hashes(user_ids: Iterable[str], event_ids: Iterable[str]) -> list[int]:
    """Return the `event_hash` of each pair."""
    texts = map("\0".join, zip(user_ids, event_ids, strict=True))
    return list(map(xxhash.xxh3_64_intdigest, map(str.encode, texts)))


class DuplicateWindow:
    """Holds the hashes of one partition's two newest chunks."""

    def __init__(self, chunk_offsets: int) -> None:
        self.chunk_offsets = chunk_offsets
        self._chunks: dict[int, set[int]] = {}

    def chunk(self, source_offset: int) -> int:
        """Return the chunk that an offset belongs to."""
        return source_offset // self.chunk_offsets

    def load(self, chunks: Mapping[int, bytes]) -> None:
        """Hold these chunks (packed u64) and nothing else."""
        self._chunks = {chunk: set(np.frombuffer(packed, "<u8").tolist()) for chunk, packed in chunks.items()}

    def admit(self, source_offset: int, hashed: int) -> bool:
        """Remember the event, and return True; False when its id is in the window already."""
        chunk = source_offset // self.chunk_offsets
        here, before = self._reach(chunk)
        if hashed in here or hashed in before:
            return False
        here.add(hashed)
        return True

    def admit_all(self, source_offsets: Sequence[int], hashes: Sequence[int]) -> list[bool]:
        """Return `admit` of each event, in order; offsets ascending. Chunks without a duplicate are found by comparing sets."""
        admitted: list[bool] = []
        for chunk, start, end in self._cuts(source_offsets):
            here, before = self._reach(chunk)
            some = set(hashes[start:end])
            if len(some) == end - start and here.isdisjoint(some) and before.isdisjoint(some):
                here |= some
                admitted += [True] * (end - start)
            else:
                admitted += [self.admit(at, hashed) for at, hashed in zip(source_offsets[start:end], hashes[start:end], strict=True)]
        return admitted

    def by_chunk(self, source_offsets: Sequence[int], hashes: Sequence[int], admitted: Sequence[bool]) -> dict[int, list[int]]:
        """Return the admitted hashes of each chunk; offsets ascending."""
        kept = ((chunk, list(compress(hashes[start:end], admitted[start:end]))) for chunk, start, end in self._cuts(source_offsets))
        return {chunk: some for chunk, some in kept if some}

    def _cuts(self, source_offsets: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        """Yield each chunk that the offsets, ascending, lie in, and where in them it starts and ends."""
        start = 0
        while start < len(source_offsets):
            chunk = self.chunk(source_offsets[start])
            end = bisect_left(source_offsets, (chunk + 1) * self.chunk_offsets, start)
            yield chunk, start, end
            start = end

    def _reach(self, chunk: int) -> tuple[set[int], set[int]]:
        """Return this chunk's hashes and those of the one before; drop older ones."""
        here = self._chunks.get(chunk)
        if here is None:
            here = self._chunks[chunk] = set()
            for old in [held for held in self._chunks if held < chunk - 1]:
                del self._chunks[old]
        return here, self._chunks.get(chunk - 1, _EMPTY)


_EMPTY: set[int] = set()
