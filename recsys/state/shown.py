"""Counts how often each item was shown to a user since the user last chose it.

An *impression* of an item adds one to its count. A *choice*, any other event that counts, starts the count again. Events are taken in
order of arrival; their times decide:

* An impression counts unless the item was chosen at that second or later.
* A choice before the last impression leaves a count of at most 1: that impression came after it.
* A user has at most N entries, those with the newest event (impression or choice). Of equally old ones the first to come leaves first.
* A count stops at 255.

Shapes: U users, n events, N entries, C slots of a user table.

A packed row is the layout (u8, 1) and entries of 13 bytes, oldest first, little-endian: item u32, count u8, second of the last impression
u32 (0: none), second of the last choice u32 (0: none).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.errors import LayoutError, ShapeError
from recsys.state import shown_kernel
from recsys.state.shown_kernel import MOST_SHOWN, Places

I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
Entries = NDArray[np.void]

SHOWN_LAYOUT = 1
ENTRY = np.dtype([("item", "<u4"), ("count", "u1"), ("shown_s", "<u4"), ("chosen_s", "<u4")])
_HEAD = bytes((SHOWN_LAYOUT,))


@dataclass(frozen=True, slots=True)
class ShownEvents:
    """Impressions and choices of a batch, user after user, in order of arrival within a user.

    Shapes: `slots` and `counts` (U,) say which row of the user table and how many events each user has; `items`, `times_s` (seconds) and
    `is_shown` (an impression, else a choice) are (n,) with n = sum of counts."""

    slots: I64
    counts: I64
    items: U32
    times_s: U32
    is_shown: NDArray[np.bool_]

    def __post_init__(self) -> None:
        n = len(self.items)
        if len(self.slots) != len(self.counts) or int(self.counts.sum()) != n or len(self.times_s) != n or len(self.is_shown) != n:
            raise ShapeError(f"counts of {len(self.counts)} users must sum to the {n} events, which need a time and a kind each")


class ShownTable:
    """The entries of many users as arrays, by the slots of a user table."""

    def __init__(self, width: int, capacity: int) -> None:
        """Hold at most `width` entries for each of `capacity` users."""
        self.width = width
        self.places = _no_places(capacity, width)

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` users."""
        held, more = self.places, _no_places(capacity - len(self.places.lengths), self.width)
        self.places = Places(
            np.concatenate((held.items, more.items)),
            np.concatenate((held.counts, more.counts)),
            np.concatenate((held.shown_s, more.shown_s)),
            np.concatenate((held.chosen_s, more.chosen_s)),
            np.concatenate((held.lengths, more.lengths)),
        )

    def load(self, slots: I64, rows: Entries, lengths: I64) -> None:
        """Hold these entries, `lengths` (U,) of each user in `slots` (U,): the newest that there is room for."""
        places = self.places
        kept = np.minimum(lengths, self.width)
        places.lengths[slots] = kept
        within = np.arange(int(kept.sum())) - np.repeat(np.cumsum(kept) - kept, kept)
        source = np.repeat(np.cumsum(lengths) - kept, kept) + within
        at = np.repeat(slots, kept), within
        places.items[at], places.counts[at] = rows["item"][source], rows["count"][source]
        places.shown_s[at], places.chosen_s[at] = rows["shown_s"][source], rows["chosen_s"][source]

    def learn(self, events: ShownEvents, times: int = MOST_SHOWN + 1, rest_s: int = 0) -> NDArray[np.bool_]:
        """Apply a batch; return which of its users (U,) have an item that was shown `times` times by then and was not before, or not within
        `rest_s`."""
        is_reached = np.zeros(len(events.slots), np.bool_)
        columns = events.items, events.times_s, events.is_shown
        shown_kernel.fold(self.places, events.slots, events.counts, *columns, times, rest_s, is_reached)
        return is_reached

    def highest_item(self, slots: I64) -> int:
        """Return the highest item number in the entries of these slots (U,), 0 without any."""
        used = np.arange(self.width)[None, :] < self.places.lengths[slots][:, None]
        return int(self.places.items[slots].max(initial=0, where=used))

    def pack(self, slots: I64) -> list[bytes]:
        """Return the packed rows of these slots (U,)."""
        places, lengths = self.places, self.places.lengths[slots].astype(np.int64)
        used = np.arange(self.width)[None, :] < lengths[:, None]
        entries = np.empty(int(lengths.sum()), ENTRY)
        entries["item"], entries["count"] = places.items[slots][used], places.counts[slots][used]
        entries["shown_s"], entries["chosen_s"] = places.shown_s[slots][used], places.chosen_s[slots][used]
        packed, ends = entries.tobytes(), (ENTRY.itemsize * np.cumsum(lengths)).tolist()
        return [_HEAD + packed[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def of(self, slots: I64) -> Places:
        """Return copies of the entries of these slots (U, N); unused places hold 0 but the item that was there last."""
        held = self.places
        return Places(held.items[slots], held.counts[slots], held.shown_s[slots], held.chosen_s[slots], held.lengths[slots])


def unpack_shown(rows: Sequence[bytes | None]) -> tuple[Entries, I64]:
    """Return the entries of packed rows, one row after another, and how many each has, (U,); None is a user without any.

    Raises LayoutError on a row that is torn or of another layout."""
    for row in rows:
        if row is not None and row[:1] != _HEAD:
            found = row[0] if row else "none"
            raise LayoutError(f"row of shown items has layout {found}, this version reads {SHOWN_LAYOUT}; upgrade or rebuild the state")
    sizes = np.array([0 if row is None else len(row) - 1 for row in rows], np.int64)
    if (sizes % ENTRY.itemsize).any():
        raise LayoutError("row of shown items is torn: its length is not that of whole entries; rebuild the state")
    return np.frombuffer(b"".join(row[1:] for row in rows if row is not None), ENTRY), sizes // ENTRY.itemsize


def _no_places(capacity: int, width: int) -> Places:
    shape = capacity, width
    items, shown_s, chosen_s = np.zeros((3, *shape), np.uint32)
    return Places(items, np.zeros(shape, np.uint8), shown_s, chosen_s, np.zeros(capacity, np.int32))
