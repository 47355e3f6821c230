"""Orders that stay where scores differ little, compiled.

Shapes: U users, P ranked candidates, K places of lists before, N items.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_ROUNDS = 8
"""Rounds after which an order is taken as it is; nearly all stand still after the second."""


@compiled
def keep(numbers: I64, worth: F32, previous: I64, size: int, margin: float, place_of: I32, order: I64) -> None:
    """Write the columns of `numbers` (U, P), −1 for none and only at the end, into `order` (U, P), so that the first `size` keep the order
    of `previous` (U, K), −1 for none: a candidate passes the one before it only if its `worth` (U, P), which falls from column to column,
    is more than `margin` higher. The result with itself as `previous` is the same again. `place_of` (N,) is 0 before and after."""
    before = np.empty(max(previous.shape[1], size), np.int64)
    for user in range(len(numbers)):
        n = 0
        while n < numbers.shape[1] and numbers[user, n] >= 0:
            place_of[numbers[user, n]] = n + 1
            n += 1
        n_before = 0
        for place in range(min(previous.shape[1], size)):
            item = previous[user, place]
            column = place_of[item] - 1 if 0 <= item < len(place_of) else -1
            if column >= 0:
                before[n_before] = column
                n_before += 1
                place_of[item] = 0  # once, even if it is there twice
        for column in range(n):
            place_of[numbers[user, column]] = 0
        for column in range(numbers.shape[1]):
            order[user, column] = column
        for _ in range(_ROUNDS if n_before else 0):
            _pass(order[user, :n], worth[user], before[:n_before], margin)
            is_same = n_before == min(size, n)
            for place in range(min(size, n)):
                is_same = is_same and before[place] == order[user, place]
                before[place] = order[user, place]
            n_before = min(size, n)
            if is_same:
                break


@compiled
def _pass(order: I64, worth: F32, before: I64, margin: float) -> None:
    """Write the columns 0 … n − 1 into `order` (n,): those of `before` first, then the others as they are, each moved up past those whose
    worth is lower by more than `margin`."""
    is_before = np.zeros(len(order), np.bool_)
    for place in range(len(before)):
        order[place] = before[place]
        is_before[before[place]] = True
    end = len(before)
    for column in range(len(order)):
        if not is_before[column]:
            order[end] = column
            end += 1
    for place in range(1, len(order)):
        column, at = order[place], place
        while at > 0 and worth[column] > worth[order[at - 1]] + margin:
            order[at] = order[at - 1]
            at -= 1
        order[at] = column
