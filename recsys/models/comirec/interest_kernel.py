"""Reads the interests of histories, compiled.

Shapes: U users, L entries of a history, K interests, I items, D dimensions, R classes of rank, A classes of age.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import add
from recsys.jit import compiled_sums

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@compiled_sums
def interests(items: I32, ranks: I64, ages: I64, belongs: F32, by_rank: F32, by_age: F32, table: F32, out: F32) -> None:
    """Write to `out` (U, K, D) Σ a e / ‖a‖ over each history, where e are the rows of `table` (I, D) and a is for each interest a softmax
    of what `belongs` (I, K), `by_rank` (R, K) and `by_age` (A, K) say of the entries. Items (U, L) of −1 are not read; a history of these
    alone gives zeros.
    """
    n_interests = out.shape[1]
    shares = np.empty(items.shape[1], np.float32)
    for user in range(len(items)):
        out[user] = 0
        for interest in range(n_interests):
            highest, squares = np.float32(-np.inf), np.float32(0)
            for at in range(items.shape[1]):
                item = items[user, at]
                if item >= 0:
                    shares[at] = belongs[item, interest] + by_rank[ranks[user, at], interest] + by_age[ages[user, at], interest]
                    highest = max(highest, shares[at])
            for at in range(items.shape[1]):
                if items[user, at] >= 0:
                    shares[at] = np.float32(math.exp(shares[at] - highest))
                    squares += shares[at] * shares[at]
            for at in range(items.shape[1]):
                if items[user, at] >= 0:
                    add(out[user, interest], table[items[user, at]], shares[at] / np.float32(math.sqrt(squares)))
