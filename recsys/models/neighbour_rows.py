"""Sparse rows of neighbours as they are stored: M rows of pairs of a column and a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.errors import ModelError, ShapeError, TooFewInteractions
from recsys.models import neighbour_kernel

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


class NeighbourRows(NamedTuple):
    """Row m holds `values` (n,) float32 of `columns` (n,) int32, ascending, from `starts[m]` to `starts[m + 1]`; `starts` is (M + 1,)
    int64."""

    starts: I64
    columns: I32
    values: F32

    def __len__(self) -> int:
        return len(self.starts) - 1

    @classmethod
    def of_dense(cls, dense: F32, size: int) -> Self:
        """Return the `size` values of largest magnitude of each row of `dense` (M, N), without zeros."""
        kept = np.empty(dense.shape, np.bool_)
        neighbour_kernel.strongest(dense, min(size, dense.shape[1]), kept)
        counts = kept.sum(axis=1)
        return cls(np.concatenate(([0], np.cumsum(counts))).astype(np.int64), np.nonzero(kept)[1].astype(np.int32), dense[kept])

    @classmethod
    def joined(cls, parts: list[NeighbourRows]) -> Self:
        """Return the rows of all parts, one after another."""
        ends = np.cumsum([0, *(len(part.columns) for part in parts)])
        starts = [part.starts[:-1] + end for part, end in zip(parts, ends[:-1], strict=True)]
        columns, values = np.concatenate([part.columns for part in parts]), np.concatenate([part.values for part in parts])
        return cls(np.concatenate([*starts, ends[-1:]]).astype(np.int64), columns, values)

    @classmethod
    def empty(cls, n_rows: int) -> Self:
        """Return rows without pairs."""
        return cls(np.zeros(n_rows + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))

    def transposed(self, n_columns: int) -> NeighbourRows:
        """Return a row for each of the N columns, with this one's rows as its columns."""
        matrix = sparse.csr_array((self.values, self.columns, self.starts), shape=(len(self), n_columns)).T.tocsr()
        return NeighbourRows(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data.astype(np.float32))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]], n_columns: int, n_rows: int | None = None) -> Self:
        """Read stored rows. Raises: ShapeError unless they are `n_rows` rows over `n_columns` columns, ascending without repeats."""
        for name, kind in (("starts", np.int64), ("columns", np.int32), ("values", np.float32)):
            if name not in tensors:
                raise ModelError(f"tensor {name} of the rows of neighbours is missing; train the model again")
            if tensors[name].dtype != kind or tensors[name].ndim != 1:
                raise ShapeError(f"tensor {name} of the rows of neighbours is {tensors[name].dtype} {tensors[name].shape}")
        rows = cls(tensors["starts"], tensors["columns"], tensors["values"])
        starts, columns = rows.starts, rows.columns
        if not len(starts) or (n_rows is not None and len(rows) != n_rows):
            raise ShapeError(f"there are {len(starts) - 1} rows of neighbours, expected {n_rows}")
        if starts[0] != 0 or starts[-1] != len(columns) or len(columns) != len(rows.values) or np.diff(starts).min(initial=0) < 0:
            raise ShapeError("tensor starts of the rows of neighbours does not fit their columns and values")
        if columns.min(initial=0) < 0 or columns.max(initial=-1) >= n_columns:
            raise ShapeError(f"tensor columns of the rows of neighbours names items beyond the {n_columns} of the model")
        begins = np.zeros(len(columns) + 1, np.bool_)
        begins[starts[:-1]] = True
        if (np.diff(columns)[~begins[1:-1]] <= 0).any():
            raise ShapeError("tensor columns of the rows of neighbours does not ascend within a row")
        return rows

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name."""
        return {"starts": self.starts, "columns": self.columns, "values": self.values}

    def renumbered(self, number_of: I64) -> NeighbourRows:
        """Return the rows with each column c as `number_of[c]` (N,), those of −1 left out; then columns need not ascend."""
        numbers = number_of.astype(np.int32)[self.columns]
        kept = numbers >= 0
        before = np.concatenate(([0], np.cumsum(kept)))
        return NeighbourRows(before[self.starts].astype(np.int64), numbers[kept], self.values[kept])


def check_learnt(kind: str, rows: NeighbourRows) -> None:
    """Raises: TooFewInteractions if no item has a neighbour."""
    if not rows.values.any():
        raise TooFewInteractions(f"{kind}: no two items have a user in common who prefers both")
