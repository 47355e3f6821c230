"""Users' state in a worker: the newest interactions of many users as arrays. How Redis keeps them: `recsys.state.user_row`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.state import user_table_kernel
from recsys.state.user_row import (
    LAYOUT,
    Embedding,
    UserRow,
    pack_embeddings,
    unpack_row,
)
from recsys.state.user_rows import pack_rows, unpack_rows

__all__ = [
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

WEIGHT_UNITS = 32
"""Interaction weights are kept as i8 in units of 1/32: from −3.97 to 3.97."""

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
    """The newest `history_length` interactions of many users as arrays, right-aligned (newest in the last column).

    Arrays: `items` u32 (C, H), `times_s` u32 (C, H), `weights` i8 (C, H), `lengths` i32 (C,), for C slots and H = history_length. Unused
    columns hold zero weight. `older[slot]` are up to `seen_length` item numbers that left the history, oldest first. A user is in at most
    one slot."""

    def __init__(self, history_length: int, seen_length: int, capacity: int = 1024) -> None:
        self.history_length = history_length
        self.seen_length = seen_length
        self.items: U32 = np.zeros((capacity, history_length), np.uint32)
        self.times_s: U32 = np.zeros((capacity, history_length), np.uint32)
        self.weights: NDArray[np.int8] = np.zeros((capacity, history_length), np.int8)
        self.lengths: NDArray[np.int32] = np.zeros(capacity, np.int32)
        self.older: list[U32] = [_NONE] * capacity
        self._slots: dict[str, int] = {}
        self._free = list(range(capacity - 1, -1, -1))

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

    def load(self, rows: Mapping[str, bytes | None]) -> None:
        """Hold these users, from their packed rows (None: a user without any). Raises LayoutError on a torn row, and holds none then."""
        found = unpack_rows([packed for packed in rows.values() if packed], self.history_length)
        slots = self._slots_for(rows)
        there = slots[np.fromiter(map(bool, rows.values()), np.bool_, len(rows))]
        self._clear(slots)
        if columns := found.items.shape[1]:
            self.lengths[there] = found.lengths
            for table, grid in ((self.items, found.items), (self.times_s, found.times_s), (self.weights, found.weights)):
                table[there, -columns:] = grid
        for position, older in found.older.items():
            self.older[int(there[position])] = older

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

    def append(self, slots: I64, counts: I64, items: U32, times_s: U32, weights: NDArray[np.int8]) -> None:
        """Add `counts[i]` interactions to `slots[i]`; the event arrays hold them user after user, oldest first.

        Shapes: slots and counts (U,), events (sum of counts,). What leaves the history goes to `older`.
        """
        length, total = self.history_length, self.lengths[slots] + counts
        starts = np.cumsum(counts) - counts
        over = np.flatnonzero(total > length)
        if len(over) and self.seen_length:
            self._push_out(slots[over], total[over] - length, items, starts[over])
        user_table_kernel.append(self.items, self.times_s, self.weights, self.lengths, slots, counts, items, times_s, weights)

    def _push_out(self, slots: I64, n_left: I64, items: U32, starts: I64) -> None:
        """Move what leaves the histories, `n_left` of each before the new `items` from `starts` on are added, to the older items."""
        held = self.lengths[slots].astype(np.int64)
        first = self.history_length - held
        for number in range(min(int(n_left.max()), _FEW)):
            row = np.flatnonzero((n_left > number) & (n_left <= _FEW))
            from_history = number < held[row]
            leaving = np.where(
                from_history,
                self.items[slots[row], np.minimum(first[row] + number, self.history_length - 1)],
                items[np.where(from_history, 0, starts[row] + number - held[row])],
            )
            self._push_one(slots[row].tolist(), leaving)
        for i in np.flatnonzero(n_left > _FEW).tolist():
            slot, n_kept = int(slots[i]), int(held[i])
            new = items[starts[i] : starts[i] + max(int(n_left[i]) - n_kept, 0)]
            left = np.concatenate((self.items[slot, int(first[i]) :][: int(n_left[i])], new))
            self.older[slot] = _remember(self.older[slot], left, self.seen_length)

    def _push_one(self, slots: list[int], leaving: U32) -> None:
        """Add one older item to each of these slots, as `_remember` does."""
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

    def newest(self, slots: I64, width: int) -> tuple[U32, U32, NDArray[np.int8]]:
        """Return the newest `width` interactions of these users by event time, right-aligned, those of one second in order of arrival.

        Copies of items, times in seconds and weights, each (U, min(width, H)). The rows themselves stay in order of arrival; only those
        that are not in order of time are sorted.
        """
        shape, is_late = (len(slots), min(width, self.history_length)), np.empty(len(slots), np.bool_)
        items, newest_s, weights = np.empty(shape, np.uint32), np.empty(shape, np.uint32), np.empty(shape, np.int8)
        user_table_kernel.newest(self.items, self.times_s, self.weights, slots, items, newest_s, weights, is_late)
        late = np.flatnonzero(is_late)
        if len(late):
            times_s = self.times_s[slots[late]]  # unused columns hold 0, and stay on the left
            order = np.argsort(times_s, axis=1, kind="stable")[:, -width:]
            newest_s[late] = np.take_along_axis(times_s, order, axis=1)
            items[late] = self.items[slots[late][:, None], order]
            weights[late] = self.weights[slots[late][:, None], order]
        return items, newest_s, weights

    def pack(self, slots: Sequence[int], embeddings: Sequence[Sequence[bytes]] = ()) -> list[bytes]:
        """Return the packed rows of these slots; `embeddings[i]` are the parts that `pack_embeddings` made for slot i."""
        at, older = np.asarray(slots, np.int64), [self.older[slot] for slot in slots]
        n_embeddings = np.fromiter(map(len, embeddings), np.int64, len(at)) if embeddings else np.zeros(len(at), np.int64)
        rows = pack_rows(self.items, self.times_s, self.weights, self.lengths, at, older, n_embeddings)
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
        for name in ("items", "times_s", "weights", "lengths"):
            table = getattr(self, name)
            setattr(self, name, np.concatenate((table, np.zeros_like(table))))
        self.older.extend([_NONE] * held)
        self._free.extend(range(2 * held - 1, held - 1, -1))

    def _clear(self, slots: I64) -> None:
        self.items[slots] = 0
        self.times_s[slots] = 0
        self.weights[slots] = 0
        self.lengths[slots] = 0
        for slot in slots.tolist():
            self.older[slot] = _NONE


_NONE: U32 = np.zeros(0, np.uint32)
_FEW = 4
"""Up to this many items that leave a history at once are moved one after another, for all users together."""


def _remember(older: U32, left: U32, limit: int) -> U32:
    """Return `older` and then `left`, each item once (its last place), the newest `limit` of them: the same however the log was cut into
    batches."""
    if not limit:
        return _NONE
    newest_first = np.concatenate((older, left))[::-1]
    _, first = np.unique(newest_first, return_index=True)
    return np.ascontiguousarray(newest_first[np.sort(first)][:limit][::-1])
