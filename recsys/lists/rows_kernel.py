"""Rows of pages user by user, compiled.

Shapes: U users, R recent interactions, N items, B rows of a page, S orders of items, K places of all rows together, M nominations.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled
from recsys.lists.candidates_kernel import Listable
from recsys.lists.context import Seen
from recsys.lists.sources.base import CountRows
from recsys.lists.touch_policy_kernel import Entries

Bools = NDArray[np.bool_]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Marks = NDArray[np.int8]

_SEEN, _PLACED, _SELF = 1, 2, 4


class Orders(NamedTuple):
    """Orders of items: user u's of order s is `numbers[starts[s, u]:ends[s, u]]`, best first, −1 for none, with `scores`; −∞ is none, too.
    Order s belongs to row `row_of[s]`, ascending."""

    numbers: I64
    scores: F32
    starts: I64
    ends: I64
    row_of: I64


class Shelf(NamedTuple):
    """The sizes of rows and the least numbers of their items, (B,), and where each row's places begin, (B,)."""

    sizes: I64
    least: I64
    firsts: I64


class Liked(NamedTuple):
    """The newest interactions of users, (U, R), newest last: items, strengths (0 for what is not liked) and places among the liked ones
    (0 = newest); of which the first `n_last` liked ones count."""

    items: I64
    strengths: F32
    places: F32
    n_last: int


@compiled
def place(orders: Orders, shelf: Shelf, seen: Seen, listable: Listable, marks: Marks, numbers: I64, scores: F32) -> None:
    """Fill the places of each user's rows, `numbers` and `scores` (U, K): row after row with the first items of its orders that may be
    listed, that the user has not seen, and that no row before it shows; −1 and −∞ behind them. A row with fewer than its least number is
    left empty. `marks` (N,) are 0 before and after."""
    n_users, start = len(numbers), 0
    for user in range(n_users):
        end = seen.older_ends[user]
        marks[seen.older[start:end]] = _SEEN
        numbers[user], scores[user] = -1, -np.inf
        order = 0
        for row in range(len(shelf.sizes)):
            first, count = shelf.firsts[row], 0
            while order < len(orders.row_of) and orders.row_of[order] == row:
                at = orders.starts[order, user]
                while count < shelf.sizes[row] and at < orders.ends[order, user]:
                    item, score = orders.numbers[at], orders.scores[at]
                    at += 1
                    if item < 0 or score == -np.inf or marks[item] or not _may_be_listed(listable, item):
                        continue
                    marks[item] = _PLACED
                    numbers[user, first + count], scores[user, first + count] = item, score
                    count += 1
                order += 1
            if count < shelf.least[row]:
                for at in range(first, first + count):
                    marks[numbers[user, at]] = 0
                    numbers[user, at], scores[user, at] = -1, -np.inf
        for at in range(numbers.shape[1]):
            if numbers[user, at] >= 0:
                marks[numbers[user, at]] = 0
        marks[seen.older[start:end]] = 0
        start = end


@compiled
def follow(
    rows: CountRows,
    liked: Liked,
    used: I64,
    least: int,
    seen: Seen,
    listable: Listable,
    marks: Marks,
    numbers: I64,
    scores: F32,
    about: I64,
) -> None:
    """Write for each user what follows from one liked item into `numbers` and `scores` (U, M), best first, and the item into `about` (U,):
    the strongest of the last few, the newest of equal ones, that has `least` followers which may be listed and that the user has not seen,
    and that is not among the `used` (U, B); −1 if there is none. A score is what the item's row of co-occurrence gives."""
    start = 0
    for user in range(len(numbers)):
        end = seen.older_ends[user]
        marks[seen.older[start:end]] = _SEEN
        tried = np.zeros(liked.items.shape[1], np.bool_)
        about[user], numbers[user], scores[user] = -1, -1, -np.inf
        for _ in range(liked.n_last):
            r = _strongest(liked, user, tried)
            if r < 0:
                break
            tried[r] = True
            item = liked.items[user, r]
            if rows.places[user, r] < 0 or rows.weights[user, r] <= 0 or (used[user] == item).any():
                continue
            marks[item] |= _SELF
            count = _followers(rows, user, r, listable, marks, numbers[user], scores[user])
            marks[item] &= ~_SELF
            if count >= least:
                about[user] = item
                break
            numbers[user], scores[user] = -1, -np.inf
        marks[seen.older[start:end]] = 0
        start = end


@compiled
def _strongest(liked: Liked, user: int, tried: Bools) -> int:
    """Return the column of the strongest of the last liked items that was not tried, the newest of equal ones; −1 if there is none."""
    best = -1
    for r in range(liked.items.shape[1] - 1, -1, -1):
        strength = liked.strengths[user, r]
        may_be = strength > 0 and liked.places[user, r] < liked.n_last and not tried[r]
        if may_be and (best < 0 or strength > liked.strengths[user, best]):
            best = r
    return best


@compiled
def _followers(rows: CountRows, user: int, r: int, listable: Listable, marks: Marks, numbers: I64, scores: F32) -> int:
    """Write the unmarked items that may be listed with the largest values in one row into `numbers` and `scores` (M,), best first, equal
    ones by number; return how many they are."""
    place, weight, count, least = rows.places[user, r], rows.weights[user, r], 0, np.float32(0)
    n_places, available, published_s, expires_s = len(numbers), listable.available, listable.published_s, listable.expires_s
    is_dense = len(rows.matrix) > 0
    row = rows.matrix[place] if is_dense else rows.values[rows.starts[place] : rows.starts[place + 1]]
    first = 0 if is_dense else rows.starts[place]
    for at in range(listable.n_items if is_dense else len(row)):
        item = at if is_dense else rows.neighbours[first + at]
        value = row[at] * weight * (rows.factor[item] if is_dense else np.float32(1))
        if value <= least or marks[item] or not available[item]:
            continue
        if published_s[item] > listable.valid_s or expires_s[item] <= listable.valid_s:
            continue
        count = min(count + 1, n_places)
        place = count - 1
        while place > 0 and scores[place - 1] < value:
            scores[place], numbers[place] = scores[place - 1], numbers[place - 1]
            place -= 1
        scores[place], numbers[place] = value, item
        if count == n_places:
            least = scores[count - 1]
    return count


@compiled
def favourites(entries: Entries, of: I32, sets: I32, sums: F64, found: I64) -> None:
    """Write the category with the largest sum of liked entries' weights into `found` (U,), −1 without one; an item of several categories
    counts in each in part, and of equal sums that of the newest entry counts. `of` (N or more,) is each item's set of categories, `sets`
    (., W) the categories of a set, −1 behind the last. `sums` (categories,) are 0 before and after."""
    n_columns = entries.items.shape[1]
    for user in range(len(entries.slots)):
        slot = entries.slots[user]
        first = n_columns - entries.lengths[slot]
        for column in range(first, n_columns):
            _add(entries, slot, column, of, sets, sums)
        found[user] = -1
        best = 0.0
        for column in range(n_columns - 1, first - 1, -1):
            for category in sets[of[entries.items[slot, column]]]:
                if category >= 0 and sums[category] > best:
                    found[user], best = category, sums[category]
        for column in range(first, n_columns):
            for category in sets[of[entries.items[slot, column]]]:
                if category >= 0:
                    sums[category] = 0


@compiled
def _add(entries: Entries, slot: int, column: int, of: I32, sets: I32, sums: F64) -> None:
    """Add what an entry gives to the sums of its item's categories."""
    weight = entries.weights[slot, column]
    own = sets[of[entries.items[slot, column]]]
    n_own = 0
    for category in own:
        n_own += category >= 0
    for category in own:
        if category >= 0 and weight > 0:
            sums[category] += weight / n_own


@compiled
def _may_be_listed(listable: Listable, item: int) -> bool:
    is_current: bool = listable.published_s[item] <= listable.valid_s and listable.expires_s[item] > listable.valid_s
    return is_current and listable.available[item]
