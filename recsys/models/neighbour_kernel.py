"""Weighted sums of sparse rows, of either sign, compiled.

Shapes: U users, R rows that are read of a user, C items that are scored, N items in all, M rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.index.scan_kernel import replace_least
from recsys.jit import compiled

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@compiled
def add_rows(starts: I64, columns: I32, values: F32, places: I32, weights: F32, sums: F32) -> None:
    """Add the rows at `places` (R,), −1 for none, times `weights` (R,), to `sums` (≥ N,)."""
    for r in range(len(places)):
        if places[r] >= 0 and weights[r] != 0:
            for at in range(starts[places[r]], starts[places[r] + 1]):
                sums[columns[at]] += weights[r] * values[at]


@compiled
def clear_rows(starts: I64, columns: I32, places: I32, weights: F32, sums: F32) -> None:
    """Set `sums` (≥ N,) to 0 where `add_rows` changed them."""
    for r in range(len(places)):
        if places[r] >= 0 and weights[r] != 0:
            for at in range(starts[places[r]], starts[places[r] + 1]):
                sums[columns[at]] = 0


@compiled
def write_all(starts: I64, columns: I32, values: F32, places: I32, weights: F32, raw: F32) -> None:
    """Write each user's sums over all items into `raw` (U, N). `places` and `weights` are (U, R)."""
    raw[:] = 0
    for user in range(len(raw)):
        add_rows(starts, columns, values, places[user], weights[user], raw[user])


@compiled
def write_at(starts: I64, columns: I32, values: F32, places: I32, weights: F32, numbers: I64, sums: F32, raw: F32) -> None:
    """Write each user's sums at `numbers` (U, C), −1 for none, into `raw` (U, C). `sums` (≥ N,) is zero before and after."""
    for user in range(len(raw)):
        add_rows(starts, columns, values, places[user], weights[user], sums)
        for column in range(numbers.shape[1]):
            number = numbers[user, column]
            raw[user, column] = sums[number] if number >= 0 else np.float32(0)
        clear_rows(starts, columns, places[user], weights[user], sums)


@compiled
def nominate(starts: I64, columns: I32, values: F32, places: I32, weights: F32, sums: F32, numbers: I64) -> None:
    """Write the items with the largest sums above 0 into `numbers` (U, n), −1 for none, in any order. `sums` (≥ N,) is zero before and
    after."""
    best = np.empty(numbers.shape[1], np.float32)
    for user in range(len(numbers)):
        add_rows(starts, columns, values, places[user], weights[user], sums)
        best[:], numbers[user] = 0, -1
        for r in range(places.shape[1]):
            place = places[user, r]
            if place >= 0 and weights[user, r] != 0:
                for at in range(starts[place], starts[place + 1]):
                    value = sums[columns[at]]
                    sums[columns[at]] = 0
                    if value > best[0]:
                        replace_least(best, numbers[user], value, columns[at])


@compiled
def strongest(values: F32, size: int, kept: NDArray[np.bool_]) -> None:
    """Mark in `kept` (B, N) the up to `size` values of largest magnitude in each row of `values` (B, N), zeros never."""
    best, at = np.empty(size, np.float32), np.empty(size, np.int64)
    for row in range(len(values)):
        best[:], at[:] = 0, -1
        for column in range(values.shape[1]):
            magnitude = abs(values[row, column])
            if magnitude > best[0]:
                replace_least(best, at, magnitude, column)
        kept[row] = False
        for place in at:
            if place >= 0:
                kept[row, place] = True


@compiled
def explain(starts: I64, columns: I32, values: F32, places: I32, items: I64, sums: F32, scale: F32, added: F32) -> None:
    """Add to `added` (U, K, R) what the row at each of `places` (U, R), −1 for none, holds of `items` (U, K), −1 for none, times `scale`
    (U,). `sums` (≥ N,) is zero before and after."""
    for user in range(len(items)):
        if scale[user] == 0:
            continue
        for r in range(places.shape[1]):
            place = places[user, r]
            if place < 0:
                continue
            for at in range(starts[place], starts[place + 1]):
                sums[columns[at]] = values[at]
            for k in range(items.shape[1]):
                if items[user, k] >= 0:
                    added[user, k, r] += sums[items[user, k]] * scale[user]
            for at in range(starts[place], starts[place + 1]):
                sums[columns[at]] = 0
