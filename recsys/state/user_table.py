"""Users' state in a worker: the histories of many users as arrays. How Redis keeps them: `recsys.state.user_row`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.state import touch_kernel, user_table_kernel
from recsys.state.profiles import ProfileTable
from recsys.state.shown import ShownTable, unpack_shown
from recsys.state.user_attributes import WantedAttributes
from recsys.state.user_columns import WEIGHT_UNITS, Columns, Histories
from recsys.state.user_row import (
    LAYOUT,
    Embedding,
    UserRow,
    pack_embeddings,
    unpack_row,
)
from recsys.state.user_rows import pack_rows, unpack_rows

__all__ = [
    "ALL_TYPES",
    "LAYOUT",
    "WEIGHT_UNITS",
    "Embedding",
    "UserRow",
    "UserTable",
    "pack_embeddings",
    "quantise_weights",
    "unpack_row",
    "used_columns",
]

ALL_TYPES = -1
"""Every bit is set: the items of events of any type are remembered when they leave a history."""

U32 = NDArray[np.uint32]
I64 = NDArray[np.int64]


def quantise_weights(weights: NDArray[np.float32]) -> NDArray[np.int8]:
    """Return weights in units of 1/32, rounded away from zero so that a non-zero weight stays non-zero. Any shape."""
    scaled = weights * WEIGHT_UNITS
    away = np.where(scaled > 0, np.maximum(np.rint(scaled), 1), np.where(scaled < 0, np.minimum(np.rint(scaled), -1), 0))
    return np.clip(away, -127, 127).astype(np.int8)


def used_columns(lengths: NDArray[np.int32], width: int) -> NDArray[np.bool_]:
    """Return which of the newest `width` columns of right-aligned rows hold something: (U, width), for row lengths (U,)."""
    used: NDArray[np.bool_] = np.arange(width)[None, :] >= width - np.minimum(lengths, width)[:, None]
    return used


class UserTable:
    """The histories of many users as arrays: the `history_length` items of each that were touched last, one entry per item.

    Rows are right-aligned and in order of the last touch (newest in the last column). Arrays (C, H), for C slots and H = history_length:
    `items` u32; `times_s` and `first_s` u32, the newest and the earliest touch; `weights` i8, what the entry counts for now (below 0 after
    a dislike); `types` u8, the code of the event type that gave this weight; `counts` u8, the number of touches up to 255; `visits` u8,
    sessions counted in the present epoch. `lengths` i32 (C,) says how many columns are used, the others hold 0; `spent` i32 (C,) how many
    events of the user's budget are spent (`recsys.state.touches` has the rules).

    `older[slot]` are up to `seen_length` item numbers that left the history, oldest first: those whose type's bit is set in `kept_types`
    (by default all), so that they stay off the user's lists. `shown` counts what was shown to users, None if nobody counts. A user is in at
    most one slot."""

    def __init__(
        self, history_length: int, seen_length: int, capacity: int = 1024, *, kept_types: int = ALL_TYPES, shown_items: int = 0
    ) -> None:
        self.history_length = history_length
        self.seen_length = seen_length
        self.kept_types = kept_types if seen_length else 0
        self._hold(Columns.zeros(capacity, history_length))
        self.lengths: NDArray[np.int32] = np.zeros(capacity, np.int32)
        self.spent: NDArray[np.int32] = np.zeros(capacity, np.int32)
        self.older: list[U32] = [_NONE] * capacity
        self.shown = ShownTable(shown_items, capacity) if shown_items else None
        self.profiles: ProfileTable | None = None
        """Attributes of the users' profiles, once a model or rules read them."""
        self._slots: dict[str, int] = {}
        self._free = list(range(capacity - 1, -1, -1))

    def _hold(self, columns: Columns) -> None:
        self._columns = columns
        self.items, self.times_s, self.first_s, self.weights, self.types, self.counts, self.visits = columns

    @property
    def histories(self) -> Histories:
        """Return all arrays of the histories, as compiled loops take them."""
        return Histories(self._columns, self.lengths, self.spent)

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[str]:
        """Yield the ids of the users held, least recently used first."""
        return iter(self._slots)

    def __contains__(self, user_id: str) -> bool:
        return user_id in self._slots

    def slot(self, user_id: str) -> int | None:
        """Return the user's slot, or None when the user is not held. A hit makes the user the most recently used."""
        slot = self._slots.pop(user_id, None)
        if slot is not None:
            self._slots[user_id] = slot
        return slot

    def load(self, rows: Mapping[str, bytes | None], shown: Sequence[bytes | None] | None = None) -> None:
        """Hold these users, from their packed rows (None: a user without any), and their packed rows of `shown` items in the same order.
        Raises LayoutError on a torn row, and holds none then."""
        found = unpack_rows([packed for packed in rows.values() if packed], self.history_length)
        entries = None if self.shown is None else unpack_shown([None] * len(rows) if shown is None else shown)
        slots = self._slots_for(rows)
        if self.shown is not None and entries is not None:
            self.shown.load(slots, *entries)
        there = slots[np.fromiter(map(bool, rows.values()), np.bool_, len(rows))]
        self._clear(slots)
        self.lengths[there], self.spent[there] = found.lengths, found.spent
        if columns := found.columns.items.shape[1]:
            for table, grid in zip(self._columns.arrays, found.columns.arrays, strict=True):
                table[there, -columns:] = grid
        for position, older in found.older.items():
            self.older[int(there[position])] = older

    def hold_profiles(self) -> ProfileTable:
        """Return the table of profiles, which holds the columns of every slot from now on."""
        if self.profiles is None:
            self.profiles = ProfileTable(len(self.lengths))
        self.profiles.hold_columns()
        return self.profiles

    def drop_profiles(self) -> None:
        """Hold no columns of profiles any more, and nothing of them unless rules read some."""
        if self.profiles is None or self.profiles.attributes is None:
            self.profiles = None
        else:
            self.profiles.drop_columns()

    def hold_attributes(self, wanted: WantedAttributes) -> None:
        """Hold what rules read of profiles from now on: these attributes, or nothing."""
        if self.profiles is None and wanted:
            self.profiles = ProfileTable(len(self.lengths), has_columns=False)
        if self.profiles is not None:
            self.profiles.hold_attributes(wanted)
            if not wanted and not self.profiles.has_columns:
                self.profiles = None

    def forget(self, user_ids: Iterable[str]) -> None:
        """Hold these users no longer."""
        for user_id in user_ids:
            slot = self._slots.pop(user_id, None)
            if slot is not None:
                self._free.append(slot)

    def shrink(self, limit: int) -> list[str]:
        """Forget the least recently used users beyond `limit`; their ids."""
        excess = len(self._slots) - limit
        if excess <= 0:
            return []
        oldest = [user_id for user_id, _ in zip(self._slots, range(excess), strict=False)]
        self.forget(oldest)
        return oldest

    def replace(self, slots: I64, counts: I64, after: Histories, left: I64) -> None:
        """Hold the histories `after` a batch in `slots` (U,). `left` are the items that its events pushed out, to be remembered, −1 for
        none: `counts[u]` events each, user after user."""
        touch_kernel.put_back(after, slots, self.histories)
        is_left = left >= 0
        if is_left.any():
            n_left = np.bincount(np.repeat(np.arange(len(slots)), counts)[is_left], minlength=len(slots))
            over = np.flatnonzero(n_left)
            self._push_out(slots[over], n_left[over], left[is_left].astype(np.uint32))

    def _push_out(self, slots: I64, n_left: I64, items: U32) -> None:
        """Add `items` to the older items of these slots, `n_left` of each, slot after slot."""
        starts = np.cumsum(n_left) - n_left
        for number in range(min(int(n_left.max()), _FEW)):
            row = np.flatnonzero((n_left > number) & (n_left <= _FEW))
            self._push_one(slots[row].tolist(), items[starts[row] + number])
        for i in np.flatnonzero(n_left > _FEW).tolist():
            slot, start = int(slots[i]), int(starts[i])
            self.older[slot] = remember(self.older[slot], items[start : start + int(n_left[i])], self.seen_length)

    def _push_one(self, slots: list[int], leaving: U32) -> None:
        """Add one older item to each of these slots, as `remember` does."""
        older = [self.older[slot] for slot in slots]
        sizes = np.fromiter(map(len, older), np.int64, len(older))
        again = np.concatenate(older) == np.repeat(leaving, sizes) if len(older) else np.zeros(0, np.bool_)
        row = np.repeat(np.arange(len(older)), sizes)[again]
        for i in row.tolist():
            older[i] = older[i][older[i] != leaving[i]]
        for slot, before, item in zip(slots, older, leaving.tolist(), strict=True):
            kept = min(len(before), self.seen_length - 1)
            after = np.empty(kept + 1, np.uint32)
            after[:kept] = before[len(before) - kept :]
            after[kept] = item
            self.older[slot] = after

    def highest_item(self, slots: Sequence[int]) -> int:
        """Return the highest item number in the histories of these users and in what was shown to them; 0 without any."""
        held = int(self.items[slots].max(initial=0))
        return held if self.shown is None else max(held, self.shown.highest_item(np.asarray(slots, np.int64)))

    def newest(self, slots: I64, width: int) -> tuple[U32, U32, NDArray[np.int8]]:
        """Return the `width` entries of these users that were touched last, right-aligned: copies of items, times in seconds and weights,
        each (U, min(width, H)). Unused columns hold 0."""
        shape = (len(slots), min(width, self.history_length))
        items, times_s, weights = np.empty(shape, np.uint32), np.empty(shape, np.uint32), np.empty(shape, np.int8)
        user_table_kernel.newest(self.items, self.times_s, self.weights, slots, items, times_s, weights)
        return items, times_s, weights

    def newest_types(self, slots: I64, width: int) -> NDArray[np.uint8]:
        """Return the codes of the types of the same entries as `newest`, (U, min(width, H)), as they are."""
        first = self.history_length - min(width, self.history_length)
        return self.types[slots, first:]

    def gaps_s(self, slots: I64, now_s: int) -> NDArray[np.float32]:
        """Return the seconds from each user's newest interaction until `now_s`, (U,); 0 for a user without any."""
        gaps = np.maximum(now_s - self.times_s[slots, -1].astype(np.int64), 0)
        return np.where(self.lengths[slots] > 0, gaps, 0).astype(np.float32)

    def pack(self, slots: Sequence[int], embeddings: Sequence[Sequence[bytes]] = ()) -> list[bytes]:
        """Return the packed rows of these slots; `embeddings[i]` are the parts that `pack_embeddings` made for slot i."""
        at, older = np.asarray(slots, np.int64), [self.older[slot] for slot in slots]
        n_embeddings = np.fromiter(map(len, embeddings), np.int64, len(at)) if embeddings else np.zeros(len(at), np.int64)
        rows = pack_rows(self.histories, at, older, n_embeddings)
        return [b"".join((row, *parts)) for row, parts in zip(rows, embeddings, strict=True)] if embeddings else rows

    def _slots_for(self, user_ids: Iterable[str]) -> I64:
        """Return each user's slot, a free one for those who have none."""
        held, free = self._slots, self._free
        found = []
        for user_id in user_ids:
            slot = held.get(user_id)
            if slot is None:
                if not free:
                    self._grow()
                slot = held[user_id] = free.pop()
            found.append(slot)
        return np.array(found, np.int64)

    def _grow(self) -> None:
        held = len(self.lengths)
        more = Columns.zeros(held, self.history_length)
        self._hold(Columns(*map(np.concatenate, zip(self._columns.arrays, more.arrays, strict=True))))
        self.lengths, self.spent = (np.concatenate((own, np.zeros_like(own))) for own in (self.lengths, self.spent))
        self.older.extend([_NONE] * held)
        if self.shown is not None:
            self.shown.grow(2 * held)
        self._free.extend(range(2 * held - 1, held - 1, -1))
        if self.profiles is not None:
            self.profiles.grow(2 * held)

    def _clear(self, slots: I64) -> None:
        used = slots[self.lengths[slots] > 0]  # pages of a row that nobody has used yet are not touched
        for column in self._columns.arrays:
            column[used] = 0
        self.lengths[slots], self.spent[slots] = 0, 0
        if self.profiles is not None:
            self.profiles.clear(slots)
        for slot in slots.tolist():
            self.older[slot] = _NONE


_NONE: U32 = np.zeros(0, np.uint32)
_FEW = 4
"""Up to this many items that leave a history at once are moved one after another, for all users together."""


def remember(older: U32, left: U32, limit: int) -> U32:
    """Return `older` and then `left`, each item once (its last place), the newest `limit` of them: the same however the log was cut into
    batches."""
    if not limit:
        return _NONE
    newest_first = np.concatenate((older, left))[::-1]
    _, first = np.unique(newest_first, return_index=True)
    return np.ascontiguousarray(newest_first[np.sort(first)][:limit][::-1])
