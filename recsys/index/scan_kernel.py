"""Scans lists of vectors for many queries at once, and keeps the best of each query.

Shapes: N vectors, D dimensions, L lists, U queries, P pairs of a list and a query that scans it, K places. Lists lie one after another.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import dot
from recsys.jit import compiled, compiled_sums

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

TOGETHER = 4
"""Queries and dimensions multiplied at once."""
_TILE = 256
"""Vectors transposed at once: 64 KiB at 64 dimensions."""
_RUN = 16
"""Neighbouring products of which only the best is looked at first."""
_FEW = 3
"""Up to this many queries that scan a list are served without transposing its vectors."""


@compiled
def nth_largest(scores: F32, rows: I64, n: int, found: F32) -> None:
    """Write the n-th largest of some `rows` (R,) of scores (U, S), n ≥ 1, into `found` (R,)."""
    best, places = np.empty(n, np.float32), np.empty(n, np.int64)
    for place in range(len(rows)):
        best[:] = -np.inf
        keep(scores[rows[place]], scores.shape[1], 0, np.float32(-np.inf), best, places)
        found[place] = best[0]


@compiled
def count_scanned(bound: F32, least: F32, ends: I64) -> None:
    """Write into `ends` (L,) up to where the pairs of each list reach, when a query scans the lists whose `bound` (L, U) is at least its
    `least`."""
    total = 0
    for number in range(len(bound)):
        for user in range(len(least)):
            total += bound[number, user] >= least[user]
        ends[number] = total


@compiled
def name_scanned(bound: F32, least: F32, users: I64) -> None:
    """Write the queries of all pairs, list after list, into `users` (P,)."""
    at = 0
    for number in range(len(bound)):
        for user in range(len(least)):
            if bound[number, user] >= least[user]:
                users[at] = user
                at += 1


@compiled
def scan(vectors: F32, list_ends: I64, queries: F32, pair_ends: I64, users: I64, least: F32, scores: F32, rows: I64) -> None:
    """Keep of each query (U, D) the best inner products above `least` (U,) with the vectors (N, D) of its lists: `scores` and `rows`
    (U, K) are heaps, the least one first; begin with −∞ and −1."""
    n_dimensions = queries.shape[1]
    padded = -(-n_dimensions // TOGETHER) * TOGETHER
    asked = np.zeros((len(queries), padded), np.float32)
    asked[:, :n_dimensions] = queries
    tile, products = np.zeros((padded, _TILE), np.float32), np.zeros((TOGETHER, _TILE), np.float32)
    own, first_pair, first_row = np.empty(TOGETHER, np.int64), 0, 0
    for number in range(len(list_ends)):
        end_pair, end_row = pair_ends[number], list_ends[number]
        for start in range(first_row, end_row if end_pair > first_pair else first_row, _TILE):
            count = min(_TILE, end_row - start)
            few = end_pair - first_pair <= _FEW
            if not few:
                _turn(vectors[start : start + count], tile)
            for pair in range(first_pair, end_pair, TOGETHER):
                together = min(TOGETHER, end_pair - pair)
                for place in range(TOGETHER):
                    own[place] = users[pair + min(place, together - 1)]
                if few:
                    for place in range(together):
                        _dots(vectors[start : start + count], queries[own[place]], products[place])
                else:
                    _multiply(tile, -(-count // _RUN) * _RUN, asked[own[0]], asked[own[1]], asked[own[2]], asked[own[3]], products)
                for place in range(together):
                    user = own[place]
                    keep(products[place], count, start, least[user], scores[user], rows[user])
        first_pair, first_row = end_pair, end_row


@compiled
def keep(products: F32, count: int, first: int, least: np.float32, scores: F32, rows: I64) -> None:
    """Put those of the first `count` products that are above `least` and above the heap's least one into the heap `scores`, `rows` (K,);
    the first one is row number `first`."""
    limit = max(least, scores[0])
    for start in range(0, count, _RUN):
        end = min(start + _RUN, count)
        if _largest(products, start, end) <= limit:
            continue
        for at in range(start, end):
            if products[at] > limit:
                replace_least(scores, rows, products[at], first + at)
                limit = max(least, scores[0])


@compiled
def replace_least(scores: F32, rows: I64, score: np.float32, row: int) -> None:
    """Put a score in the place of the least one of a heap (K,)."""
    place, size = 0, len(scores)
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and scores[child + 1] < scores[child]:
            child += 1
        if scores[child] >= score:
            break
        scores[place], rows[place] = scores[child], rows[child]
        place = child
    scores[place], rows[place] = score, row


@compiled
def in_order(scores: F32, rows: I64) -> None:
    """Turn heaps (U, K) into rows with the largest first, equal ones by row."""
    for user in range(len(scores)):
        own, numbers = scores[user], rows[user]
        for place in range(1, len(own)):
            score, number, back = own[place], numbers[place], place
            while back > 0 and (own[back - 1] < score or (own[back - 1] == score and numbers[back - 1] > number)):
                own[back], numbers[back] = own[back - 1], numbers[back - 1]
                back -= 1
            own[back], numbers[back] = score, number


@compiled
def at_rows(vectors: F32, queries: F32, rows: I64, scores: F32) -> None:
    """Write the inner products of query u (U, D) with the vectors (N, D) in `rows[u]` (U, C), −1 being the last one, into `scores` (U,
    C)."""
    for user in range(len(rows)):
        for column in range(rows.shape[1]):
            scores[user, column] = dot(vectors[rows[user, column]], queries[user])


@compiled
def _dots(vectors: F32, query: F32, products: F32) -> None:
    for row in range(len(vectors)):
        products[row] = dot(vectors[row], query)


@compiled_sums
def _largest(values: F32, start: int, end: int) -> np.float32:
    best: np.float32 = values[start]
    for at in range(start + 1, end):
        best = max(best, values[at])
    return best


@compiled
def _turn(vectors: F32, tile: F32) -> None:
    """Write the vectors (n, D) as columns into `tile`; the columns behind them, up to whole runs, keep what they had."""
    for row in range(len(vectors)):
        for d in range(vectors.shape[1]):
            tile[d, row] = vectors[row, d]


@compiled_sums
def _multiply(tile: F32, width: int, a: F32, b: F32, c: F32, e: F32, products: F32) -> None:
    """Write the inner products of four queries with the first `width` columns of `tile`, four dimensions at a time, so that a sum is
    fetched and put back once for four of its addends."""
    of_a, of_b, of_c, of_e = products[0], products[1], products[2], products[3]
    products[:, :width] = 0
    for d in range(0, len(tile), 4):
        a0, a1, a2, a3 = a[d], a[d + 1], a[d + 2], a[d + 3]
        b0, b1, b2, b3 = b[d], b[d + 1], b[d + 2], b[d + 3]
        c0, c1, c2, c3 = c[d], c[d + 1], c[d + 2], c[d + 3]
        e0, e1, e2, e3 = e[d], e[d + 1], e[d + 2], e[d + 3]
        row0, row1, row2, row3 = tile[d], tile[d + 1], tile[d + 2], tile[d + 3]
        for at in range(width):
            x0, x1, x2, x3 = row0[at], row1[at], row2[at], row3[at]
            of_a[at] += x0 * a0 + x1 * a1 + x2 * a2 + x3 * a3
            of_b[at] += x0 * b0 + x1 * b1 + x2 * b2 + x3 * b3
            of_c[at] += x0 * c0 + x1 * c1 + x2 * c2 + x3 * c3
            of_e[at] += x0 * e0 + x1 * e1 + x2 * e2 + x3 * e3
