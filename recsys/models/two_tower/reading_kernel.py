"""Weighs the entries of histories by rank and age, compiled.

Shapes: U users, L entries of a history, R classes of rank, A classes of age.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

EDGES_S = np.array([1, 60, 600, 3_600, 6 * 3_600, 86_400, 7 * 86_400, 30 * 86_400, 365 * 86_400], np.float32)
"""Ages in seconds at which the next class begins."""
N_AGES = len(EDGES_S) + 1
N_RANKS = 12


@compiled
def classes(items: I32, ages_s: F32, edges_s: F32, ranks: I64, ages: I64) -> None:
    """Write the class of each liked entry's rank, ⌊log₂ (1 + number of newer ones)⌋, and of its age into `ranks` and `ages` (U, L);
    items (U, L) of −1 get 0."""
    for user in range(len(items)):
        n_newer = 0
        for at in range(items.shape[1] - 1, -1, -1):
            ranks[user, at], ages[user, at] = 0, 0
            if items[user, at] < 0:
                continue
            rank, left = 0, n_newer + 1
            while left > 1 and rank < N_RANKS - 1:
                left >>= 1
                rank += 1
            ranks[user, at] = rank
            age = 0
            while age < len(edges_s) and ages_s[user, at] >= edges_s[age]:
                age += 1
            ages[user, at] = age
            n_newer += 1


@compiled
def scales(items: I32, ranks: I64, ages: I64, by_rank: F32, by_age: F32, out: F32) -> None:
    """Write a / √Σa into `out` (U, L), where a = `by_rank` · `by_age` of an entry's classes, 0 for items (U, L) of −1."""
    for user in range(len(items)):
        total = np.float32(0)
        for at in range(items.shape[1]):
            out[user, at] = by_rank[ranks[user, at]] * by_age[ages[user, at]] if items[user, at] >= 0 else np.float32(0)
            total += out[user, at]
        if total > 0:
            for at in range(items.shape[1]):
                out[user, at] /= np.sqrt(total)
