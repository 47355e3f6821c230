"""Places under caps, compiled.

Shapes: U users, P ranked candidates, R caps, W most values of an item in one field, V values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Whole = Any
"""int or np.int64, which are one kind where it is compiled."""


@compiled
def place(numbers: I64, values: I32, most: I64, first: I64, size: int, n_placed: int, counts: I32, order: I64, kept: I64) -> None:
    """Write the columns of `numbers` (U, P), −1 for none, into `order` (U, P): those for the first `n_placed` places under the caps, then
    the others as they were.

    `values` (U, P, R, W), −1 behind the last, count in the cap of their axis: at most `most` (R,) of one within the `first` (R,) places. A
    place below `size` that no candidate fits gets the first of those that break the fewest caps; one beyond ends the placing. Into `kept`
    (U,) go the number of candidates placed. `counts` (V or more,) are 0 before and after.
    """
    taken = np.empty(numbers.shape[1], np.bool_)
    for user in range(len(numbers)):
        taken[:] = False
        n_candidates = 0
        while n_candidates < numbers.shape[1] and numbers[user, n_candidates] >= 0:
            n_candidates += 1
        own, n_found, start = values[user], 0, 0
        while n_found < min(n_placed, n_candidates):
            chosen, least = -1, len(most) + 1
            while taken[start]:
                start += 1
            for column in range(start, n_candidates):
                if taken[column]:
                    continue
                broken = _broken(own, column, n_found, most, first, counts)
                if broken < least:
                    chosen, least = column, broken
                if broken == 0:
                    break
            if least > 0 and n_found >= size:
                break
            _count(own, chosen, n_found, first, counts, 1)
            taken[chosen] = True
            order[user, n_found] = chosen
            n_found += 1
        kept[user] = n_found
        for at in range(n_found):
            _count(own, order[user, at], at, first, counts, -1)
        for column in range(numbers.shape[1]):
            if not taken[column]:
                order[user, n_found] = column
                n_found += 1


@compiled
def _broken(values: I32, column: Whole, at: Whole, most: I64, first: I64, counts: I32) -> int:
    """Return how many caps a candidate breaks at a place, whose `values` are (P, R, W)."""
    broken = 0
    for cap in range(len(most)):
        if at < first[cap]:
            for w in range(values.shape[2]):
                value = values[column, cap, w]
                if value < 0:
                    break
                if counts[value] >= most[cap]:
                    broken += 1
                    break
    return broken


@compiled
def _count(values: I32, column: Whole, at: Whole, first: I64, counts: I32, step: int) -> None:
    """Add `step` to the counts of a candidate's values, in the caps that reach as far as its place."""
    for cap in range(len(first)):
        if at < first[cap]:
            for w in range(values.shape[2]):
                if values[column, cap, w] < 0:
                    break
                counts[values[column, cap, w]] += step
