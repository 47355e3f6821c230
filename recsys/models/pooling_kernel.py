"""Sums of rows over histories, compiled.

Shapes: U users, L entries of a history, I items, D dimensions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import add
from recsys.jit import compiled_sums

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@compiled_sums
def pooled(items: I32, scales: F32, table: F32, out: F32) -> None:
    """Write Σ scale · row of `table` (I, D) over the entries of each history into `out` (U, D). Where an item is −1 or its scale 0 nothing
    is added; items and scales are (U, L)."""
    for user in range(len(items)):
        out[user] = 0
        for at in range(items.shape[1]):
            if items[user, at] >= 0 and scales[user, at] != 0:
                add(out[user], table[items[user, at]], scales[user, at])


@compiled_sums
def spread(starts: I64, columns: I32, weights: F32, table: F32, rows: I64, out: F32) -> None:
    """Write Σ weight · row of `table` (C, D) over the columns of each of the sparse `rows` (R,) into `out` (R, D)."""
    for at in range(len(rows)):
        out[at] = 0
        for entry in range(starts[rows[at]], starts[rows[at] + 1]):
            add(out[at], table[columns[entry]], weights[entry])


@compiled_sums
def scatter(starts: I64, columns: I32, weights: F32, table: F32, rows: I64, out: F32) -> None:
    """Add to `out` (C, D), for each of the sparse `rows` (R,), weight · row of `table` (R, D) at its columns: the adjoint of `spread`."""
    for at in range(len(rows)):
        for entry in range(starts[rows[at]], starts[rows[at] + 1]):
            add(out[columns[entry]], table[at], weights[entry])
