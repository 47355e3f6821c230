"""Features of candidates and their scores by a recipe, compiled: a user's features lie in the processor's cache while they are scored.

Shapes: U users, C candidates, H half-lives, A features of items, B features of users, F = A + B, K hidden units, G sources.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import add, add_all
from recsys.jit import compiled, compiled_sums
from recsys.lists.candidates_kernel import best

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

N_RATIOS = 7
"""Features of items before freshness and popularity: three of co-occurrence, two of its wide reading, two of content."""
LEAST_SHARE = np.float32(0.01)
"""Raw scores below this share of the user's best candidate are alike to a logarithm."""
LEAST_COUNT = np.float32(0.03)
"""So are counts below this one."""


_LEAST_LOG = np.float32(np.log2(LEAST_COUNT))


class RawFeatures(NamedTuple):
    """Numbers (U, C), −1 for none; the raw scores of co-occurrence, its wide reading, content and freshness (U, C); logarithms of counts at
    each half-life, (M, H), and at which `places` (U, C) of them the candidates are, −1 for none; and the users' own features (U, B)."""

    numbers: I64
    cooccurrence: F32
    wide: F32
    content: F32
    new: F32
    logs: F32
    places: I64
    users: F32


class Weights(NamedTuple):
    """Numbers of a recipe, as in `Recipe`: `mean`, `inverse` scale and `linear` (F,), `hidden` (K, F), `bias` and `output` (K,); and the
    bound of standardised features."""

    mean: F32
    inverse: F32
    linear: F32
    hidden: F32
    bias: F32
    output: F32
    clip: np.float32


class Extra(NamedTuple):
    """Raw scores (E, U, C) of sources that the recipe has no features of, and the weights (E, U, 2) of the share of the best candidate's
    score and of its logarithm. `added` (U, C) is what rules add to scores, (0, 0) for none: it counts in the choice, and in no part."""

    scores: F32
    weights: F32
    added: F32


class Ranked(NamedTuple):
    """The best candidates of each user, best first: columns, numbers and scores (U, P), and what each of G sources added, (G, U, P). Begin
    with column 0, −1 and −∞.
    Where there is a column more of parts, (G, U, P + 1), it is of the average candidate: of the means of all candidates' features."""

    columns: I64
    numbers: I64
    scores: F32
    parts: F32


@compiled
def logarithms(counts: F32) -> None:
    """Replace counts (M, H) by their logarithms."""
    for row in range(len(counts)):
        _logarithm(counts[row], LEAST_COUNT, counts[row])


@compiled
def of_users(lengths: I32, gaps_s: F32, strengths: F32, logs: F32, places: I64, out: F32) -> None:
    """Write the features of users into `out` (U, 2 + H): logarithms of their `lengths` (U,) and of the minutes in `gaps_s` (U,), and the
    mean of the `logs` (M, H) at the `places` (U, R) of the interactions with `strengths` (U, R) above 0."""
    for user in range(len(out)):
        out[user, 0], out[user, 1] = np.log2(1.0 + lengths[user]), np.log2(1.0 + gaps_s[user] / 60.0)
        means, n_read = out[user, 2:], 0
        means[:] = 0
        for r in range(places.shape[1]):
            if strengths[user, r] > 0:
                n_read += 1
                add(means, logs[places[user, r]], np.float32(1))
        for h in range(len(means)):
            means[h] = means[h] / np.float32(n_read) if n_read else _LEAST_LOG


@compiled
def features(raw: RawFeatures, out: F32) -> None:
    """Write the features of all candidates into `out` (U, F, C), as a recipe is trained on them."""
    n_items = N_RATIOS + 1 + raw.logs.shape[1]
    for user in range(len(raw.numbers)):
        item_features(raw, user, out[user])
        for own in range(raw.users.shape[1]):
            out[user, n_items + own] = raw.users[user, own]


@compiled
def rank(raw: RawFeatures, weights: Weights, extra: Extra, groups: I64, ranked: Ranked) -> None:
    """Fill `ranked` with each user's best candidates, equal ones by number. `groups` (A,) is the source of each feature of items."""
    n_items, n_candidates, n_hidden, n_extra = len(groups), raw.numbers.shape[1], len(weights.bias), len(extra.weights)
    n_columns, n_explained = n_candidates + ranked.parts.shape[2] - ranked.columns.shape[1], ranked.parts.shape[2]
    values, units = np.zeros((n_items + n_extra, n_columns), np.float32), np.empty((n_hidden, n_columns), np.float32)
    own, total, logarithm = np.empty(n_hidden, np.float32), np.empty((1, n_candidates), np.float32), np.empty(n_columns, np.float32)
    work, explained = np.empty((1 + n_hidden, n_explained), np.float32), np.full(n_explained, n_candidates, np.int64)
    for user in range(len(raw.numbers)):
        numbers, one = raw.numbers[user], slice(user, user + 1)
        item_features(raw, user, values)
        total[:] = 0
        for feature in range(n_items):
            _standardise(values[feature], weights.mean[feature], weights.inverse[feature], weights.clip)
            add(total[0], values[feature], weights.linear[feature])
        if n_columns > n_candidates:
            _average(values[:n_items], numbers)
        for k in range(n_hidden):
            own[k] = _user_bias(raw, weights, user, k, n_items)
            units[k] = own[k]
            add_all(units[k], values, weights.hidden[k, :n_items])
            _add_rectified(total[0], units[k], weights.output[k])
        for e in range(n_extra):
            _ratio(extra.scores[e, user], numbers, values[n_items + e], logarithm)
            _weigh(values[n_items + e], logarithm, extra.weights[e, user])
            add(total[0], values[n_items + e], np.float32(1))
        if n_columns > n_candidates:
            _average(values[n_items:], numbers)
        if len(extra.added):
            add(total[0], extra.added[user], np.float32(1))
        best(total, raw.numbers[one], ranked.columns[one], ranked.numbers[one], ranked.scores[one])
        explained[: ranked.columns.shape[1]] = ranked.columns[user]
        _parts(values, units, own, weights, n_extra, groups, explained, work, ranked.parts[:, user])


@compiled_sums
def _average(values: F32, numbers: I64) -> None:
    """Write the mean of the features of the candidates `numbers` (C,), −1 for none, into the last column of `values` (F, C + 1)."""
    n_valid, n_first = 0, 0
    for column in range(len(numbers)):
        n_valid += numbers[column] >= 0
    for column in range(n_valid):
        n_first += numbers[column] >= 0
    inverse = np.float32(1 / max(n_valid, 1))
    for feature in range(len(values)):
        total = np.float32(0)
        if n_first == n_valid:  # no gap between candidates, as nearly always
            for column in range(n_valid):
                total += values[feature, column]
        else:
            for column in range(len(numbers)):
                total += values[feature, column] if numbers[column] >= 0 else np.float32(0)
        values[feature, len(numbers)] = total * inverse


@compiled
def shares(scores: F32, numbers: I64, out: F32) -> None:
    """Write the scores (E, U, C) of sources without features as shares of the best candidate's, and the logarithms of these from 0 to 1,
    into `out` (2 E, U, C): two after two."""
    for e in range(len(scores)):
        for user in range(len(numbers)):
            _ratio(scores[e, user], numbers[user], out[2 * e, user], out[2 * e + 1, user])
            _scale_logarithm(out[2 * e + 1, user])


@compiled
def settle(numbers: I64, parts: F32, scores: F32) -> None:
    """Let each of `parts` (G, U, P or more) count from the least of a user's `numbers` (U, P), −1 for none, and write their sums into
    `scores` (U, P). Where there is no candidate parts become 0 and the score −∞."""
    scores[:] = 0
    for part in parts:
        for user in range(len(numbers)):
            least = np.float32(np.inf)
            for place in range(numbers.shape[1]):
                least = min(least, part[user, place] if numbers[user, place] >= 0 else least)
            for place in range(numbers.shape[1]):
                part[user, place] = part[user, place] - least if numbers[user, place] >= 0 else np.float32(0)
                scores[user, place] += part[user, place]
            for place in range(numbers.shape[1], part.shape[1]):
                part[user, place] -= least
    for user in range(len(numbers)):
        for place in range(numbers.shape[1]):
            if numbers[user, place] < 0:
                scores[user, place] = -np.inf


@compiled_sums
def _parts(values: F32, units: F32, own: F32, weights: Weights, n_extra: int, groups: I64, columns: I64, work: F32, parts: F32) -> None:
    """Write what each of G sources added to the scores of the candidates in `columns` (P,) into `parts` (G, P): extra sources are the last,
    and before them comes what no feature of an item added. `work` (1 + K, P) is room for slopes and for the outputs of hidden units."""
    parts[:] = 0
    rest, n_items, n_hidden = len(parts) - n_extra - 1, len(groups), len(own)
    slopes, active, of_units = work[0], work[1:], np.empty(n_hidden, np.float32)
    for k in range(n_hidden):
        for place in range(len(columns)):
            active[k, place] = weights.output[k] if units[k, columns[place]] > 0 else np.float32(0)
        add(parts[rest], active[k], own[k])
    for feature in range(n_items):
        slopes[:] = weights.linear[feature]
        for k in range(n_hidden):
            of_units[k] = weights.hidden[k, feature]
        add_all(slopes, active, of_units)
        group = groups[feature]
        for place in range(len(columns)):
            parts[group, place] += values[feature, columns[place]] * slopes[place]
    for e in range(n_extra):
        for place in range(len(columns)):
            parts[rest + 1 + e, place] = values[n_items + e, columns[place]]


@compiled_sums
def _weigh(relative: F32, logarithm: F32, weights: F32) -> None:
    """Replace shares of the best candidate's score by the weighted sum of the share and of its logarithm."""
    _scale_logarithm(logarithm)
    for i in range(len(relative)):
        relative[i] = weights[0] * relative[i] + weights[1] * logarithm[i]


@compiled_sums
def _scale_logarithm(logarithm: F32) -> None:
    """Scale the logarithm of a share to 0 for no share and 1 for the whole."""
    scale = np.float32(1 / 6.658211)  # log2(1.01 / 0.01)
    for i in range(len(logarithm)):
        logarithm[i] = (logarithm[i] + np.float32(6.6438562)) * scale


@compiled
def item_features(raw: RawFeatures, user: int, out: F32) -> None:
    """Write the features of a user's candidates into the first rows of `out` (A or more, C)."""
    numbers = raw.numbers[user]
    _ratio(raw.cooccurrence[user], numbers, out[0], out[1])
    _logarithm(raw.cooccurrence[user], LEAST_SHARE, out[2])
    _ratio(raw.wide[user], numbers, out[3], out[4])
    _ratio(raw.content[user], numbers, out[5], out[6])
    out[7, : len(numbers)] = raw.new[user]
    for candidate in range(len(numbers)):
        place = max(raw.places[user, candidate], 0)
        for h in range(raw.logs.shape[1]):
            out[N_RATIOS + 1 + h, candidate] = raw.logs[place, h]


@compiled
def _ratio(scores: F32, numbers: I64, relative: F32, logarithm: F32) -> None:
    """Write a source's scores (C,) as shares of the best candidate's, and the logarithm of these."""
    best = np.float32(0)
    for candidate in range(len(scores)):
        if numbers[candidate] >= 0:
            best = max(best, scores[candidate])
    inverse = np.float32(1) / best if best > 0 else np.float32(0)
    for candidate in range(len(scores)):
        relative[candidate] = min(scores[candidate] * inverse, np.float32(1))
    _logarithm(relative, LEAST_SHARE, logarithm)


@compiled_sums
def _logarithm(values: F32, least: np.float32, out: F32) -> None:
    """Write log2(value + least) of values ≥ 0, less than 2e-5 off, in a form that is vectorised."""
    for i in range(len(values)):
        bits = np.int32(np.float32(values[i] + least).view(np.int32))
        mantissa = np.int32((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000)).view(np.float32)
        power = np.float32((bits >> np.int32(23)) - np.int32(127))
        polynomial = np.float32(-0.034436006)
        polynomial = polynomial * mantissa + np.float32(0.31821337)
        polynomial = polynomial * mantissa + np.float32(-1.2315303)
        polynomial = polynomial * mantissa + np.float32(2.5988452)
        polynomial = polynomial * mantissa + np.float32(-3.3241990)
        polynomial = polynomial * mantissa + np.float32(3.1157899)
        out[i] = power + polynomial * (mantissa - np.float32(1))


@compiled_sums
def _standardise(values: F32, mean: np.float32, inverse: np.float32, clip: np.float32) -> None:
    for i in range(len(values)):
        values[i] = min(max((values[i] - mean) * inverse, -clip), clip)


@compiled
def _user_bias(raw: RawFeatures, weights: Weights, user: int, k: int, n_items: int) -> np.float32:
    """Return what a hidden unit reads of the user alone."""
    total: np.float32 = weights.bias[k]
    for own in range(raw.users.shape[1]):
        feature = n_items + own
        value = (raw.users[user, own] - weights.mean[feature]) * weights.inverse[feature]
        total += weights.hidden[k, feature] * min(max(value, -weights.clip), weights.clip)
    return total


@compiled_sums
def _add_rectified(total: F32, unit: F32, weight: np.float32) -> None:
    for i in range(len(total)):
        total[i] += weight * max(unit[i], np.float32(0))
