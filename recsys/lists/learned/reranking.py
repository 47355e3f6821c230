"""Ranks again, by a learned ranker, what a recipe ranked first.

Shapes: U users, P candidates, K places, F features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.lists import features_kernel as recipe_kernel
from recsys.lists.candidates import Candidates
from recsys.lists.context import ListContext, Users
from recsys.lists.learned import features_kernel
from recsys.lists.learned.feature_names import sources_of
from recsys.lists.learned.features import learned_raw
from recsys.lists.learned.features_kernel import Again
from recsys.lists.learned.ranker import LearnedRanker
from recsys.lists.ranker import REST, added_by_rules

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


def ranked_again(ranker: LearnedRanker, shortlist: Candidates, users: Users, context: ListContext, size: int) -> Candidates:
    """Return the `size` best candidates by a learned ranker, best first, of those that a recipe ranked first, the `shortlist` (U, P).

    What a tree adds counts under the source of the feature that it reads on the way, and under `context` where that belongs to none: a
    candidate's parts add up to its score. Parts are ≥ 0 as those of a recipe are. Where reasons are on, `reference` is the average of the
    shortlist.
    """
    names, n_users = tuple(shortlist.parts), len(shortlist)
    has_reference = context.options.reasons
    n_explained = shortlist.numbers.shape[1] if has_reference else size  # the average of all is asked for
    of_leaves, shape = ranker.parts_of_leaves(_groups(ranker.sources, names), len(names)), (n_users, n_explained)
    again = Again(
        np.zeros(shape, np.int64),
        np.full(shape, -1, np.int64),
        np.full(shape, -np.inf, np.float32),
        np.empty((len(names), *shape), np.float32),
    )
    raw = learned_raw(shortlist, users, context, ranker.sources, with_shown=ranker.reads_shown)
    added = added_by_rules(shortlist.numbers, context)
    by_rules = np.zeros((0, 0), np.float32) if added is None else added
    features_kernel.rank(raw, ranker.trees, by_rules, of_leaves, len(ranker.feature_names), again)
    chosen, parts = shortlist.at(again.columns), again.parts
    for part, name in zip(parts, names, strict=True):
        part += chosen.parts[name]
    numbers, columns = (np.ascontiguousarray(one[:, :size]) for one in (again.numbers, again.columns))
    if has_reference:
        parts = np.concatenate((parts[:, :, :size], _means(parts, again.numbers >= 0)), axis=2)
    chosen, totals = shortlist.at(columns), np.empty((n_users, size), np.float32)
    recipe_kernel.settle(numbers, parts, totals)
    reference = dict(zip(names, np.ascontiguousarray(parts[:, :, size]), strict=True)) if has_reference else None
    by_name = dict(zip(names, np.ascontiguousarray(parts[:, :, :size]), strict=True))
    ones = np.ones((n_users, size), np.float32)
    return Candidates(numbers, chosen.raw, chosen.scales, totals, by_name, ones, reference=reference)


def _means(parts: F32, valid: Bools) -> F32:
    """Return the means of parts (G, U, P) over the candidates that are `valid` (U, P): (G, U, 1)."""
    sums = np.where(valid, parts, np.float32(0)).sum(axis=2, keepdims=True)
    means: F32 = (sums / np.maximum(valid.sum(axis=1), 1)[:, None]).astype(np.float32)
    return means


def _groups(sources: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """Return the place among the parts `names` of the source of each feature, (F,)."""
    rest = names.index(REST)
    return tuple(names.index(one) if one in names else rest for one in sources_of(sources))
