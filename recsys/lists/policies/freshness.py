"""Boosts young items.

Shapes: U users, P ranked candidates, N items.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.items import UNKNOWN_S
from recsys.jit import compiled
from recsys.lists.candidates import Candidates, Columns
from recsys.lists.context import ListContext, Users

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

PART = "freshness"
"""Under this name a list shows what the boost added to a score."""


class Freshness:
    """Adds weight · 2^(−age / half-life) to the scores, and puts them in order again; equal ones stay in the order of the ranker.

    Ages are event time since publication, at least 0; an item without a time of publication gets nothing. Scores of a recipe are logits of
    a choice among candidates: a boost of 0.7 doubles the odds of an item that has just been published, against one that is old.
    """

    def __call__(self, candidates: Candidates, size: int, users: Users, context: ListContext) -> Candidates:
        options = context.options.policy.freshness
        if options is None or options.weight <= 0:
            return candidates
        numbers, ranked = np.ascontiguousarray(candidates.numbers), np.ascontiguousarray(candidates.scores)
        boosts, scores = np.empty((2, *numbers.shape), np.float32)
        order, published_s = np.empty(numbers.shape, np.int64), context.catalogue.published_s
        boost(numbers, ranked, published_s, context.now_s, float(options.weight), float(options.half_life_s), boosts, scores, order)
        before = candidates.parts.get(PART)
        parts = Columns.of(candidates.parts).and_(PART, boosts if before is None else before + boosts)
        return replace(candidates, scores=scores, parts=parts).at(order)


@compiled
def boost(
    numbers: I64,
    scores: F32,
    published_s: I64,
    now_s: int,
    weight: float,
    half_life_s: float,
    boosts: F32,
    boosted: F32,
    order: I64,
) -> None:
    """Write the boost of each of `numbers` (U, P), −1 for none, into `boosts`, its score with it into `boosted` (U, P), and the columns by
    these, best first and equal ones as they were, into `order` (U, P)."""
    for user in range(len(numbers)):
        for place in range(numbers.shape[1]):
            item = numbers[user, place]
            added = 0.0
            if item >= 0 and published_s[item] != UNKNOWN_S:
                added = weight * 2.0 ** (-max(float(now_s - published_s[item]), 0.0) / half_life_s)
            boosts[user, place] = np.float32(added)
            boosted[user, place] = scores[user, place] + np.float32(added)
            at = place
            while at > 0 and boosted[user, order[user, at - 1]] < boosted[user, place]:
                order[user, at] = order[user, at - 1]
                at -= 1
            order[user, at] = place
