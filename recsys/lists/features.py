"""Features of candidates: what rankers and recipes read.

Shapes: U users, C candidates, R recent interactions, H half-lives, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.lists import features_kernel
from recsys.lists.candidates import Candidates
from recsys.lists.context import ListContext, Users
from recsys.lists.fading import factor, source_of
from recsys.lists.feature_names import FEATURE_VERSION, FEATURES, USER_FEATURES
from recsys.lists.features_kernel import LEAST_COUNT, RawFeatures
from recsys.lists.sources.cooccurrence import wide_scores

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """`values` (U, C, F) by `names` (F). Each feature's values lie together in memory."""

    names: tuple[str, ...]
    values: F32

    @classmethod
    def of(cls, names: tuple[str, ...], columns: F32) -> Features:
        """Return features whose values are `columns` (F, U, C)."""
        return cls(names, columns.transpose(1, 2, 0))

    def column(self, name: str) -> F32:
        """Return one feature, (U, C)."""
        return self.values[:, :, self.names.index(name)]

    def at(self, places: I64) -> Features:
        """Return the features at flat `places` (U, K) of (U, C)."""
        columns = self.values.transpose(2, 0, 1)
        return Features.of(self.names, columns.reshape(len(columns), -1)[:, places])


class FeatureMaker(Protocol):
    """Computes features from candidates, in serving and in training alike. `version` changes with what they mean."""

    version: int

    def __call__(self, candidates: Candidates, users: Users, context: ListContext) -> Features: ...


class SourceParts:
    """Makes one feature of each source: its raw score, as a share of the user's best candidate's, times its weight."""

    version = 2

    def __call__(self, candidates: Candidates, users: Users, context: ListContext) -> Features:
        columns = np.empty((len(candidates.raw), *candidates.numbers.shape), np.float32)
        for column, (name, raw) in zip(columns, candidates.raw.items(), strict=True):
            np.multiply(raw, candidates.scales[name][:, None], out=column)
        return Features.of(tuple(candidates.raw), columns)


class RecipeFeatures:
    """Makes the features that recipes read, by `FEATURES`."""

    version = FEATURE_VERSION

    def __call__(self, candidates: Candidates, users: Users, context: ListContext) -> Features:
        raw = raw_features(candidates, users, context)
        columns = np.empty((len(users), len(FEATURES), candidates.numbers.shape[1]), np.float32)
        features_kernel.features(raw, columns)
        return Features(FEATURES, columns.transpose(0, 2, 1))


def extra_shares(candidates: Candidates, columns: Sequence[str], lengths: I32) -> F32:
    """Return the scores of the sources of these columns (K), which have no features, as shares of the user's best candidate's, and the
    logarithms of these from 0 to 1: (U, C, 2 K). `lengths` (U,) of the users' histories reduce the columns that fall with them."""
    names = [source_of(column) for column in columns]
    scores = np.array([candidates.raw[name] for name in names], np.float32).reshape(len(names), *candidates.numbers.shape)
    shares = np.empty((2 * len(names), *candidates.numbers.shape), np.float32)
    features_kernel.shares(scores, candidates.numbers, shares)
    for place, column in enumerate(columns):
        shares[2 * place : 2 * place + 2] *= factor(column, lengths)[:, None]
    return np.ascontiguousarray(shares.transpose(1, 2, 0))


def raw_features(candidates: Candidates, users: Users, context: ListContext) -> RawFeatures:
    """Return the numbers that features are computed from. A source that is switched off has no opinion."""
    n_users, n_candidates = candidates.numbers.shape
    none = np.zeros((n_users, n_candidates), np.float32)
    raw, wide = candidates.raw, candidates.wide
    if "trending" in raw:
        logs, places = _counts(candidates.numbers, context)
    else:
        logs, places = np.full((1, _N_COUNTS), np.log2(LEAST_COUNT), np.float32), np.zeros_like(candidates.numbers)
    if wide is None:
        wide = wide_scores(users, candidates.numbers, context) if "cooccurrence" in raw else none
    return RawFeatures(
        candidates.numbers,
        raw.get("cooccurrence", none),
        wide,
        raw.get("content", none),
        raw.get("new", none),
        logs,
        places,
        user_features(users, context),
    )


def _counts(numbers: I64, context: ListContext) -> tuple[F32, I64]:
    """Return logarithms of items' counts at each half-life, (M, H), and at which of these places each of `numbers` (U, C) is, (U, C)."""
    if context.scores_all(numbers):
        return _all_counts(context), numbers
    counts = context.popularity.bank_of(numbers.ravel())
    features_kernel.logarithms(counts)
    return counts, np.arange(numbers.size).reshape(numbers.shape)


def _all_counts(context: ListContext) -> F32:
    """Return the logarithms of all items' counts at each half-life, (N, H)."""

    def made() -> F32:
        counts = context.popularity.bank_of(np.arange(context.n_items))
        features_kernel.logarithms(counts)
        return counts

    return context.once("recipe.counts", made)


_N_COUNTS = len(USER_FEATURES) - 2


def user_features(users: Users, context: ListContext) -> F32:
    """Return the features that are the same for all candidates, (U, B): logarithms of the length of the history, of the minutes since the
    newest interaction, and the mean logarithm of the recent items' counts at each half-life."""

    def made() -> F32:
        recent, lengths = users.recent, context.table.lengths[users.slots]
        found = np.empty((len(users), len(USER_FEATURES)), np.float32)
        logs, places = _counts(recent.items, context)
        features_kernel.of_users(lengths, users.gaps_s(context), recent.strengths, logs, places, found)
        return found

    return users.once("recipe.users", made)
