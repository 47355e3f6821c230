"""Reads candidates by each recent item alone, compiled.

Shapes: U users, R recent interactions, P candidates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled
from recsys.lists.sources.base import CountRows
from recsys.lists.sources.cooccurrence_kernel import search

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

NEWEST = 3
"""Liked items that are read alone."""
N_READINGS = NEWEST + 3


@compiled
def read(rows: CountRows, weights: F32, numbers: I64, out: F32) -> None:
    """Write what the recent items' rows give to the candidates `numbers` (U, P), −1 for none, into `out` (U, 6, P): the newest three with
    `weights` (U, R) above 0, the newest first, the sum over all, the most that one gives, and how many give something."""
    out[:] = 0
    for user in range(len(numbers)):
        found, place = out[user], 0
        for r in range(rows.places.shape[1] - 1, -1, -1):
            row, weight = rows.places[user, r], weights[user, r]
            if weight <= 0 or row < 0:
                continue
            for column in range(numbers.shape[1]):
                item, value = numbers[user, column], np.float32(0)
                if item < 0:
                    continue
                if len(rows.matrix):
                    value = rows.matrix[row, item] * rows.factor[item] * weight
                else:
                    at = search(rows.neighbours, rows.starts[row], rows.starts[row + 1], item)
                    if at >= 0:
                        value = rows.values[at] * weight
                if place < NEWEST:
                    found[place, column] = value
                found[NEWEST, column] += value
                found[NEWEST + 1, column] = max(found[NEWEST + 1, column], value)
                found[NEWEST + 2, column] += np.float32(value > 0)
            place += 1
