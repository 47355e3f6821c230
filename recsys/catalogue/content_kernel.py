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
def explain(features: F32, width: int, recent: I64, likings: F32, items: I64, added: F32) -> None:
    """Add to `added` (U, K, R) the inner products, at least 0, of the listed `items` (U, K), −1 for none, and the `recent` items (U, R)
    times `likings` (U, R); the first `width` columns of `features` (at least N, F) count."""
    columns = np.empty(width, np.int64)
    for user in range(len(items)):
        for k in range(items.shape[1]):
            item, n_columns = items[user, k], 0
            if item < 0:
                continue
            for f in range(width):
                columns[n_columns] = f
                n_columns += features[item, f] != 0
            for r in range(recent.shape[1]):
                if likings[user, r] == 0:
                    continue
                if n_columns * _SPARSE < width:
                    product = np.float32(0)
                    for at in range(n_columns):
                        product += features[item, columns[at]] * features[recent[user, r], columns[at]]
                else:
                    product = dot(features[item, :width], features[recent[user, r], :width])
                added[user, k, r] += max(product * likings[user, r], np.float32(0))
