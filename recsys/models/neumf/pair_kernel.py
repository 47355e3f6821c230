"""Scores pairs of users and items by NeuMF, compiled.

Shapes: U users, C items of each, I items of the model, D dimensions, H units of the first layer, G of the second.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import add, dot
from recsys.jit import compiled_sums

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@compiled_sums
def scores(
    users: F32, wide_users: F32, places: I64, items: F32, wide_items: F32, narrow: F32, narrow_shift: F32, weights: F32, out: F32
) -> None:
    """Write the scores of the items at `places` (U, C) into `out` (U, C), 0 where a place is −1: users · items + weights · relu(narrowᵀ
    relu(wide user + wide item) + shift).

    `users` (U, D), `wide_users` (U, H), `items` (I, D), `wide_items` (I, H), `narrow` (H, G), `narrow_shift` and `weights` (G,).
    """
    second = np.empty(len(weights), np.float32)
    for user in range(len(places)):
        for column in range(places.shape[1]):
            item = places[user, column]
            if item < 0:
                out[user, column] = 0
                continue
            second[:] = narrow_shift
            for unit in range(len(narrow)):
                first = wide_users[user, unit] + wide_items[item, unit]
                if first > 0:
                    add(second, narrow[unit], first)
            score = dot(users[user], items[item])
            for unit in range(len(weights)):
                score += max(second[unit], np.float32(0)) * weights[unit]
            out[user, column] = score
