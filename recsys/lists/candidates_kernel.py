"""Candidates user by user, compiled: leave out what may not be listed, and choose the best.

Shapes: U users, N items, C candidates (item numbers, −1 for none), K places.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled
from recsys.lists.context import Seen

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Listable(NamedTuple):
    """An item may be listed if it is `available` (N,), published and not expired at `valid_s`."""

    available: Bools
    published_s: I64
    expires_s: I64
    valid_s: int


@compiled
def distinct(nominated: I64, seen: Seen, listable: Listable, marked: Bools, numbers: I64, counts: I64) -> None:
    """Write the distinct items among those `nominated` (U, C) that may be listed and that the user has not seen into `numbers` (U, C), and
    how many they are into `counts` (U,). `marked` (N,) is False before and after."""
    histories, older, start = seen.histories, seen.older, 0
    for user in range(len(nominated)):
        slot = seen.slots[user]
        first, end = histories.shape[1] - seen.lengths[slot], seen.older_ends[user]
        marked[histories[slot, first:]] = True
        marked[older[start:end]] = True
        count = 0
        for column in range(nominated.shape[1]):
            item = nominated[user, column]
            if item < 0 or marked[item] or not listable.available[item]:
                continue
            if listable.published_s[item] > listable.valid_s or listable.expires_s[item] <= listable.valid_s:
                continue
            marked[item] = True
            numbers[user, count] = item
            count += 1
        counts[user] = count
        marked[numbers[user, :count]] = False
        marked[histories[slot, first:]] = False
        marked[older[start:end]] = False
        start = end


@compiled
def best(total: F32, numbers: I64, columns: I64, items: I64, scores: F32) -> None:
    """Write the best candidates by `total` (U, C), best first, equal ones by number: their columns, numbers and scores (U, K). Begin with
    column 0, −1 and −∞."""
    size = items.shape[1]
    for user in range(len(total)):
        own, of, at = scores[user], items[user], columns[user]
        found = 0
        for column in range(total.shape[1]):
            score, number = total[user, column], numbers[user, column]
            if number < 0:
                continue
            if found == size and (score < own[size - 1] or (score == own[size - 1] and number > of[size - 1])):
                continue
            found = min(found + 1, size)
            place = found - 1
            while place > 0 and (own[place - 1] < score or (own[place - 1] == score and of[place - 1] > number)):
                own[place], of[place], at[place] = own[place - 1], of[place - 1], at[place - 1]
                place -= 1
            own[place], of[place], at[place] = score, number, column
