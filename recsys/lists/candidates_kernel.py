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
U32 = NDArray[np.uint32]

_TAKEN, _SEEN = 1, 2
_FEW = 32
"""Places up to which it is faster to insert a candidate among the best so far than to sort all."""


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
    if items.shape[1] > _FEW:
        _sort(total, numbers, columns, items, scores)
    else:
        _insert(total, numbers, columns, items, scores)


@compiled
def _insert(total: F32, numbers: I64, columns: I64, items: I64, scores: F32) -> None:
    """Do what `best` does for few places: most candidates are no better than the last one."""
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


@compiled
def _sort(total: F32, numbers: I64, columns: I64, items: I64, scores: F32) -> None:
    """Do what `best` does for many places: a sort of all candidates, digit after digit of their scores. Source: Knuth, The Art of Computer
    Programming 3, 5.2.5."""
    n_columns = total.shape[1]
    keys, more_keys = np.empty(n_columns, np.uint32), np.empty(n_columns, np.uint32)
    order, more_order = np.empty(n_columns, np.int64), np.empty(n_columns, np.int64)
    ends = np.empty(256, np.int64)
    for user in range(len(total)):
        own, n_found = numbers[user], 0
        for column in range(n_columns):
            bits = np.float32(total[user, column] + np.float32(0)).view(np.uint32)  # −0 is 0
            keys[n_found] = bits if bits >> np.uint32(31) else ~(bits | np.uint32(0x80000000))  # the highest score has the lowest key
            order[n_found] = column
            n_found += own[column] >= 0
        for shift in range(0, 32, 16):
            _by_digit(keys, order, n_found, np.uint32(shift), ends, more_keys, more_order)
            _by_digit(more_keys, more_order, n_found, np.uint32(shift + 8), ends, keys, order)
        for place in range(1, n_found):
            at, column = place, order[place]
            while at > 0 and keys[at - 1] == keys[place] and own[order[at - 1]] > own[column]:
                order[at] = order[at - 1]
                at -= 1
            order[at] = column
        for place in range(min(n_found, items.shape[1])):
            columns[user, place] = order[place]
            items[user, place] = own[order[place]]
            scores[user, place] = total[user, order[place]]


@compiled
def _by_digit(keys: U32, order: I64, n: int, shift: np.uint32, ends: I64, into_keys: U32, into_order: I64) -> None:
    """Write the first `n` keys and what they are of in the order of eight bits of the keys from `shift` on, equal ones as they were. `ends`
    (256,) is room for counts."""
    ends[:] = 0
    for place in range(n):
        ends[(keys[place] >> shift) & np.uint32(255)] += 1
    for digit in range(1, 256):
        ends[digit] += ends[digit - 1]
    for place in range(n - 1, -1, -1):
        digit = (keys[place] >> shift) & np.uint32(255)
        ends[digit] -= 1
        into_keys[ends[digit]], into_order[ends[digit]] = keys[place], order[place]
