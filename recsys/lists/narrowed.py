"""Lists of some items only, such as those of a category.

Shapes: N items, T rankings of M items.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recsys.lists.context import ListContext
from recsys.lists.rule_effects import RuleEffects

Bools = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_POPULAR_MARGIN, _NEW = 60, 40
"""Popular items beside the places of a list, and new ones, that are candidates."""


def narrowed(context: ListContext, inside: Bools) -> ListContext:
    """Return the context for lists of the items `inside` (N,) alone, those of them that rules allow: candidates are their most popular and
    their newest ones, beside what sources name."""
    before = context.effects or _no_effects()
    allowed = inside if before.allowed is None else inside & before.allowed
    numbers = np.flatnonzero(allowed & context.catalogue.recommendable(context.valid_s))
    fresh = context.catalogue.freshness(context.now_s, context.options.new_s, context.valid_s)[numbers].astype(np.float64)
    n_popular = context.options.size + _POPULAR_MARGIN
    rankings = (
        _best(numbers, context.popularity.trending_of(numbers).astype(np.float64), n_popular),
        _best(numbers[fresh > 0], fresh[fresh > 0], _NEW),
    )
    width = max(before.tops.shape[1], *(len(ranking) for ranking in rankings))
    tops = np.full((len(before.tops) + len(rankings), width), -1, np.int64)
    tops[: len(before.tops), : before.tops.shape[1]] = before.tops
    for row, ranking in enumerate(rankings, len(before.tops)):
        tops[row, : len(ranking)] = ranking
    quotas = np.concatenate((before.quotas, np.array([n_popular, _NEW], np.int64)))
    return context.under(replace(before, allowed=allowed, tops=tops, quotas=quotas))


def _best(numbers: I64, values: F64, size: int) -> I64:
    """Return the `size` of `numbers` (n,) with the largest values, largest first, equal ones by number."""
    return numbers[np.lexsort((numbers, -values))[:size]]


def _no_effects() -> RuleEffects:
    none = np.zeros((0, 0), np.int64)
    return RuleEffects(None, None, None, 0, none.reshape(0), none, (), none, none.reshape(0))
