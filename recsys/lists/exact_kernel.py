"""Lists of a small catalogue, user by user: scale and blend the sources' scores, leave out what was seen, choose the top and explain it,
while a user's scores are in the processor's cache.

The same numbers as `ranking` has for whole blocks of users, but for rounding; tests hold both equal. Shapes as there: U users, R recent
interactions, N items; S sources with scores of their own for every user, P places.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import add
from recsys.jit import compiled, compiled_sums

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]

_TOGETHER = 5
"""Rows that are added at once."""
_RUN = 16
"""Neighbouring items of which only the best is looked at first when the top of a row is sought."""


@compiled
def choose(
    rows: F32,
    factor: F32,
    recent: I64,
    reading: F32,
    reading_weight: np.float32,
    likings: F32,
    features: F32,
    n_features: int,
    content: int,
    raw: F32,
    first: int,
    known: NDArray[np.bool_],
    softened: NDArray[np.bool_],
    weights: F32,
    shared: F32,
    histories: U32,
    slots: I64,
    lengths: NDArray[np.int32],
    older: U32,
    older_ends: I64,
    items: I64,
    scores: F32,
    parts: F32,
    because: I64,
) -> None:
    """Fill `items` (U, P), `scores` (U, P), `parts` (1 + S, U, P) and `because` (U, P, 2), −1 for none, for B users from the `first` on.

    Co-occurrence: `rows` (M, M) of counts, a candidate's `factor` (N,), the `recent` items (U, R) with the weight of each in `reading`
    (U, R); all of it scaled to root mean square `reading_weight`. The other sources: `raw` (S, B, N), which is changed: where `softened`
    (S,) logits, whose softmax over the `known` items (S, N) counts, or none of a user who knows nothing, all zeros; else scores, negative
    ones counting as 0; scaled to `weights` (S,). Source number `content` (−1: none) is explained by `likings` (U, R) of recent items and
    the first `n_features` columns of `features` (at least N, F). What all users have in common is in `shared` (N,), −∞ for items that must
    not be listed; nor are those in `histories` (C, H), of which the last `lengths` (C,) columns of `slots` (U,) count, or in `older`, where
    user u's end at `older_ends[u]`.
    """
    n_places, n_items = items.shape[1], len(shared)
    root = np.float32(np.sqrt(n_items))
    together, total, bests = np.empty(n_items, np.float32), np.empty(n_items, np.float32), np.empty(n_items // _RUN, np.float32)
    scale, turned = np.empty(len(raw), np.float32), np.empty((n_features, recent.shape[1]), np.float32)
    counted, liked = np.empty(recent.shape[1], np.float32), np.empty(recent.shape[1], np.float32)
    start = older_ends[first - 1] if first else 0
    for row in range(raw.shape[1]):
        user = first + row
        total[:] = shared
        read = _scale(_summed_rows(rows, recent[user], reading[user], factor, together), root * reading_weight)
        add(total, together, read)
        for source in range(len(raw)):
            own = raw[source, row]
            squares = _softened_squares(own, known[source]) if softened[source] else _clamped_squares(own)
            scale[source] = _scale(squares, root * weights[source])
            add(total, own, scale[source])
        slot = slots[user]
        for column in range(histories.shape[1] - lengths[slot], histories.shape[1]):
            total[histories[slot, column]] = -np.inf
        for place in range(start, older_ends[user]):
            total[older[place]] = -np.inf
        start = older_ends[user]
        _top(total, bests, items[user], scores[user])
        for r in range(recent.shape[1]):
            counted[r] = reading[user, r] * read
            liked[r] = likings[user, r] * scale[content] if content >= 0 else np.float32(0)
            for f in range(n_features):
                turned[f, r] = features[recent[user, r], f] * liked[r]
        for place in range(n_places):
            item = items[user, place]
            parts[0, user, place] = together[item] * read
            for source in range(len(raw)):
                parts[1 + source, user, place] = raw[source, row, item] * scale[source]
            _explain(rows, factor[item], recent[user], counted, turned, features[item], item, liked, because[user, place])


@compiled
def shared_by_all(trending: F32, fresh: F32, allowed: NDArray[np.bool_], factors: F32, total: F32) -> None:
    """What all users have in common, into `total` (N,): what trends and how new it is (N,), scaled to the root mean squares `factors` (2,),
    −∞ where not `allowed` (N,). `factors` become what the two are multiplied with."""
    trending_squares, fresh_squares = np.float64(0), np.float64(0)
    for i in range(len(total)):
        trending_squares += np.float64(trending[i]) * trending[i]
        fresh_squares += np.float64(fresh[i]) * fresh[i]
    root = np.sqrt(np.float32(len(total)))
    factors[0] = _scale(np.float32(trending_squares), factors[0] * root)
    factors[1] = _scale(np.float32(fresh_squares), factors[1] * root)
    for i in range(len(total)):
        total[i] = trending[i] * factors[0] + fresh[i] * factors[1] if allowed[i] else np.float32(-np.inf)


@compiled_sums
def _summed_rows(rows: F32, numbers: I64, weights: F32, factor: F32, out: F32) -> np.float32:
    """`out` (N,) becomes Σ_r weights[r] · rows[numbers[r]] · factor; its sum of squares."""
    out[:] = 0
    for r in range(0, len(numbers) - _TOGETHER + 1, _TOGETHER):
        a, b, c, d, e = numbers[r], numbers[r + 1], numbers[r + 2], numbers[r + 3], numbers[r + 4]
        _add_five(out, rows[a], rows[b], rows[c], rows[d], rows[e], weights[r : r + _TOGETHER])
    for r in range(len(numbers) - len(numbers) % _TOGETHER, len(numbers)):
        add(out, rows[numbers[r]], weights[r])
    squares = np.float32(0)
    for i in range(len(out)):
        value = out[i] * factor[i]
        out[i] = value
        squares += value * value
    return squares


@compiled_sums
def _add_five(total: F32, a: F32, b: F32, c: F32, d: F32, e: F32, scales: F32) -> None:
    """Five rows at once: their values come from further away than the sums."""
    of_a, of_b, of_c, of_d, of_e = scales[0], scales[1], scales[2], scales[3], scales[4]
    for i in range(len(total)):
        total[i] += a[i] * of_a + b[i] * of_b + c[i] * of_c + d[i] * of_d + e[i] * of_e


@compiled_sums
def _softened_squares(row: F32, known: NDArray[np.bool_]) -> np.float32:
    """A row of logits becomes their exponentials up to a factor, 0 where not known; their sum of squares. A row of zeros stays one."""
    highest, lowest = np.float32(-np.inf), np.float32(np.inf)
    for i in range(len(row)):
        logit = row[i]
        highest = max(highest, logit if known[i] else np.float32(-np.inf))
        lowest = min(lowest, logit)
    squares = np.float32(0)
    if lowest == 0 and highest <= 0:
        row[:] = 0
        return squares
    for i in range(len(row)):
        value = exp_of_negative(row[i] - highest) if known[i] else np.float32(0)
        row[i] = value
        squares += value * value
    return squares


@compiled_sums
def exp_of_negative(x: np.float32) -> np.float32:
    """e^x for x ≤ 0, a few millionths off at most, and next to 0 below −87: 2^n · 2^f with a whole n and |f| ≤ 1/2, in a form that is
    vectorised."""
    y = max(x * np.float32(1.442695040888963), np.float32(-126))
    n = np.int32(y - np.float32(0.5))
    f = (y - np.float32(n)) * np.float32(0.6931471805599453)
    power = np.float32(1 / 720)
    power = power * f + np.float32(1 / 120)
    power = power * f + np.float32(1 / 24)
    power = power * f + np.float32(1 / 6)
    power = power * f + np.float32(1 / 2)
    power = (power * f + np.float32(1)) * f + np.float32(1)
    return power * np.int32((n + np.int32(127)) << np.int32(23)).view(np.float32)


@compiled_sums
def _clamped_squares(row: F32) -> np.float32:
    squares = np.float32(0)
    for i in range(len(row)):
        value = (row[i] + abs(row[i])) * np.float32(0.5)  # the maximum with 0, without a branch
        row[i] = value
        squares += value * value
    return squares


@compiled
def _scale(squares: np.float32, wanted: np.float32) -> np.float32:
    """What a row of this sum of squares is multiplied with, so that the sum's root is `wanted`; 0 for a row of zeros."""
    return np.float32(wanted / np.sqrt(squares)) if squares > 0 else np.float32(0)


@compiled
def _top(total: F32, bests: F32, items: I64, scores: F32) -> None:
    """The best of `total` (N,), best first, equal ones by number, into `items` and `scores` (P,). `bests` (N // _RUN,) is overwritten."""
    n_places, n_runs = len(items), len(bests)
    _run_bests(total, bests)
    least = np.float32(-np.inf)  # nothing below it can be among the first
    if n_runs > n_places:
        for run in range(n_runs):
            if run < n_places or bests[run] > scores[n_places - 1]:
                _insert(items, scores, min(run, n_places - 1), run, bests[run])
        least = scores[n_places - 1]
    found = 0
    for run in range(n_runs + 1):
        if run == n_runs or bests[run] >= least:
            for item in range(run * _RUN, min((run + 1) * _RUN, len(total))):
                if total[item] >= least and (found < n_places or total[item] > scores[n_places - 1]):
                    _insert(items, scores, min(found, n_places - 1), item, total[item])
                    found += 1


@compiled_sums
def _run_bests(total: F32, bests: F32) -> None:
    for run in range(len(bests)):
        best = total[run * _RUN]
        for i in range(1, _RUN):
            best = max(best, total[run * _RUN + i])
        bests[run] = best


@compiled
def _insert(items: I64, scores: F32, place: int, item: int, score: np.float32) -> None:
    """Put an item behind those before `place` that are as good; what stood at `place` is overwritten."""
    while place > 0 and scores[place - 1] < score:
        items[place], scores[place] = items[place - 1], scores[place - 1]
        place -= 1
    items[place], scores[place] = item, score


@compiled
def _explain(
    rows: F32, factor: np.float32, recent: I64, counted: F32, turned: F32, features: F32, item: int, added: F32, because: I64
) -> None:
    """The two recent items that added most to an item, into `because` (2,). `added` (R,) is overwritten."""
    added[:] = 0
    for f in range(len(turned)):
        if features[f] != 0:
            for r in range(len(recent)):
                added[r] += features[f] * turned[f, r]
    for r in range(len(recent)):
        added[r] = max(added[r], np.float32(0))
        if counted[r] != 0:
            added[r] += rows[recent[r], item] * counted[r] * factor
    two_strongest(added, recent, because)


@compiled
def two_strongest(added: F32, recent: I64, because: I64) -> None:
    """The two of the `recent` items (R,) that added most, if it is more than 0, into `because` (2,), −1 for none. `added` (R,) is
    overwritten."""
    because[0], because[1] = -1, -1
    for place in range(2):
        best = 0
        for r in range(1, len(recent)):
            if added[r] > added[best]:
                best = r
        if added[best] > 0 and recent[best] != because[0]:
            because[place] = recent[best]
        added[best] = -np.inf
