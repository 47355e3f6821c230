"""Users' state in a worker: the newest interactions of many users as arrays. How Redis keeps them: `recsys.userrows`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.userrows import (
    LAYOUT,
    Embedding,
    Histories,
    UserRow,
    by_length,
    pack_embeddings,
    pack_histories,
    pack_older,
    unpack_histories,
    unpack_row,
)

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
    """Weights in units of 1/32, rounded away from zero so that a non-zero weight stays non-zero. Any shape."""
    scaled = weights * WEIGHT_UNITS
    away = np.where(scaled > 0, np.maximum(np.rint(scaled), 1), np.where(scaled < 0, np.minimum(np.rint(scaled), -1), 0))
    return np.clip(away, -127, 127).astype(np.int8)


def used_columns(lengths: NDArray[np.int32], width: int) -> NDArray[np.bool_]:
    """Which of the newest `width` columns of right-aligned rows hold something: (U, width), for row lengths (U,)."""
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
        """Ids of the users held, least recently used first."""
        return iter(self._slots)

    def __contains__(self, user_id: str) -> bool:
        return user_id in self._slots

    def slot(self, user_id: str) -> int | None:
        """The user's slot, or None when the user is not held. A hit makes the user the most recently used."""
        slot = self._slots.pop(user_id, None)
        if slot is not None:
            self._slots[user_id] = slot
        return slot

    def load(self, rows: Mapping[str, bytes | None]) -> None:
        """Hold these users, from their packed rows (None: a user without any). Raises LayoutError on a torn row, and holds none then."""
        found = unpack_histories([packed for packed in rows.values() if packed], self.history_length)
        slots = self._slots_for(rows)
        there = slots[np.fromiter(map(bool, rows.values()), np.bool_, len(rows))]
        self._clear(slots)
        for positions, part in found.parts:
            at, columns = there[positions], part.items.shape[1]
            if not columns:
                continue
            self.lengths[at] = part.lengths
            for table, grid in ((self.items, part.items), (self.times_s, part.times_s), (self.weights, part.weights)):
                if columns == self.history_length:
                    table[at] = grid[:, ::-1]
                else:
                    table[at, -columns:] = grid[:, ::-1]
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
        for count in np.unique(counts).tolist():
            chosen = np.flatnonzero(counts == count)
            at, last = slots[chosen], starts[chosen] + count
            fresh = last[:, None] + np.arange(-min(count, length), 0)  # (users, events that stay)
            for table, new in ((self.items, items), (self.times_s, times_s), (self.weights, weights)):
                if count >= length:
                    table[at] = new[fresh]
                elif count:
                    old = table[at]
                    old[:, :-count] = old[:, count:]
                    old[:, -count:] = new[fresh]
                    table[at] = old
        self.lengths[slots] = np.minimum(total, length)

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
        """One more older item for each of these slots, as `_remember` has it."""
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
        """The newest `width` interactions of these users by event time, right-aligned, those of one second in order of arrival.

        Copies of items, times in seconds and weights, each (U, min(width, H)). The rows themselves stay in order of arrival; only those
        that are not in order of time are sorted.
        """
        times_s = self.times_s[slots]  # (U, H); unused columns hold 0, and stay on the left
        items, newest_s, weights = self.items[slots, -width:], times_s[:, -width:], self.weights[slots, -width:]
        late = np.flatnonzero((times_s[:, 1:] < times_s[:, :-1]).any(axis=1))
        if len(late):
            order = np.argsort(times_s[late], axis=1, kind="stable")[:, -width:]
            newest_s[late] = np.take_along_axis(times_s[late], order, axis=1)
            items[late] = self.items[slots[late][:, None], order]
            weights[late] = self.weights[slots[late][:, None], order]
        return items, newest_s, weights

    def pack(self, slots: Sequence[int], embeddings: Sequence[Sequence[bytes]] = ()) -> list[bytes]:
        """The packed rows of these slots; `embeddings[i]` are the parts that `pack_embeddings` made for slot i."""
        rows: list[bytes] = [b""] * len(slots)
        if not rows:
            return rows
        at = np.asarray(slots, np.int64)
        older = [self.older[slot] for slot in at.tolist()]
        n_older = np.fromiter(map(len, older), np.int64, len(older))
        n_embeddings = np.fromiter(map(len, embeddings), np.int64, len(rows)) if embeddings else np.zeros(len(rows), np.int64)
        lengths = self.lengths[at].astype(np.int64)
        for chosen in by_length(lengths):
            part = pack_histories(self._newest_first(at[chosen], lengths[chosen]), n_older[chosen], n_embeddings[chosen])
            if len(part) == len(rows):
                rows = part
            else:
                for i, packed in zip(chosen.tolist(), part, strict=True):
                    rows[i] = packed
        with_older = np.flatnonzero(n_older).tolist()
        for i, packed in zip(with_older, pack_older([older[i] for i in with_older]), strict=True):
            rows[i] += packed
        if not n_embeddings.any():
            return rows
        return [b"".join((row, *parts)) for row, parts in zip(rows, embeddings, strict=True)]

    def _newest_first(self, slots: I64, lengths: I64) -> Histories:
        columns = slice(self.history_length - int(lengths.max()), None)
        items, times_s, weights = self.items[slots, columns], self.times_s[slots, columns], self.weights[slots, columns]
        return Histories(items[:, ::-1], times_s[:, ::-1], weights[:, ::-1], lengths)

    def _slots_for(self, user_ids: Iterable[str]) -> I64:
        """Each user's slot, a free one for those who have none."""
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
"""Up to so many items that leave a history at once are moved one after another, for all users together."""


def _remember(older: U32, left: U32, limit: int) -> U32:
    """`older` and then `left`, each item once (its last place), the newest `limit` of them: the same however the log was cut into
    batches."""
    if not limit:
        return _NONE
    newest_first = np.concatenate((older, left))[::-1]
    _, first = np.unique(newest_first, return_index=True)
    return np.ascontiguousarray(newest_first[np.sort(first)][:limit][::-1])
