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
Marks = NDArray[np.int8]

_TAKEN, _SEEN = 1, 2


class Listable(NamedTuple):
    """An item, of `n_items`, may be listed if it is `available` (N or more,), published and not expired at `valid_s`."""

    available: Bools
    published_s: I64
    expires_s: I64
    valid_s: int
    n_items: int


@compiled
def scale(scores: F32, numbers: I64, weight: np.float32, scales: F32) -> None:
    """Write what makes each user's best score (U, C) the `weight` into `scales` (U,); 0 if there is none above 0."""
    for user in range(len(scores)):
        best = np.float32(0)
        for column in range(scores.shape[1]):
            best = max(best, scores[user, column] if numbers[user, column] >= 0 else np.float32(0))
        scales[user] = weight / best if best > 0 else np.float32(0)


@compiled
def take_shared(tops: I64, quotas: I64, listable: Bools, taken: Bools, numbers: I64, count: int) -> int:
    """Add the first `quotas` (T,) items of each ranking in `tops` (T, M), −1 for none, that are `listable` (N,) to `numbers`, from `count`
    on, unless they are `taken` (N,), which is changed; return how many there are."""
    for ranking in range(len(tops)):
        left = quotas[ranking]
        for place in range(tops.shape[1]):
            item = tops[ranking, place]
            if left == 0 or item < 0:
                break
            if not listable[item]:
                continue
            left -= 1
            if not taken[item]:
                taken[item] = True
                numbers[count] = item
                count += 1
    return count


@compiled
def distinct(
    nominated: I64, tops: I64, quotas: I64, n_wanted: int, seen: Seen, listable: Listable, marks: Marks, numbers: I64, counts: I64
) -> None:
    """Write the distinct items that may be listed and that the user has not seen into `numbers` (U, P), and how many they are into `counts`
    (U,): those among the `nominated` (U, C), then the first `quotas` (T,) of each ranking in `tops` (T, M), −1 for none, then others by
    number until there are `n_wanted`. `marks` (N,) are 0 before and after."""
    histories, older, start, n_items = seen.histories, seen.older, 0, listable.n_items
    for user in range(len(nominated)):
        slot = seen.slots[user]
        first, end = histories.shape[1] - seen.lengths[slot], seen.older_ends[user]
        marks[histories[slot, first:]] = _SEEN
        marks[older[start:end]] = _SEEN
        count = 0
        for column in range(nominated.shape[1]):
            item = nominated[user, column]
            if item >= 0 and marks[item] == 0 and _may_be_listed(listable, item):
                marks[item] = _TAKEN
                numbers[user, count] = item
                count += 1
        for ranking in range(len(tops)):
            left = quotas[ranking]
            for place in range(tops.shape[1]):
                item = tops[ranking, place]
                if left == 0 or item < 0:
                    break
                if marks[item] == _SEEN or not _may_be_listed(listable, item):
                    continue
                left -= 1
                if marks[item] == 0:
                    marks[item] = _TAKEN
                    numbers[user, count] = item
                    count += 1
        item = 0
        while count < n_wanted and item < n_items:
            if marks[item] == 0 and _may_be_listed(listable, item):
                numbers[user, count] = item
                count += 1
            item += 1
        counts[user] = count
        marks[numbers[user, :count]] = 0
        marks[histories[slot, first:]] = 0
        marks[older[start:end]] = 0
        start = end


@compiled
def _may_be_listed(listable: Listable, item: int) -> bool:
    is_current: bool = listable.published_s[item] <= listable.valid_s and listable.expires_s[item] > listable.valid_s
    return is_current and listable.available[item]


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
            place, end = 0, found
            while place < end:  # every place before is of a better one
                middle = (place + end) // 2
                if own[middle] < score or (own[middle] == score and of[middle] > number):
                    end = middle
                else:
                    place = middle + 1
            found = min(found + 1, size)
            for behind in range(found - 1, place, -1):
                own[behind] = own[behind - 1]
            for behind in range(found - 1, place, -1):
                of[behind] = of[behind - 1]
            for behind in range(found - 1, place, -1):
                at[behind] = at[behind - 1]
            own[place], of[place], at[place] = score, number, column
