"""Weighted sums of rows of neighbours, compiled.

Shapes: U users, R recent interactions, N items, C candidates, K places, M rows of neighbours.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import add
from recsys.index.scan_kernel import replace_least
from recsys.jit import compiled, compiled_sums
from recsys.lists.sources.base import CountRows

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

_TOGETHER = 5
"""Rows that are added at once."""
_GOLDEN = 2_654_435_769
"""2³² divided by the golden ratio."""


class Table(NamedTuple):
    """Sums of one user's rows in a hash table with room for twice the items: a user's few hundred sums stay in the processor's cache,
    which an array over all items leaves. `items` (T,) are −1 where a place is free; `places` (m,) are those in use, in order."""

    items: I64
    sums: F32
    places: I64


@compiled
def nominate(rows: CountRows, numbers: I64) -> None:
    """Write the items with the largest sums above 0 into `numbers` (U, n), −1 for none, in any order. `rows` are sparse, with values
    ≥ 0."""
    best, table = np.empty(numbers.shape[1], np.float32), _table(rows)
    for user in range(len(numbers)):
        n_used = _sum_sparse(rows, user, table)
        best[:], numbers[user] = -np.inf, -1
        for at in range(n_used):
            place = table.places[at]
            value = table.sums[place]
            if value > best[0]:
                replace_least(best, numbers[user], value, table.items[place])
            table.items[place] = -1


@compiled
def score_sparse(rows: CountRows, numbers: I64, raw: F32) -> None:
    """Write the sums of sparse rows at `numbers` (U, C) into `raw` (U, C)."""
    table = _table(rows)
    for user in range(len(numbers)):
        n_used = _sum_sparse(rows, user, table)
        for column in range(numbers.shape[1]):
            place = _place(table.items, numbers[user, column])
            raw[user, column] = table.sums[place] if table.items[place] >= 0 else np.float32(0)
        for at in range(n_used):
            table.items[table.places[at]] = -1


@compiled
def score_dense(rows: CountRows, numbers: I64, raw: F32) -> None:
    """Write the sums of rows of the matrix at `numbers` (U, C) into `raw` (U, C)."""
    for user in range(len(numbers)):
        score_dense_at(rows, rows.places[user], rows.weights[user], numbers[user], raw[user])


@compiled
def score_dense_at(rows: CountRows, places: I64, weights: F32, numbers: I64, raw: F32) -> None:
    """Write one user's sums of the rows at `places` (R,), times `weights` (R,), at `numbers` (C,) into `raw` (C,)."""
    raw[:] = 0
    for r in range(len(places)):
        if weights[r] != 0:
            for column in range(len(numbers)):
                raw[column] += rows.matrix[places[r], numbers[column]] * weights[r]
    for column in range(len(numbers)):
        raw[column] *= rows.factor[numbers[column]]


@compiled
def _table(rows: CountRows) -> Table:
    """Return an empty table for the user with the most neighbours."""
    most = 0
    for user in range(len(rows.places)):
        own = 0
        for r in range(rows.places.shape[1]):
            if rows.places[user, r] >= 0:
                own += rows.starts[rows.places[user, r] + 1] - rows.starts[rows.places[user, r]]
        most = max(most, own)
    size = 2
    while size < 2 * most:
        size *= 2
    return Table(np.full(size, -1, np.int64), np.empty(size, np.float32), np.empty(max(most, 1), np.int64))


@compiled
def _place(items: I64, item: int) -> int:
    """Return where a table's `items` (T,), T a power of two, hold an item, or the free place for it. Source: Knuth, The Art of Computer
    Programming 3, 6.4, multiplicative hashing with linear probing."""
    mask = len(items) - 1
    place = ((item * _GOLDEN) >> 16) & mask
    while items[place] >= 0 and items[place] != item:
        place = (place + 1) & mask
    return place


@compiled
def _sum_sparse(rows: CountRows, user: int, table: Table) -> int:
    """Add a user's weighted rows to an empty table; return the number of places in use."""
    starts, neighbours, values, places, weights = rows.starts, rows.neighbours, rows.values, rows.places[user], rows.weights[user]
    n_used = 0
    for r in range(len(places)):
        if places[r] < 0 or weights[r] == 0:
            continue
        for at in range(starts[places[r]], starts[places[r] + 1]):
            added = weights[r] * values[at]
            if added > 0:
                place = _place(table.items, neighbours[at])
                if table.items[place] < 0:
                    table.items[place], table.sums[place] = neighbours[at], 0
                    table.places[n_used] = place
                    n_used += 1
                table.sums[place] += added
    return n_used


@compiled
def sum_rows(rows: CountRows, user: int, out: F32) -> None:
    """Write a user's weighted sum of rows into `out` (N,)."""
    if len(rows.matrix):
        _sum_dense(rows.matrix, rows.places[user], rows.weights[user], rows.factor, out)
        return
    out[:] = 0
    places, weights = rows.places[user], rows.weights[user]
    for r in range(len(places)):
        if places[r] >= 0 and weights[r] != 0:
            for at in range(rows.starts[places[r]], rows.starts[places[r] + 1]):
                out[rows.neighbours[at]] += weights[r] * rows.values[at]


@compiled_sums
def _sum_dense(matrix: F32, places: I64, weights: F32, factor: F32, out: F32) -> None:
    out[:] = 0
    for r in range(0, len(places) - _TOGETHER + 1, _TOGETHER):
        a, b, c, d, e = places[r], places[r + 1], places[r + 2], places[r + 3], places[r + 4]
        _add_five(out, matrix[a], matrix[b], matrix[c], matrix[d], matrix[e], weights[r : r + _TOGETHER])
    for r in range(len(places) - len(places) % _TOGETHER, len(places)):
        add(out, matrix[places[r]], weights[r])
    for i in range(len(out)):
        out[i] *= factor[i]


@compiled_sums
def _add_five(total: F32, a: F32, b: F32, c: F32, d: F32, e: F32, scales: F32) -> None:
    """Add five rows at once: their values come from further away than the sums."""
    of_a, of_b, of_c, of_d, of_e = scales[0], scales[1], scales[2], scales[3], scales[4]
    for i in range(len(total)):
        total[i] += a[i] * of_a + b[i] * of_b + c[i] * of_c + d[i] * of_d + e[i] * of_e


@compiled
def explain(rows: CountRows, scale: F32, items: I64, added: F32) -> None:
    """Add to `added` (U, K, R) what each recent item's row gives to the listed `items` (U, K), −1 for none, times `scale` (U,)."""
    n_recent = rows.places.shape[1]
    counted = np.empty(n_recent, np.float32)
    for user in range(len(items)):
        for r in range(n_recent):
            counted[r] = rows.weights[user, r] * scale[user]
        for k in range(items.shape[1]):
            item = items[user, k]
            if item < 0:
                continue
            for r in range(n_recent):
                place = rows.places[user, r]
                if place < 0 or counted[r] == 0:
                    continue
                if len(rows.matrix):
                    added[user, k, r] += rows.matrix[place, item] * counted[r] * rows.factor[item]
                else:
                    at = search(rows.neighbours, rows.starts[place], rows.starts[place + 1], item)
                    if at >= 0:
                        added[user, k, r] += counted[r] * rows.values[at]


@compiled
def search(neighbours: I64, start: int, end: int, item: int) -> int:
    """Return where `item` is among the neighbours from `start` to `end`, ascending; −1 if it is not."""
    stop = end
    while start < end:
        middle = (start + end) // 2
        if neighbours[middle] < item:
            start = middle + 1
        else:
            end = middle
    return start if start < stop and neighbours[start] == item else -1
