"""Features as sparse rows: the few columns of each item that are not 0.

Shapes: N items, F features, G rows, W most columns of a row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Sparse(NamedTuple):
    """Rows of `values` (G, W) at `columns` (G, W); behind a row's last column both are 0."""

    columns: I32
    values: F32


def sparse_rows(features: F32, left_out: Bools) -> Sparse:
    """Return what is not 0 in `features` (N, F), which lie column after column in memory, but for the columns `left_out` (F,)."""
    columns, counts = np.ascontiguousarray(features.T), np.zeros(len(features), np.int64)
    _count(columns, left_out, counts)
    shape = (len(features), max(int(counts.max(initial=0)), 1))
    found = Sparse(np.zeros(shape, np.int32), np.zeros(shape, np.float32))
    _fill(columns, left_out, counts, found.columns, found.values)
    return found


@compiled
def _count(features: F32, left_out: Bools, counts: I64) -> None:
    """Add the number of columns that are not 0 in `features` (F, N) to `counts` (N,)."""
    for column in range(len(features)):
        if not left_out[column]:
            for row in range(len(counts)):
                counts[row] += features[column, row] != 0


@compiled
def _fill(features: F32, left_out: Bools, counts: I64, columns: I32, values: F32) -> None:
    """Write what is not 0 in `features` (F, N) into `values` (N, W), and where it was into `columns` (N, W). `counts` (N,) change."""
    counts[:] = 0
    for column in range(len(features)):
        if not left_out[column]:
            for row in range(len(counts)):
                if features[column, row] != 0:
                    columns[row, counts[row]], values[row, counts[row]] = column, features[column, row]
                    counts[row] += 1
