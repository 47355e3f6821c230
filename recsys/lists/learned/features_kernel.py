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
from recsys.lists.learned.forest_kernel import Trees, add_parts, add_scores

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]

NEVER = np.float32(-1)
"""Hours since the last impression of what was never shown."""
LEAST_SHARE = np.float32(1e-6)
"""Shares of further sources below this are alike to a logarithm: a model's softmax falls off by orders of magnitude."""


class LearnedRaw(NamedTuple):
    """Holds what features are computed from: `recipe` as a recipe reads it, of P candidates, best first; the recipe's `scores` (U, P);
    readings of co-occurrence (U, 6, P) and of content (U, 2, P); `ages` (U, P), logarithms of hours; `extra` (E, U, P), raw scores of
    further sources; `tasted` (T,), the half-lives whose counts are compared with the user's; `ranked` (4,), the features that are ranked;
    `moment` (2,), hour and weekday; and `shown` (U, 2, P), which `shown_features` fills, (0, 2, 0) where nothing was."""

    recipe: RawFeatures
    scores: F32
    readings: F32
    content: F32
    ages: F32
    extra: F32
    tasted: I64
    ranked: I64
    moment: F32
    shown: F32


class Again(NamedTuple):
    """Lists ranked again: columns, numbers and scores (U, K), as `best` fills them, and what G groups of features added, (G, U, K)."""

    columns: I64
    numbers: I64
    scores: F32
    parts: F32


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
    for user in range(len(out)):
        user_features(raw, user, out[user])


@compiled
def rank(raw: LearnedRaw, trees: Trees, added: F32, of_leaves: F32, n_features: int, again: Again) -> None:
    """Add what the trees say to the recipe's scores, and fill `again` with each user's best candidates, equal ones by number. `added` (U,
    P) counts in the order alone, (0, 0) for nothing. `of_leaves` (L, G) are the parts of the trees' leaves, of which `again.parts` (G, U,
    K) are the sums."""
    numbers = raw.recipe.numbers
    values, total = np.empty((n_features, numbers.shape[1]), np.float32), np.empty((1, numbers.shape[1]), np.float32)
    again.parts[:] = 0
    found = np.empty((len(trees.roots), numbers.shape[1]), np.uint8)
    work = np.empty((again.columns.shape[1], of_leaves.shape[1]), np.float32)
    for user in range(len(numbers)):
        one = slice(user, user + 1)
        user_features(raw, user, values)
        total[0] = raw.scores[user]
        for place in range(total.shape[1] if len(added) else 0):
            total[0, place] += added[user, place]
        add_scores(trees, values, total[0], found)
        best(total, numbers[one], again.columns[one], again.numbers[one], again.scores[one])
        add_parts(of_leaves, trees.leaf_starts, found, again.columns[user], work, again.parts[:, user])


@compiled
def user_features(raw: LearnedRaw, user: int, out: F32) -> None:
    """Write a user's features into `out` (F, P), in the order of `feature_names`: those of version 2, and if there is room for more those
    of version 3."""
    recipe, numbers = raw.recipe, raw.recipe.numbers[user]
    n_counts = recipe.logs.shape[1]
    item_features(recipe, user, out)
    at = N_RATIOS + 1 + n_counts
    own_counts = at + 2
    for own in range(recipe.users.shape[1]):
        out[at + own] = recipe.users[user, own]
    at += recipe.users.shape[1]
    for place in range(len(numbers)):
        out[at, place] = raw.scores[user, place] - raw.scores[user, 0] if numbers[place] >= 0 else np.float32(0)
        out[at + 1, place] = np.log2(np.float32(1 + place))
    at += 2
    n_readings = raw.readings.shape[1]
    out[at : at + n_readings] = raw.readings[user]
    at += n_readings
    out[at], out[at + 1] = recipe.wide[user], recipe.content[user]
    out[at + 2], out[at + 3] = raw.content[user, 0], raw.content[user, 1]
    at += 4
    first = N_RATIOS + 1
    for h in range(n_counts - 1):
        _difference(out[first + h], out[first + h + 1], out[at + h])
    at += n_counts - 1
    for t in range(len(raw.tasted)):
        _difference(out[first + raw.tasted[t]], out[own_counts + raw.tasted[t]], out[at + t])
    at += len(raw.tasted)
    for k in range(len(raw.ranked)):
        _places(out[raw.ranked[k]], numbers, out[at + k])
    at += len(raw.ranked)
    out[at] = raw.ages[user]
    out[at + 1], out[at + 2] = raw.moment[0], raw.moment[1]
    at += 3
    for e in range(len(raw.extra)):
        _source(raw.extra[e, user], numbers, out[at : at + 3])
        at += 3
    if at < len(out):
        if len(raw.shown):
            out[at], out[at + 1] = raw.shown[user, 0], raw.shown[user, 1]
        else:
            out[at], out[at + 1] = np.float32(0), NEVER


@compiled
def _source(scores: F32, numbers: I64, out: F32) -> None:
    """Write a further source's share of the best candidate's score, its logarithm and its place into `out` (3, P)."""
    most = np.float32(0)
    for place in range(len(numbers)):
        if numbers[place] >= 0:
            most = max(most, scores[place])
    inverse = np.float32(1) / most if most > 0 else np.float32(0)
    for place in range(len(numbers)):
        out[0, place] = scores[place] * inverse
        out[1, place] = np.log2(max(out[0, place], LEAST_SHARE))
    _places(out[0], numbers, out[2])


@compiled_sums
def _difference(left: F32, right: F32, out: F32) -> None:
    for i in range(len(out)):
        out[i] = left[i] - right[i]


@compiled
def _places(values: F32, numbers: I64, out: F32) -> None:
    """Write log2(1 + n) for n candidates with a higher value, which is 0 for the best; candidates alike share a place."""
    for place in range(len(values)):
        out[place] = np.log2(np.float32(1 + _n_above(values, numbers, values[place])))


@compiled_sums
def _n_above(values: F32, numbers: I64, value: np.float32) -> int:
    n_above = np.int32(0)
    for i in range(len(values)):
        n_above += np.int32(values[i] > value) & np.int32(numbers[i] >= 0)
    return int(n_above)
