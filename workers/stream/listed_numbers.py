"""Remembers what is published of lists of items: which items are on each, so that a change of one item finds the lists to make again.

Shapes: N item numbers, S lists, K places.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import xxhash
from numpy.typing import NDArray

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
NONE = -1
DIGEST_BYTES = 8


def packed_list(numbers: I64, figures: I64) -> bytes:
    """Return what is stored of a published list: a digest of its items and `figures` (K, …), then the item numbers, u32."""
    body = numbers.astype("<u4").tobytes()
    return xxhash.xxh3_64_digest(body + figures.astype("<i8").tobytes()) + body


def listed_numbers(packed: bytes) -> I64:
    """Return the items of a stored list (K,)."""
    return np.frombuffer(packed[DIGEST_BYTES:], "<u4").astype(np.int64)


class ListedNumbers:
    """The published lists of one topic by item number, those of the groups of this worker: 4 bytes a place and 24 a list."""

    def __init__(self, size: int) -> None:
        self._places: I32 = np.zeros((64, size), np.int32)
        """(S, K): number + 1 of each item, 0 for none."""
        self._digests = np.zeros((64, DIGEST_BYTES), np.uint8)
        self._owners: I64 = np.full(64, NONE, np.int64)
        self._slots: dict[int, int] = {}
        self._free = list(range(63, -1, -1))

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, number: int) -> bool:
        return number in self._slots

    def put(self, number: int, packed: bytes) -> None:
        """Remember the list of an item."""
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = self._take()
        listed = listed_numbers(packed)[: self._places.shape[1]]
        self._owners[slot], self._places[slot] = number, 0
        self._places[slot, : len(listed)] = listed + 1
        self._digests[slot] = np.frombuffer(packed[:DIGEST_BYTES], np.uint8)

    def drop(self, numbers: Iterable[int]) -> None:
        """Remember no list of these items."""
        for number in numbers:
            slot = self._slots.pop(number, None)
            if slot is not None:
                self._owners[slot], self._places[slot] = NONE, 0
                self._free.append(slot)

    def keep_groups(self, groups: Collection[int], item_groups: int) -> None:
        """Remember the lists of these item groups alone."""
        self.drop([number for number in self._slots if number % item_groups not in groups])

    def is_of(self, number: int, packed: bytes) -> bool:
        """Return whether this very list is remembered."""
        slot = self._slots.get(number)
        return slot is not None and self._digests[slot].tobytes() == packed[:DIGEST_BYTES]

    def holders(self, gone: Bools) -> list[int]:
        """Return the items whose list holds one that is `gone` (N,), ascending."""
        is_gone = np.zeros(max(int(self._places.max(initial=0)), len(gone)) + 1, np.bool_)
        is_gone[1 : len(gone) + 1] = gone
        return sorted(self._owners[np.flatnonzero(is_gone[self._places].any(axis=1))].tolist())

    def _take(self) -> int:
        if not self._free:
            held = len(self._owners)
            self._places = np.pad(self._places, ((0, held), (0, 0)))
            self._digests = np.pad(self._digests, ((0, held), (0, 0)))
            self._owners = np.pad(self._owners, (0, held), constant_values=NONE)
            self._free = list(range(2 * held - 1, held - 1, -1))
        return self._free.pop()
