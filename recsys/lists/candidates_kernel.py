"""Candidates of large catalogues user by user, compiled: name them, score them, choose the best and explain them.

Shapes: U users, R recent interactions, N items, C candidates (item numbers, −1 behind each user's last), K places, S sampled vectors,
M rows of neighbours, F features, W most columns of a kind.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.index.scan_kernel import replace_least
from recsys.jit import compiled, compiled_sums
from recsys.lists.exact_kernel import exp_of_negative, two_strongest

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
Bools = NDArray[np.bool_]


@compiled
def name(
    starts: I64,
    neighbours: I64,
    values: F32,
    places: I64,
    weights: F32,
    n_best: int,
    named: I64,
    slots: I64,
    histories: U32,
    lengths: I32,
    older: U32,
    older_ends: I64,
    available: Bools,
    published_s: I64,
    expires_s: I64,
    now_s: int,
    sums: F32,
    seen: Bools,
    numbers: I64,
    cooccurrence: F32,
    counts: I64,
    squares: F64,
) -> None:
    """Distinct items that may be listed into `numbers` (U, C), how many into `counts` (U,), and their co-occurrence (U, C).

    Candidates are the `n_best` items with the largest Σ_r weights[u, r] · row(places[u, r]), and those `named` (U, C − n_best). Row m
    holds `values` of `neighbours` from `starts[m]` to `starts[m + 1]`, none negative; place −1 is no row. `squares` (U,) are those of all
    sums. An item may be listed if it is `available` (N,), published and not expired at `now_s`, and the user has not seen it: neither in
    the last `lengths` (slots,) columns of `histories` nor in `older`, where user u's end at `older_ends[u]`. `sums` and `seen` (N,) are
    zero before and after.
    """
    best, best_items = np.empty(n_best, np.float32), np.empty(n_best, np.int64)
    touched, start = np.empty(_most_neighbours(starts, places), np.int64), 0
    for user in range(len(slots)):
        n_touched = _sum_rows(starts, neighbours, values, places[user], weights[user], sums, touched)
        best[:], best_items[:] = -np.inf, -1
        total = np.float64(0)
        for at in range(n_touched):
            value = sums[touched[at]]
            total += np.float64(value) * value
            if n_best and value > best[0]:
                replace_least(best, best_items, value, touched[at])
        squares[user] = total
        slot = slots[user]
        first, end = histories.shape[1] - lengths[slot], older_ends[user]
        seen[histories[slot, first:]] = True
        seen[older[start:end]] = True
        count = 0
        for column in range(n_best + named.shape[1]):
            item = best_items[column] if column < n_best else named[user, column - n_best]
            if item < 0 or seen[item] or not available[item] or published_s[item] > now_s or expires_s[item] <= now_s:
                continue
            seen[item] = True
            numbers[user, count], cooccurrence[user, count] = item, sums[item]
            count += 1
        counts[user] = count
        seen[numbers[user, :count]] = False
        seen[histories[slot, first:]] = False
        seen[older[start:end]] = False
        for at in range(n_touched):
            sums[touched[at]] = 0
        start = end


@compiled
def _most_neighbours(starts: I64, places: I64) -> int:
    most = 0
    for user in range(len(places)):
        own = 0
        for r in range(places.shape[1]):
            if places[user, r] >= 0:
                own += starts[places[user, r] + 1] - starts[places[user, r]]
        most = max(most, own)
    return most


@compiled
def _sum_rows(starts: I64, neighbours: I64, values: F32, places: I64, weights: F32, sums: F32, touched: I64) -> int:
    """Σ_r weights[r] · row(places[r]) into `sums` (N,); which items are no longer 0 into `touched`, and how many."""
    n_touched = 0
    for r in range(len(places)):
        if places[r] < 0 or weights[r] == 0:
            continue
        for at in range(starts[places[r]], starts[places[r] + 1]):
            added, item = weights[r] * values[at], neighbours[at]
            if added > 0:
                if sums[item] == 0:
                    touched[n_touched] = item
                    n_touched += 1
                sums[item] += added
    return n_touched


@compiled
def best(total: F32, numbers: I64, columns: I64, items: I64, scores: F32) -> None:
    """The best candidates by `total` (U, C), best first, equal ones by number: their columns, numbers and scores (U, K). Begin with
    column 0, −1 and −∞."""
    size = items.shape[1]
    for user in range(len(total)):
        own, of, at = scores[user], items[user], columns[user]
        for column in range(total.shape[1]):
            score, number = total[user, column], numbers[user, column]
            if number < 0:
                break
            if score < own[size - 1] or (score == own[size - 1] and number > of[size - 1] >= 0):
                continue
            place = size - 1
            while place > 0 and (own[place - 1] < score or (own[place - 1] == score and of[place - 1] > number)):
                own[place], of[place], at[place] = own[place - 1], of[place - 1], at[place - 1]
                place -= 1
            own[place], of[place], at[place] = score, number, column


@compiled
def explain(
    starts: I64,
    neighbours: I64,
    values: F32,
    places: I64,
    weights: F32,
    content: F32,
    alike: F32,
    recent: I64,
    items: I64,
    because: I64,
) -> None:
    """The two `recent` items (U, R) that added most to each of `items` (U, K), −1 for none, into `because` (U, K, 2): what co-occurrence
    adds, as in `name`, and `content` (U, R) · `alike` (U, K, R)."""
    added = np.empty(recent.shape[1], np.float32)
    for user in range(len(items)):
        for k in range(items.shape[1]):
            if items[user, k] < 0:
                because[user, k] = -1
                continue
            for r in range(len(added)):
                added[r] = content[user, r] * alike[user, k, r]
                place = places[user, r]
                if place >= 0 and weights[user, r] != 0:
                    at = _search(neighbours, starts[place], starts[place + 1], items[user, k])
                    if at >= 0:
                        added[r] += weights[user, r] * values[at]
            two_strongest(added, recent[user], because[user, k])


@compiled
def _search(neighbours: I64, start: int, end: int, item: int) -> int:
    """Where `item` is among the neighbours from `start` to `end`, ascending; −1 if it is not."""
    stop = end
    while start < end:
        middle = (start + end) // 2
        if neighbours[middle] < item:
            start = middle + 1
        else:
            end = middle
    return start if start < stop and neighbours[start] == item else -1


@compiled
def share_above(sampled: F32, shares: F32) -> None:
    """What share of the sum of squares of each row (U, S) belongs to positive values, into `shares` (U,); 0 for a row of zeros."""
    for user in range(len(sampled)):
        above, total = _squares(sampled[user])
        shares[user] = above / total if total > 0 else np.float32(0)


@compiled_sums
def _squares(row: F32) -> tuple[np.float32, np.float32]:
    above, total = np.float32(0), np.float32(0)
    for i in range(len(row)):
        positive = (row[i] + abs(row[i])) * np.float32(0.5)
        above += positive * positive
        total += row[i] * row[i]
    return above, total


@compiled
def mean_below(sampled: F32, shift: F32, least: F32, means: F32) -> None:
    """The mean of e^(2 · (s − shift[u])) over those s of each row (U, S), none above `shift` (U,), that are less than `least[u]`, into
    `means` (U,); 0 where there are none."""
    for user in range(len(sampled)):
        total, count = _exponentials(sampled[user], shift[user], least[user])
        means[user] = total / np.float32(max(count, 1))


@compiled_sums
def _exponentials(row: F32, shift: np.float32, least: np.float32) -> tuple[np.float32, int]:
    total, count = np.float32(0), 0
    for i in range(len(row)):
        below = row[i] < least
        total += exp_of_negative(np.float32(2) * (row[i] - shift)) if below else np.float32(0)
        count += below
    return total, count


@compiled
def softened(scores: F32, rows: I64, shift: F32) -> None:
    """Each logit (U, C) becomes e^(min(logit − shift[u], 0)), 0 where the row (U, C) is −1."""
    for user in range(len(scores)):
        for column in range(scores.shape[1]):
            difference = min(scores[user, column] - shift[user], np.float32(0))
            scores[user, column] = np.exp(difference) if rows[user, column] >= 0 else np.float32(0)
