"""Keeps one category from taking all of the first ten places, unless a setting allows it.

An item counts in the first of its categories. One without a category counts in none.

Shapes: U users, K places or more.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.items import Catalogue
from recsys.catalogue.labels import FIRST_CATEGORY, NO_VALUES
from recsys.lists.candidates import Candidates
from recsys.lists.context import ListContext, ListOptions, Users
from recsys.lists.policies.caps import under_caps
from recsys.lists.policies.options import Cap

I64 = NDArray[np.int64]

PLACES = 10
"""Places, from the first on, that are looked at."""


def category_cap(options: ListOptions, catalogue: Catalogue) -> Cap | None:
    """Return what is allowed of one category; None where every list is within it, or no item has another category."""
    first, labels = min(PLACES, options.size), catalogue.labels.get(FIRST_CATEGORY)
    if options.most_of_category >= first or labels is None or labels.bound < 2:
        return None
    return Cap(FIRST_CATEGORY, options.most_of_category, first)


def beyond(numbers: I64, cap: Cap, context: ListContext) -> I64:
    """Return the rows of `numbers` (U, K), −1 for none, that have more of one category than the cap allows."""
    first = numbers[:, : cap.first]
    codes = np.sort(np.where(first >= 0, context.catalogue.labels[cap.field].of[first], NO_VALUES), axis=1)
    return np.flatnonzero(((codes[:, cap.most :] == codes[:, : -cap.most]) & (codes[:, cap.most :] != NO_VALUES)).any(axis=1))


def made_again(numbers: I64, context: ListContext) -> tuple[I64, ListContext]:
    """Return the rows of lists (U, K) that still have too many items of one category, and the context in which they are made again: under
    one more cap, with further candidates to choose from."""
    cap = category_cap(context.options, context.catalogue)
    rows = np.zeros(0, np.int64) if cap is None else beyond(numbers, cap, context)
    if cap is None or not len(rows):
        return rows, context
    policy = context.options.policy
    return rows, replace(context, options=replace(context.options, policy=replace(policy, caps=(*policy.caps, cap))))


class Mixed:
    """Puts candidates of other categories, which the ranker has further down, into the last of the first ten places, in lists that would
    have too many of one. Where caps are set, they do it (`recsys.lists.policies.caps`)."""

    def __call__(self, candidates: Candidates, size: int, users: Users, context: ListContext) -> Candidates:
        cap = None if context.options.policy.caps else category_cap(context.options, context.catalogue)
        if cap is None:
            return candidates
        rows = beyond(candidates.numbers, cap, context)
        if not len(rows):
            return candidates
        order = np.tile(np.arange(candidates.numbers.shape[1]), (len(candidates), 1))
        order[rows] = under_caps(candidates.numbers[rows], (cap,), size, size, context)[0]
        return candidates.at(order)
