"""Users' rows: the packed value that Redis keeps, and the table in which a worker holds many of them as arrays.

Packed row, little-endian: header (layout u8, number of embeddings u8, history length u16, older items u16, reserved u16), then
items u32 × n, times u32 seconds × n, weights i8 × n (units of 1/32), older items u32 × m, and for each embedding its model tag u32,
dimension u16, scale f32 and i8 × d. A history is oldest first. `older` are items that left the history but must not be recommended again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recsys.errors import LayoutError

LAYOUT = 1
WEIGHT_UNITS = 32
"""Interaction weights are kept as i8 in units of 1/32: from −3.97 to 3.97."""

_HEADER = struct.Struct("<BBHHH")
_EMBEDDING = struct.Struct("<IHf")

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


@dataclass(frozen=True, slots=True)
class Embedding:
    """A user vector as Redis keeps it: `tag` says which model version made it, `values` (D,) i8 times `scale` is the vector."""

    tag: int
    scale: float
    values: NDArray[np.int8]

    def vector(self) -> NDArray[np.float32]:
        """The vector, (D,) float32; each coordinate is off by at most half of `scale`."""
        return self.values.astype(np.float32) * np.float32(self.scale)


def pack_embeddings(tag: int, vectors: NDArray[np.float32]) -> list[bytes]:
    """Each row of `vectors` (U, D) as an int8 embedding stamped with `tag`."""
    dimension = vectors.shape[1]
    scales = np.abs(vectors).max(axis=1, initial=0.0) / 127.0
    quantised = np.rint(vectors / np.where(scales > 0, scales, 1.0)[:, None]).astype(np.int8).tobytes()
    return [
        _EMBEDDING.pack(tag, dimension, scale) + quantised[row * dimension : (row + 1) * dimension]
        for row, scale in enumerate(scales.tolist())
    ]


@dataclass(frozen=True, slots=True)
class UserRow:
    """One user's state, unpacked. Shapes: n history entries, oldest first; m older items."""

    items: U32
    times_s: U32
    weights: NDArray[np.int8]
    older: U32
    embeddings: tuple[Embedding, ...] = field(default=())


def unpack_row(packed: bytes) -> UserRow:
    """The row behind `packed`. Raises LayoutError when lengths and header disagree."""
    if len(packed) < _HEADER.size:
        raise LayoutError(f"user row of {len(packed)} bytes is shorter than its header; rebuild the state")
    layout, n_embeddings, n, m, _ = _HEADER.unpack_from(packed)
    if layout != LAYOUT:
        raise LayoutError(f"user row has layout {layout}, this version reads {LAYOUT}; upgrade or rebuild the state")
    at = _HEADER.size
    if len(packed) < at + 9 * n + 4 * m:
        raise LayoutError("user row is shorter than its header says; rebuild the state")
    items = np.frombuffer(packed, "<u4", n, at)
    times_s = np.frombuffer(packed, "<u4", n, at + 4 * n)
    weights = np.frombuffer(packed, np.int8, n, at + 8 * n)
    older = np.frombuffer(packed, "<u4", m, at + 9 * n)
    at += 9 * n + 4 * m
    embeddings = []
    for _ in range(n_embeddings):
        if len(packed) < at + _EMBEDDING.size:
            raise LayoutError("user row ends inside an embedding; rebuild the state")
        tag, dimension, scale = _EMBEDDING.unpack_from(packed, at)
        at += _EMBEDDING.size
        if len(packed) < at + dimension:
            raise LayoutError("user row ends inside an embedding; rebuild the state")
        embeddings.append(Embedding(tag, scale, np.frombuffer(packed, np.int8, dimension, at)))
        at += dimension
    return UserRow(items, times_s, weights, older, tuple(embeddings))


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
        """Hold these users, from their packed rows (None: a user without any). Raises LayoutError on a torn row."""
        for user_id, packed in rows.items():
            row = unpack_row(packed) if packed else None
            slot = self._slots.get(user_id)
            if slot is None:
                slot = self._take()
                self._slots[user_id] = slot
            self._clear(slot)
            if row is None:
                continue
            n = min(len(row.items), self.history_length)
            if n:
                self.items[slot, -n:] = row.items[-n:]
                self.times_s[slot, -n:] = row.times_s[-n:]
                self.weights[slot, -n:] = row.weights[-n:]
            self.lengths[slot] = n
            self.older[slot] = row.older

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
        starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
        for i in np.flatnonzero(total > length).tolist():
            slot, start, count = int(slots[i]), int(starts[i]), int(counts[i])
            kept = self.items[slot, length - self.lengths[slot] :]
            left = np.concatenate((kept, items[start : start + count]))[: int(total[i]) - length]
            self.older[slot] = _remember(self.older[slot], left, self.seen_length)
        columns = np.arange(length)[None, :] + counts[:, None]  # (U, H) position in old row followed by new events
        from_old = columns < length
        event = np.where(from_old, 0, starts[:, None] + columns - length)
        old = np.where(from_old, columns, 0)
        for table, new in ((self.items, items), (self.times_s, times_s), (self.weights, weights)):
            table[slots] = np.where(from_old, table[slots[:, None], old], new[event])
        self.lengths[slots] = np.minimum(total, length)

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
        rows = []
        for i, slot in enumerate(slots):
            n, older = int(self.lengths[slot]), self.older[slot]
            parts = embeddings[i] if embeddings else ()
            start = self.history_length - n
            rows.append(
                b"".join(
                    (
                        _HEADER.pack(LAYOUT, len(parts), n, len(older), 0),
                        self.items[slot, start:].tobytes(),
                        self.times_s[slot, start:].tobytes(),
                        self.weights[slot, start:].tobytes(),
                        older.tobytes(),
                        *parts,
                    )
                )
            )
        return rows

    def _take(self) -> int:
        if not self._free:
            held = len(self.lengths)
            for name in ("items", "times_s", "weights", "lengths"):
                table = getattr(self, name)
                setattr(self, name, np.concatenate((table, np.zeros_like(table))))
            self.older.extend([_NONE] * held)
            self._free = list(range(2 * held - 1, held - 1, -1))
        return self._free.pop()

    def _clear(self, slot: int) -> None:
        self.items[slot] = 0
        self.times_s[slot] = 0
        self.weights[slot] = 0
        self.lengths[slot] = 0
        self.older[slot] = _NONE


_NONE: U32 = np.zeros(0, np.uint32)


def _remember(older: U32, left: U32, limit: int) -> U32:
    """`older` and then `left`, each item once (its last place), the newest `limit` of them: the same however the log was cut into
    batches."""
    if not limit:
        return _NONE
    newest_first = np.concatenate((older, left))[::-1]
    _, first = np.unique(newest_first, return_index=True)
    return np.ascontiguousarray(newest_first[np.sort(first)][:limit][::-1])
