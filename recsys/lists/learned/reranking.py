"""Ranks again, by a learned ranker, what a recipe ranked first.

Shapes: U users, P candidates, K places, F features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.lists.candidates import Candidates, flat
from recsys.lists.context import ListContext, Users
from recsys.lists.learned import features_kernel
from recsys.lists.learned.feature_names import sources_of
from recsys.lists.learned.features import learned_raw
from recsys.lists.learned.features_kernel import Again
from recsys.lists.learned.ranker import LearnedRanker
from recsys.lists.ranker import REST, added_by_rules

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


def ranked_again(ranker: LearnedRanker, shortlist: Candidates, users: Users, context: ListContext, size: int) -> Candidates:
    """Return the `size` best candidates by a learned ranker, best first, of those that a recipe ranked first, the `shortlist` (U, P).

    What a tree adds counts under the source of the feature that it reads on the way, and under `context` where that belongs to none: a
    candidate's parts add up to its score. Parts are ≥ 0 as those of a recipe are. Where reasons are on, `reference` is the average of the
    shortlist.
    """
    names, numbers = tuple(shortlist.parts), shortlist.numbers
    n_users, n_groups, is_explained = len(shortlist), len(names), context.options.reasons
    again = Again(
        np.zeros(numbers.shape, np.int64),
        np.full(numbers.shape, -1, np.int64),
        np.full(numbers.shape, -np.inf, np.float32),
        np.empty((n_groups, n_users, size), np.float32),
        np.empty((n_groups, n_users) if is_explained else (0, 0), np.float32),
        np.empty((n_users, size), np.float32),
    )
    raw = learned_raw(shortlist, users, context, ranker.sources, with_shown=ranker.reads_shown, devices=ranker.devices)
    added, before = added_by_rules(numbers, context), np.stack(list(shortlist.parts.values()))
    by_rules = np.zeros((0, 0), np.float32) if added is None else added
    rows = ranker.rows_of_leaves(_groups(ranker.sources, names), n_groups)
    features_kernel.rank(raw, ranker.trees, by_rules, rows, len(ranker.feature_names), before, again)
    columns = np.ascontiguousarray(again.columns[:, :size])
    places = flat(columns, numbers.shape[1])
    by_name = dict(zip(names, again.parts, strict=True))
    reference = dict(zip(names, again.reference, strict=True)) if is_explained else None
    ones, listed = np.ones((n_users, size), np.float32), np.ascontiguousarray(again.numbers[:, :size])
    return Candidates(listed, shortlist.raw_at(places), shortlist.scales, again.totals, by_name, ones, reference=reference)


def _groups(sources: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """Return the place among the parts `names` of the source of each feature, (F,)."""
    rest = names.index(REST)
    return tuple(names.index(one) if one in names else rest for one in sources_of(sources))
