"""Item neighbourhoods held as arrays, for scoring: a dense matrix while the catalogue is small, sparse rows above that.

Row i holds how much each item co-occurred after item i, halved for each epoch before the row's own newest one: so a row whose newest pair
is old keeps its digits, and time alone changes no row. `relative_weights` makes rows of different epochs comparable. Rows are loaded when
first needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.jit import compiled, compiled_sums
from recsys.state.item_row import WEIGHT_ONE

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]

DENSE_ITEMS = 8_192
"""Up to this many items rows are dense: 268 MB at the limit, and twice as fast to sum as sparse rows are."""


_WIDE = 8
"""With this many times more items than records, columns are renumbered before a product."""


def weighted_rows(matrix: F32, rows: I64, weights: F32) -> F32:
    """Return Σ_r weights[u, r] · matrix[rows[u, r]]: (M, N), (U, R), (U, R) ▸ (U, N), without a copy of the rows."""
    summed = np.zeros((len(rows), matrix.shape[1]), np.float32)
    _add_weighted(matrix, rows, weights, summed)
    return summed


NO_EPOCH = -1
"""Epoch of a row without a pair."""


class _Rows:
    """Says of C rows which are held (`loaded`), and to which epoch each is decayed (`epochs`): its newest one."""

    def __init__(self, n_items: int) -> None:
        self.loaded: NDArray[np.bool_] = np.zeros(n_items, np.bool_)
        self.epochs: I64 = np.full(n_items, NO_EPOCH, np.int64)

    def _widen(self, n_items: int) -> None:
        more = n_items - len(self.loaded)
        self.loaded = np.concatenate((self.loaded, np.zeros(more, np.bool_)))
        self.epochs = np.concatenate((self.epochs, np.full(more, NO_EPOCH, np.int64)))

    def _drop_all(self) -> None:
        self.loaded[:] = False
        self.epochs[:] = NO_EPOCH

    def relative_weights(self, items: I64, weights: F32) -> F32:
        """Return `weights` (U, R) of the rows of `items` (U, R), halved for each epoch by which a row is older than the newest row that the
        user weighs. Weights are ≥ 0."""
        found = np.empty_like(weights)
        _relative(self.epochs, items, weights, found)
        return found


class DenseNeighbours(_Rows):
    """Rows of a square float32 matrix."""

    def __init__(self, n_items: int = 256) -> None:
        super().__init__(n_items)
        self._matrix: F32 = np.zeros((n_items, n_items), np.float32)

    @property
    def matrix(self) -> F32:
        """Return all rows, (C, C); those that are not held are zero."""
        return self._matrix

    def grow(self, n_items: int) -> None:
        """Make room for item numbers below `n_items`."""
        held = len(self.loaded)
        if n_items <= held:
            return
        size = -(-max(n_items, held + held // 4) // 256) * 256
        matrix = np.zeros((size, size), np.float32)
        rows = np.flatnonzero(self.loaded)
        matrix[rows, :held] = self._matrix[rows]  # the others are zero, and pages that nobody touches cost nothing
        self._matrix = matrix
        self._widen(size)

    def hold_all(self) -> None:
        """Hold every row: what was not added here is zero."""
        self.loaded[:] = True

    def clear(self) -> None:
        """Hold no row."""
        self._matrix[:] = 0
        self._drop_all()

    def set_row(self, number: int, neighbours: U32, values: F32, epoch: int) -> None:
        """Replace a row by `values` (n,) of distinct `neighbours` (n,), decayed to `epoch`."""
        self._matrix[number] = 0
        self._matrix[number, neighbours] = values
        self.loaded[number], self.epochs[number] = True, epoch

    def add_row(self, number: int, neighbours: U32, values: F32, epoch: int) -> None:
        """Add `values` (n,) of distinct `neighbours` (n,), of pairs in `epoch`, to a row, if it is held."""
        if self.loaded[number]:
            factor = _turn_to(self._matrix[number], self.epochs, number, epoch)  # before the row is read
            self._matrix[number, neighbours] += values * factor

    def add(self, numbers: I64, starts: I64, ends: I64, records: U32, epoch: int) -> None:
        """Add pairs of `epoch` to distinct rows (R,), to each `records[starts:ends]`, neighbours and amounts in units of 1/64 (n, 2); rows
        that are not held are passed over."""
        _add(self._matrix, self.loaded, self.epochs, numbers, starts, ends, records, epoch)

    def rows(self, numbers: I64, n_items: int) -> F32:
        """Return (R, n_items) copies of held rows."""
        return self._matrix[numbers, :n_items]

    def pairs(self, rows: I64, neighbours: I64) -> F32:
        """Return the values at broadcast index arrays."""
        found: F32 = self._matrix.ravel().take(rows * self._matrix.shape[1] + neighbours)  # much faster than by two indices
        return found

    def weighted_sums(self, items: I64, weights: F32, n_items: int) -> F32:
        """Return Σ_r weights[u, r] · row(items[u, r]): (U, R), (U, R) ▸ (U, n_items)."""
        return weighted_rows(self._matrix, items, weights)[:, :n_items]


@compiled_sums
def _add_weighted(matrix: F32, rows: I64, weights: F32, summed: F32) -> None:
    for user in range(len(rows)):
        for r in range(rows.shape[1]):
            weight = weights[user, r]
            if weight == 0:
                continue
            row = rows[user, r]
            for column in range(matrix.shape[1]):
                summed[user, column] += weight * matrix[row, column]


@compiled
def _turn_to(row: F32, epochs: I64, number: int, epoch: int) -> np.float32:
    """Decay a row (C,) to `epoch`, if that is newer than its own; return what a pair of `epoch` counts in it."""
    own = epochs[number]
    if own >= epoch:
        return np.float32(0.5 ** (own - epoch))
    if own != NO_EPOCH:
        factor = np.float32(0.5 ** (epoch - own))
        for column in range(len(row)):
            row[column] *= factor
    epochs[number] = epoch
    return np.float32(1)


@compiled
def _add(matrix: F32, loaded: NDArray[np.bool_], epochs: I64, numbers: I64, starts: I64, ends: I64, records: U32, epoch: int) -> None:
    for i in range(len(numbers)):
        number = numbers[i]
        if number >= len(matrix):
            raise IndexError("there is no room for the row of an item")
        if not loaded[number]:
            continue
        factor = _turn_to(matrix[number], epochs, number, epoch) / np.float32(WEIGHT_ONE)
        for at in range(starts[i], ends[i]):
            neighbour = records[at, 0]
            if neighbour >= len(matrix):
                raise IndexError("there is no room for an item")
            matrix[number, neighbour] += np.float32(records[at, 1]) * factor


@compiled
def _relative(epochs: I64, items: I64, weights: F32, out: F32) -> None:
    for user in range(len(items)):
        newest = NO_EPOCH
        for r in range(items.shape[1]):
            if weights[user, r] > 0:
                newest = max(newest, epochs[items[user, r]])
        for r in range(items.shape[1]):
            weight = weights[user, r]
            if weight > 0 and epochs[items[user, r]] != NO_EPOCH:
                weight *= np.float32(0.5 ** (newest - epochs[items[user, r]]))
            out[user, r] = weight


@dataclass(frozen=True, slots=True)
class Rows:
    """R rows one after another: `numbers` (R,) ascending, `starts` (R + 1,), and `neighbours` and `values` of all, each row's neighbours
    ascending."""

    numbers: I64
    starts: I64
    neighbours: I64
    values: F32

    def sums(self, items: I64, weights: F32, n_items: int) -> sparse.csr_matrix:
        """Return Σ_r weights[u, r] · row(items[u, r]), (U, R), (U, R) ▸ (U, n_items) sparse; items without a row count for nothing."""
        place, known = self._places(items)
        users, columns = np.nonzero(known & (weights != 0))
        left = sparse.csr_matrix((weights[users, columns], (users, place[users, columns])), shape=(len(items), len(self.numbers)))
        if n_items < _WIDE * len(self.values):
            return left @ sparse.csr_matrix((self.values, self.neighbours, self.starts), shape=(len(self.numbers), n_items))
        # The product takes a pass over its columns: leave out those that nobody has.
        held, columns = np.unique(self.neighbours, return_inverse=True)
        found = left @ sparse.csr_matrix((self.values, columns, self.starts), shape=(len(self.numbers), len(held)))
        return sparse.csr_matrix((found.data, held[found.indices], found.indptr), shape=(len(items), n_items))

    def pairs(self, rows: I64, neighbours: I64) -> F32:
        """Return the values at broadcast index arrays, 0 where there is none."""
        if not len(self.values):
            return np.zeros(np.broadcast_shapes(rows.shape, neighbours.shape), np.float32)
        place, known = self._places(rows)
        keys = (np.repeat(np.arange(len(self.numbers)), np.diff(self.starts)) << 32) | self.neighbours
        wanted = (place << 32) | neighbours
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where((keys[at] == wanted) & known, self.values[at], np.float32(0))

    def _places(self, items: I64) -> tuple[I64, NDArray[np.bool_]]:
        if not len(self.numbers):
            return np.zeros(items.shape, np.int64), np.zeros(items.shape, np.bool_)
        place = np.minimum(np.searchsorted(self.numbers, items), len(self.numbers) - 1)
        return place, self.numbers[place] == items


class SparseNeighbours(_Rows):
    """Rows as pairs of arrays, with what was added since appended behind and summed when the row is next read."""

    def __init__(self, n_items: int = 256) -> None:
        super().__init__(n_items)
        self._parts: dict[int, list[tuple[U32, F32]]] = {}

    def grow(self, n_items: int) -> None:
        """Make room for item numbers below `n_items`."""
        if n_items > len(self.loaded):
            self._widen(max(n_items, 2 * len(self.loaded)))

    def hold_all(self) -> None:
        """Hold every row: what was not added here is zero."""
        for number in np.flatnonzero(~self.loaded).tolist():
            self.set_row(number, np.zeros(0, np.uint32), np.zeros(0, np.float32), NO_EPOCH)

    def clear(self) -> None:
        """Hold no row."""
        self._parts.clear()
        self._drop_all()

    def set_row(self, number: int, neighbours: U32, values: F32, epoch: int) -> None:
        """Replace a row by `values` (n,) of distinct `neighbours` (n,), decayed to `epoch`."""
        order = np.argsort(neighbours)
        self._parts[number] = [(neighbours[order], values[order])]
        self.loaded[number], self.epochs[number] = True, epoch

    def add_row(self, number: int, neighbours: U32, values: F32, epoch: int) -> None:
        """Add `values` (n,) of distinct `neighbours` (n,), of pairs in `epoch`, to a row, if it is held."""
        parts = self._parts.get(number)
        if parts is None:
            return
        own = int(self.epochs[number])
        if own > epoch:
            values = values * np.float32(0.5 ** (own - epoch))
        elif own < epoch:
            if own != NO_EPOCH:
                factor = np.float32(0.5 ** (epoch - own))
                parts = self._parts[number] = [(held, counts * factor) for held, counts in parts]
            self.epochs[number] = epoch
        parts.append((neighbours, values))

    def add(self, numbers: I64, starts: I64, ends: I64, records: U32, epoch: int) -> None:
        """Add pairs of `epoch` to distinct rows (R,), to each `records[starts:ends]`, neighbours and amounts in units of 1/64 (n, 2); rows
        that are not held are passed over."""
        values = records[:, 1].astype(np.float32) / np.float32(WEIGHT_ONE)
        neighbours = records[:, 0].copy()  # and not a view, which would keep the amounts too
        for number, start, end in zip(numbers.tolist(), starts.tolist(), ends.tolist(), strict=True):
            self.add_row(number, neighbours[start:end], values[start:end], epoch)

    def _row(self, number: int) -> tuple[U32, F32]:
        parts = self._parts.get(number)
        if not parts:
            return np.zeros(0, np.uint32), np.zeros(0, np.float32)
        if len(parts) > 1:
            neighbours = np.concatenate([part[0] for part in parts])
            distinct, place = np.unique(neighbours, return_inverse=True)
            values = np.bincount(place, np.concatenate([part[1] for part in parts]), len(distinct)).astype(np.float32)
            parts = self._parts[number] = [(distinct, values)]  # a new list: another thread may be reading the old one
        return parts[0]

    def gathered(self, numbers: I64) -> Rows:
        """Return the rows of distinct `numbers` (R,), ascending."""
        parts = self._parts
        rows = [held[0] if (held := parts.get(number)) and len(held) == 1 else self._row(number) for number in numbers.tolist()]
        starts = np.cumsum([0, *(len(row[0]) for row in rows)], dtype=np.int64)
        columns = np.concatenate([row[0] for row in rows]) if rows else np.zeros(0, np.uint32)
        values = np.concatenate([row[1] for row in rows]) if rows else np.zeros(0, np.float32)
        return Rows(numbers, starts, columns.astype(np.int64), values)

    def rows(self, numbers: I64, n_items: int) -> F32:
        """Return (R, n_items) copies of held rows."""
        distinct, place = np.unique(numbers, return_inverse=True)
        held = self.gathered(distinct)
        matrix = sparse.csr_matrix((held.values, held.neighbours, held.starts), shape=(len(distinct), n_items))
        return np.asarray(matrix[place].toarray(), np.float32)

    def pairs(self, rows: I64, neighbours: I64) -> F32:
        """Return the values at broadcast index arrays."""
        return self.gathered(np.unique(rows)).pairs(rows, neighbours)

    def weighted_sums(self, items: I64, weights: F32, n_items: int) -> F32:
        """Return Σ_r weights[u, r] · row(items[u, r]): (U, R), (U, R) ▸ (U, n_items)."""
        return np.asarray(self.gathered(np.unique(items)).sums(items, weights, n_items).toarray(), np.float32)


Neighbours = DenseNeighbours | SparseNeighbours
