"""Skip-grams with negative sampling over users' histories, compiled.

Shapes: T preferences of U users one after another, of which user u has `starts[u]` to `starts[u + 1]`, oldest first; I items; D factors.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import add, dot
from recsys.jit import compiled
from recsys.models.random_kernel import below, drawn, following, share

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@compiled
def _compare(centre: F32, context: F32, label: int, step: np.float32, change: F32) -> None:
    """Move a context (D,) towards σ(centre · context) = label, and add to `change` (D,) how the centre is to move."""
    size = step * np.float32(label - 1 / (1 + math.exp(-dot(centre, context))))
    add(change, context, size)
    add(context, centre, size)


@compiled
def _thinned(items: I32, shares: F32, is_ordered: bool, state: np.uint64, out: I32) -> tuple[np.uint64, int]:
    """Copy the items of a history into `out`, each with the probability `shares[item]`, shuffled unless `is_ordered`; return the next state
    and how many these are."""
    n = 0
    for item in items:
        state = following(state)
        if share(state) < shares[item]:
            out[n] = item
            n += 1
    if not is_ordered:
        for at in range(n - 1, 0, -1):
            state = following(state)
            other = below(state, at + 1)
            out[at], out[other] = out[other], out[at]
    return state, n


@compiled
def epoch(
    order: I64,
    items: I32,
    starts: I64,
    shares: F32,
    kept: F32,
    others: I32,
    window: int,
    is_ordered: bool,
    n_negatives: int,
    first_step: np.float32,
    last_step: np.float32,
    state: np.uint64,
    centres: F32,
    contexts: F32,
) -> np.uint64:
    """Move centres and contexts (I, D) for each pair of items near each other, user after user in the given `order` (U,); return the next
    state. `shares` (I,) is how likely an item is read, `kept` and `others` (I,) the table by which negatives are drawn."""
    longest = 0
    for user in range(len(starts) - 1):
        longest = max(longest, starts[user + 1] - starts[user])
    read, change = np.empty(longest, np.int32), np.empty(centres.shape[1], np.float32)
    for place in range(len(order)):
        step = np.float32(first_step + (last_step - first_step) * place / len(order))
        own = slice(starts[order[place]], starts[order[place] + 1])
        state, n = _thinned(items[own], shares, is_ordered, state, read)
        for at in range(n):
            state = following(state)
            width = int(1 + below(state, window))
            for near in range(max(0, at - width), min(n, at + width + 1)):
                if near == at:
                    continue
                centre, wanted = centres[read[at]], read[near]
                change[:] = 0
                _compare(centre, contexts[wanted], 1, step, change)
                for _ in range(n_negatives):
                    state = following(state)
                    other = drawn(state, kept, others)
                    if other != wanted:
                        _compare(centre, contexts[other], 0, step, change)
                add(centre, change, np.float32(1))
    return state


@compiled
def means(items: I32, weights: F32, starts: I64, decay: np.float32, vectors: F32, out: F32) -> None:
    """Write the weighted mean of each user's liked items into `out` (U, D), which is zero; of an item with n newer ones the weight is
    multiplied by `decay`ⁿ. A user who likes nothing keeps 0."""
    for user in range(len(out)):
        factor, total = np.float32(1), np.float32(0)
        for at in range(starts[user + 1] - 1, starts[user] - 1, -1):
            if weights[at] <= 0:
                continue
            weight = weights[at] * factor
            add(out[user], vectors[items[at]], weight)
            total += weight
            factor *= decay
        if total > 0:
            out[user] /= total
