"""Item neighbourhoods held as arrays, for scoring: a dense matrix while the catalogue is small, sparse rows above that.

Row i holds how much each item co-occurred after item i, decayed to the newest epoch. Rows are loaded when first needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from recsys.jit import compiled

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]

DENSE_ITEMS = 8_192
"""Up to this many items rows are dense: 268 MB at the limit, and twice as fast to sum as sparse rows are."""


_WIDE = 8
"""With this many times more items than records, columns are renumbered before a product."""


def weighted_rows(matrix: F32, rows: I64, weights: F32) -> F32:
    """Return Σ_r weights[u, r] · matrix[rows[u, r]]: (M, N), (U, R), (U, R) ▸ (U, N), without a copy of the rows."""
    summed: F32 = torch.nn.functional.embedding_bag(
        torch.from_numpy(np.ascontiguousarray(rows)),
        torch.from_numpy(matrix),
        per_sample_weights=torch.from_numpy(np.ascontiguousarray(weights)),
        mode="sum",
    ).numpy()
    return summed


class DenseNeighbours:
    """Rows of a square float32 matrix. `loaded` (C,) says which of them are held."""

    def __init__(self, n_items: int = 256) -> None:
        self._matrix: F32 = np.zeros((n_items, n_items), np.float32)
        self.loaded: NDArray[np.bool_] = np.zeros(n_items, np.bool_)

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
        self.loaded = np.concatenate((self.loaded, np.zeros(size - held, np.bool_)))

    def hold_all(self) -> None:
        """Hold every row: what was not added here is zero."""
        self.loaded[:] = True

    def clear(self) -> None:
        """Hold no row."""
        self._matrix[:] = 0
        self.loaded[:] = False

    def set_row(self, number: int, neighbours: U32, values: F32) -> None:
        """Replace a row. `neighbours` (n,) distinct, `values` (n,)."""
        self._matrix[number] = 0
        self._matrix[number, neighbours] = values
        self.loaded[number] = True

    def add_row(self, number: int, neighbours: U32, values: F32) -> None:
        """Add `values` (n,) of distinct `neighbours` (n,) to a row, if it is held."""
        if self.loaded[number]:
            self._matrix[number, neighbours] += values

    def add(self, numbers: I64, starts: I64, ends: I64, records: U32, factor: np.float32) -> None:
        """Add to distinct rows (R,), to each `records[starts:ends]`, neighbours and amounts (n, 2), times `factor`; rows that are not held
        are passed over."""
        _add(self._matrix, self.loaded, numbers, starts, ends, records, factor)

    def scale(self, factor: float) -> None:
        """Multiply everything by `factor`."""
        self._matrix *= np.float32(factor)

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


@compiled
def _add(matrix: F32, loaded: NDArray[np.bool_], numbers: I64, starts: I64, ends: I64, records: U32, factor: np.float32) -> None:
    for i in range(len(numbers)):
        number = numbers[i]
        if number >= len(matrix):
            raise IndexError("there is no room for the row of an item")
        for at in range(starts[i], ends[i] if loaded[number] else starts[i]):
            neighbour = records[at, 0]
            if neighbour >= len(matrix):
                raise IndexError("there is no room for an item")
            matrix[number, neighbour] += np.float32(records[at, 1]) * factor


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


class SparseNeighbours:
    """Rows as pairs of arrays, with what was added since appended behind and summed when the row is next read."""

    def __init__(self, n_items: int = 256) -> None:
        self._parts: dict[int, list[tuple[U32, F32]]] = {}
        self.loaded: NDArray[np.bool_] = np.zeros(n_items, np.bool_)

    def grow(self, n_items: int) -> None:
        """Make room for item numbers below `n_items`."""
        if n_items > len(self.loaded):
            more = max(n_items, 2 * len(self.loaded)) - len(self.loaded)
            self.loaded = np.concatenate((self.loaded, np.zeros(more, np.bool_)))

    def hold_all(self) -> None:
        """Hold every row: what was not added here is zero."""
        for number in np.flatnonzero(~self.loaded).tolist():
            self.set_row(number, np.zeros(0, np.uint32), np.zeros(0, np.float32))

    def clear(self) -> None:
        """Hold no row."""
        self._parts.clear()
        self.loaded[:] = False

    def set_row(self, number: int, neighbours: U32, values: F32) -> None:
        """Replace a row. `neighbours` (n,) distinct, `values` (n,)."""
        order = np.argsort(neighbours)
        self._parts[number] = [(neighbours[order], values[order])]
        self.loaded[number] = True

    def add_row(self, number: int, neighbours: U32, values: F32) -> None:
        """Add `values` (n,) of distinct `neighbours` (n,) to a row, if it is held."""
        parts = self._parts.get(number)
        if parts is not None:
            parts.append((neighbours, values))

    def add(self, numbers: I64, starts: I64, ends: I64, records: U32, factor: np.float32) -> None:
        """Add to distinct rows (R,), to each `records[starts:ends]`, neighbours and amounts (n, 2), times `factor`; rows that are not held
        are passed over."""
        values = records[:, 1].astype(np.float32) * factor
        neighbours = records[:, 0].copy()  # and not a view, which would keep the amounts too
        for number, start, end in zip(numbers.tolist(), starts.tolist(), ends.tolist(), strict=True):
            self.add_row(number, neighbours[start:end], values[start:end])

    def scale(self, factor: float) -> None:
        """Multiply everything by `factor`."""
        for number, parts in self._parts.items():
            self._parts[number] = [(neighbours, values * np.float32(factor)) for neighbours, values in parts]

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
