"""From ranked candidates to the places of a list.

Shapes: U users, P ranked candidates, K places.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from recsys.lists.candidates import Candidates
from recsys.lists.context import ListContext, Users

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

EXPLORED = 50
"""Candidates behind the last place from which exploration draws."""


class PolicyStage(Protocol):
    """Changes which candidates are listed, and in what order. Stages follow one another; the first K candidates of the last are listed."""

    def __call__(self, candidates: Candidates, size: int, users: Users, context: ListContext) -> Candidates:
        """Return candidates for lists of `size` places. Given are more, best first, ranked and with propensities."""
        ...


@runtime_checkable
class Prepared(Protocol):
    """A stage that computes what all users share before lists are made in several threads."""

    def prepare(self, context: ListContext) -> None:
        """Compute it and keep it. Called once for each context."""
        ...


class Exploration:
    """Fills the last `exploration_slots` places at random from the next best candidates, and says with what propensity."""

    def __call__(self, candidates: Candidates, size: int, users: Users, context: ListContext) -> Candidates:
        slots = context.options.exploration_slots
        if not slots:
            return candidates.first(size)
        pool = candidates.first(size + EXPLORED)
        columns, propensities = explore(pool.scores, size, slots, users.seeds)
        return replace(pool.at(columns), propensities=propensities)


def explore(scores: F32, size: int, slots: int, seeds: I64) -> tuple[I64, F32]:
    """Fill the last `slots` of `size` places at random from the candidates behind the first `size - slots`, uniformly without replacement.

    `scores` (U, P) are the P best, best first, −∞ where there is nothing to list, which is never drawn; `seeds` (U,) makes each user's draw
    repeatable. Returns columns and propensities (U, min(size, P)): 1 for a fixed place, slots / pool size for a drawn one.
    """
    k = min(size, scores.shape[1])
    columns, propensity = np.tile(np.arange(k), (len(scores), 1)), np.ones((len(scores), k), np.float32)
    if not 0 < slots < k:
        return columns, propensity
    fixed = k - slots
    for user, (pool, seed) in enumerate(zip((np.isfinite(scores).sum(axis=1) - fixed).tolist(), seeds.tolist(), strict=True)):
        if pool > slots:
            columns[user, fixed:] = np.sort(np.random.default_rng(seed).choice(pool, slots, replace=False)) + fixed
            propensity[user, fixed:] = slots / pool
    return columns, propensity
