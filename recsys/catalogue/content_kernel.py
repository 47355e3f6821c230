"""Content by kind, compiled: inner products of profiles and kinds. Shapes: U users, C candidates, G kinds, W columns of a kind."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import dot
from recsys.jit import compiled

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_SPARSE = 4
"""Only the columns of an item that are not 0 are read if there are fewer than this part of all."""


@compiled
def kind_scores(columns: I32, values: F32, profiles: F32, kinds: I64, scores: F32) -> None:
    """Write the inner products of profile u (U, F) with the kinds of `kinds[u]` (U, C), each of which has `values` (G, W) at `columns` (G,
    W), into `scores` (U, C)."""
    for user in range(len(kinds)):
        for c in range(kinds.shape[1]):
            kind, total = kinds[user, c], np.float32(0)
            for w in range(columns.shape[1]):
                total += profiles[user, columns[kind, w]] * values[kind, w]
            scores[user, c] = total


@compiled
def kinds_alike(columns: I32, values: F32, width: int, listed: I64, read: I64, alike: F32) -> None:
    """Write the inner products, at least 0, of the kinds `listed` (U, K) with those `read` (U, R), into `alike` (U, K, R); F = `width`."""
    dense = np.zeros(max(width, 1), np.float32)
    for user in range(len(listed)):
        for r in range(read.shape[1]):
            kind = read[user, r]
            for w in range(columns.shape[1]):
                dense[columns[kind, w]] += values[kind, w]
            for k in range(listed.shape[1]):
                other, total = listed[user, k], np.float32(0)
                for w in range(columns.shape[1]):
                    total += dense[columns[other, w]] * values[other, w]
                alike[user, k, r] = max(total, np.float32(0))
            for w in range(columns.shape[1]):
                dense[columns[kind, w]] = 0


@compiled
def heads_of(heads: I32, kinds: I64, found: I64) -> None:
    """Write the held items of `kinds` (U, G), −1 where a kind (heads, H) has fewer, kind after kind into `found` (U, K) until it is full;
    kind 0 has none."""
    for user in range(len(kinds)):
        count = 0
        for g in range(kinds.shape[1]):
            kind = kinds[user, g]
            for h in range(heads.shape[1] if kind > 0 else 0):
                if count < found.shape[1] and heads[kind, h] >= 0:
                    found[user, count] = heads[kind, h]
                    count += 1


@compiled
def likeness(features: F32, width: int, recent: I64, strengths: F32, items: I64, out: F32) -> None:
    """Write the inner products, at least 0, of `items` (U, P), −1 for none, with the newest liked item and with the liked one that is most
    alike into `out` (U, 2, P): of the `recent` items (U, R), the newest last, those with `strengths` (U, R) above 0. The first `width`
    columns of `features` (at least N, F) count."""
    columns, liked = np.empty(width, np.int64), np.empty(recent.shape[1], np.int64)
    out[:] = 0
    for user in range(len(items)):
        n_liked = 0
        for r in range(recent.shape[1] - 1, -1, -1):
            if strengths[user, r] > 0:
                liked[n_liked] = recent[user, r]
                n_liked += 1
        for k in range(items.shape[1] if n_liked else 0):
            item = items[user, k]
            if item < 0:
                continue
            n_columns = _columns_of(features, width, item, columns)
            for at in range(n_liked):
                product = max(_product(features, width, item, liked[at], columns, n_columns), np.float32(0))
                if at == 0:
                    out[user, 0, k] = product
                out[user, 1, k] = max(out[user, 1, k], product)


@compiled
def strongest_likeness(alike: F32, strengths: F32, out: F32) -> None:
    """Write the likeness to the newest liked item, and to the one that is most alike, into `out` (U, 2, P). `alike` (U, P, R), and
    `strengths` (U, R), above 0 for liked items, the newest last."""
    out[:] = 0
    for user in range(len(alike)):
        newest = -1
        for r in range(strengths.shape[1]):
            if strengths[user, r] > 0:
                newest = r
        for column in range(alike.shape[1] if newest >= 0 else 0):
            out[user, 0, column] = alike[user, column, newest]
            for r in range(strengths.shape[1]):
                if strengths[user, r] > 0:
                    out[user, 1, column] = max(out[user, 1, column], alike[user, column, r])


@compiled
def explain(features: F32, width: int, recent: I64, likings: F32, items: I64, added: F32) -> None:
    """Add to `added` (U, K, R) the inner products, at least 0, of the listed `items` (U, K), −1 for none, and the `recent` items (U, R)
    times `likings` (U, R); the first `width` columns of `features` (at least N, F) count."""
    columns = np.empty(width, np.int64)
    for user in range(len(items)):
        for k in range(items.shape[1]):
            item = items[user, k]
            if item < 0:
                continue
            n_columns = _columns_of(features, width, item, columns)
            for r in range(recent.shape[1]):
                if likings[user, r] != 0:
                    product = _product(features, width, item, recent[user, r], columns, n_columns)
                    added[user, k, r] += max(product * likings[user, r], np.float32(0))


@compiled
def _columns_of(features: F32, width: int, item: int, columns: I64) -> int:
    """Write which of the first `width` features of an item are not 0 into `columns` (F,), and return how many they are."""
    n_columns = 0
    for f in range(width):
        columns[n_columns] = f
        n_columns += features[item, f] != 0
    return n_columns


@compiled
def _product(features: F32, width: int, item: int, other: int, columns: I64, n_columns: int) -> np.float32:
    """Return the inner product of the features of two items; `columns` are those of the first that are not 0."""
    if n_columns * _SPARSE >= width:
        return dot(features[item, :width], features[other, :width])
    product = np.float32(0)
    for at in range(n_columns):
        product += features[item, columns[at]] * features[other, columns[at]]
    return product
