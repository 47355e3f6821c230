"""Features of what a recipe ranked first, and lists ranked again by trees, compiled: a user's features lie in the processor's cache while
the trees read them.

Shapes: U users, P candidates in the recipe's order, F features, H half-lives, E further sources, G parts of a score, K places.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled, compiled_sums
from recsys.lists.candidates_kernel import best
from recsys.lists.features_kernel import N_RATIOS, RawFeatures, item_features
from recsys.lists.learned.forest_kernel import Rows, Trees, add_rows, find_leaves

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]

NEVER = np.float32(-1)
"""Hours since the last impression of what was never shown."""
LEAST_SHARE = np.float32(1e-6)
"""Shares of further sources below this are alike to a logarithm: a model's softmax falls off by orders of magnitude."""
_COMPARED_AT_ONCE = 4
"""Candidates with which all others are compared in one pass."""


class LearnedRaw(NamedTuple):
    """Holds what features are computed from: `recipe` as a recipe reads it, of P candidates, best first; the recipe's `scores` (U, P);
    readings of co-occurrence (U, 6, P) and of content (U, 2, P); `ages` (U, P), logarithms of hours; `extra` (E, U, P), raw scores of
    further sources; `tasted` (T,), the half-lives whose counts are compared with the user's; `ranked` (4,), the features that are ranked;
    `moments` (U, 3), hour, weekday and device; and `shown` (U, 2, P), which `shown_features` fills, (0, 2, 0) where nothing was."""

    recipe: RawFeatures
    scores: F32
    readings: F32
    content: F32
    ages: F32
    extra: F32
    tasted: I64
    ranked: I64
    moments: F32
    shown: F32


class Again(NamedTuple):
    """Lists ranked again: columns, numbers and scores (U, P) of all candidates, as `best` fills them; what G groups added to the first K of
    them, `parts` (G, U, K), and to the average candidate, `reference` (G, U), (0, 0) where nobody asks; and the sums of the parts, `totals`
    (U, K)."""

    columns: I64
    numbers: I64
    scores: F32
    parts: F32
    reference: F32
    totals: F32


@compiled
def shown_features(counts: I32, shown_s: I64, now_s: int, out: F32) -> None:
    """Write logarithms of the `counts` (U, P) of impressions, and of the hours until `now_s` since the last one, at `shown_s` (U, P), into
    `out` (U, 2, P): 0 and −1 for a count of 0."""
    for user in range(len(counts)):
        for place in range(counts.shape[1]):
            count, hours = counts[user, place], np.float32(max(now_s - shown_s[user, place], 0)) / np.float32(3_600)
            out[user, 0, place] = np.log2(np.float32(1 + count))
            out[user, 1, place] = np.log2(np.float32(1) + hours) if count > 0 else NEVER


@compiled
def features(raw: LearnedRaw, out: F32) -> None:
    """Write the features of all candidates into `out` (U, F, P)."""
    logarithms = np.log2(np.arange(1, out.shape[2] + 2).astype(np.float32))
    for user in range(len(out)):
        user_features(raw, user, logarithms, out[user])


@compiled
def rank(raw: LearnedRaw, trees: Trees, added: F32, rows: Rows, n_features: int, before: F32, again: Again) -> None:
    """Add what the trees say to the recipe's scores, and fill `again` with each user's best candidates, equal ones by number. `added` (U,
    P) counts in the order alone, (0, 0) for nothing. `before` (G, U, P) are the parts of the recipe's scores, to which those of the trees
    are added."""
    numbers = raw.recipe.numbers
    n_candidates, width = numbers.shape[1], rows.values.shape[1]
    logarithms = np.log2(np.arange(1, n_candidates + 2).astype(np.float32))
    values, total = np.empty((n_features, n_candidates), np.float32), np.empty((1, n_candidates), np.float32)
    found, sums = np.empty((len(trees.roots), n_candidates), np.uint8), np.empty((n_candidates, width), np.float32)
    for user in range(len(numbers)):
        one = slice(user, user + 1)
        user_features(raw, user, logarithms, values)
        find_leaves(trees, values, 0, found)
        sums[:] = 0
        for place in range(n_candidates):
            sums[place, 0] = raw.scores[user, place] + added[user, place] if len(added) else raw.scores[user, place]
        add_rows(rows.values, trees.leaf_starts, found, sums)
        for place in range(n_candidates):
            total[0, place] = sums[place, 0]
        best(total, numbers[one], again.columns[one], again.numbers[one], again.scores[one])
        _settle(rows.columns, sums, before, user, again)


@compiled
def _settle(groups: I64, sums: F32, before: F32, user: int, again: Again) -> None:
    """Write a user's parts, each from the least of the listed candidates on, their sums, and the parts of the average candidate."""
    numbers, columns, n_valid = again.numbers[user], again.columns[user], 0
    while n_valid < len(numbers) and numbers[n_valid] >= 0:
        n_valid += 1
    totals, n_listed = again.totals[user], min(n_valid, again.totals.shape[1])
    totals[:] = 0
    for g in range(len(groups)):
        part, column, least = again.parts[g, user], groups[g], np.float32(np.inf)
        for place in range(n_listed):
            at = columns[place]
            part[place] = before[g, user, at] + sums[at, column] if column >= 0 else before[g, user, at]
            least = min(least, part[place])
        if len(again.reference):
            mean = np.float32(0)
            for place in range(n_valid):
                at = columns[place]
                mean += before[g, user, at] + sums[at, column] if column >= 0 else before[g, user, at]
            again.reference[g, user] = mean / np.float32(max(n_valid, 1)) - (least if n_listed else np.float32(0))
        for place in range(n_listed):
            part[place] -= least
            totals[place] += part[place]
        part[n_listed:] = 0
    totals[n_listed:] = -np.inf


@compiled
def user_features(raw: LearnedRaw, user: int, logarithms: F32, out: F32) -> None:
    """Write a user's features into `out` (F, P), in the order of `feature_names`: those of version 2, and as far as there is room those
    that later versions add. `logarithms` (P + 1,) are those of 1, 2, ….

    Rows are filled by loops of their own: an assignment of a row to a row is no vectorised loop."""
    recipe, numbers = raw.recipe, raw.recipe.numbers[user]
    n_counts = recipe.logs.shape[1]
    item_features(recipe, user, out)
    at = N_RATIOS + 1 + n_counts
    own_counts = at + 2
    for own in range(recipe.users.shape[1]):
        _fill(recipe.users[user, own], out[at + own])
    at += recipe.users.shape[1]
    for place in range(len(numbers)):
        out[at, place] = raw.scores[user, place] - raw.scores[user, 0] if numbers[place] >= 0 else np.float32(0)
    _copy(logarithms[: len(numbers)], out[at + 1])
    at += 2
    for reading in range(raw.readings.shape[1]):
        _copy(raw.readings[user, reading], out[at + reading])
    at += raw.readings.shape[1]
    _copy(recipe.wide[user], out[at])
    _copy(recipe.content[user], out[at + 1])
    _copy(raw.content[user, 0], out[at + 2])
    _copy(raw.content[user, 1], out[at + 3])
    at += 4
    first = N_RATIOS + 1
    for h in range(n_counts - 1):
        _difference(out[first + h], out[first + h + 1], out[at + h])
    at += n_counts - 1
    for t in range(len(raw.tasted)):
        _difference(out[first + raw.tasted[t]], out[own_counts + raw.tasted[t]], out[at + t])
    at += len(raw.tasted)
    above = np.empty(len(numbers), np.int32)
    for k in range(len(raw.ranked)):
        _places(out[raw.ranked[k]], numbers, logarithms, above, out[at + k])
    at += len(raw.ranked)
    _copy(raw.ages[user], out[at])
    _fill(raw.moments[user, 0], out[at + 1])
    _fill(raw.moments[user, 1], out[at + 2])
    at += 3
    for e in range(len(raw.extra)):
        _source(raw.extra[e, user], numbers, logarithms, above, out[at : at + 3])
        at += 3
    if at < len(out):
        if len(raw.shown):
            _copy(raw.shown[user, 0], out[at])
            _copy(raw.shown[user, 1], out[at + 1])
        else:
            _fill(np.float32(0), out[at])
            _fill(NEVER, out[at + 1])
        at += 2
    if at < len(out):
        _fill(raw.moments[user, 2], out[at])


@compiled_sums
def _copy(row: F32, out: F32) -> None:
    for i in range(len(row)):
        out[i] = row[i]


@compiled_sums
def _fill(value: np.float32, out: F32) -> None:
    for i in range(len(out)):
        out[i] = value


@compiled
def _source(scores: F32, numbers: I64, logarithms: F32, above: I32, out: F32) -> None:
    """Write a further source's share of the best candidate's score, its logarithm and its place into `out` (3, P)."""
    most = np.float32(0)
    for place in range(len(numbers)):
        if numbers[place] >= 0:
            most = max(most, scores[place])
    inverse = np.float32(1) / most if most > 0 else np.float32(0)
    for place in range(len(numbers)):
        out[0, place] = scores[place] * inverse
        out[1, place] = np.log2(max(out[0, place], LEAST_SHARE))
    _places(out[0], numbers, logarithms, above, out[2])


@compiled_sums
def _difference(left: F32, right: F32, out: F32) -> None:
    for i in range(len(out)):
        out[i] = left[i] - right[i]


@compiled
def _places(values: F32, numbers: I64, logarithms: F32, above: I32, out: F32) -> None:
    """Write log2(1 + n) for n candidates with a higher value, which is 0 for the best; candidates alike share a place. `above` (P,) is
    room for n, and `logarithms` (P + 1,) are those of 1, 2, …."""
    above[:] = 0
    for first in range(0, len(values), _COMPARED_AT_ONCE):
        a, b = _value_at(values, numbers, first), _value_at(values, numbers, first + 1)
        c, d = _value_at(values, numbers, first + 2), _value_at(values, numbers, first + 3)
        _count_below(values, a, b, c, d, above)
    for place in range(len(values)):
        out[place] = logarithms[above[place]]


@compiled
def _value_at(values: F32, numbers: I64, place: int) -> np.float32:
    """Return a candidate's value, −∞ where there is none."""
    found: np.float32 = values[place] if place < len(values) and numbers[place] >= 0 else np.float32(-np.inf)
    return found


@compiled_sums
def _count_below(values: F32, a: np.float32, b: np.float32, c: np.float32, d: np.float32, above: I32) -> None:
    """Add to `above` (P,) how many of four numbers are higher than each value."""
    for i in range(len(values)):
        x = values[i]
        above[i] += np.int32(a > x) + np.int32(b > x) + np.int32(c > x) + np.int32(d > x)
