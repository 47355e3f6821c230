"""Keeps the order of a user's list before, where scores differ little.

Shapes: U users, P ranked candidates, K places of the list before.
"""

from __future__ import annotations

import numpy as np

from recsys.lists.candidates import Candidates
from recsys.lists.context import ListContext, Users
from recsys.lists.policies import stability_kernel
from recsys.lists.scratch import Scratch

_places = Scratch(np.int32)


class Stability:
    """Starts from the user's list before, as far as its items are candidates, and lets a candidate pass the one before it only if it is
    worth more than `stability_margin` more.

    A candidate's worth is the score of its place after the stages before: the j-th best score for the j-th candidate. Users without a list
    before are left alone."""

    def __call__(self, candidates: Candidates, size: int, users: Users, context: ListContext) -> Candidates:
        margin, previous = context.options.policy.stability_margin, users.previous
        if margin <= 0 or previous is None or not (previous >= 0).any():
            return candidates
        closed = candidates.closed_up()
        worth = -np.sort(-closed.scores, axis=1)
        order, numbers = np.empty(closed.numbers.shape, np.int64), np.ascontiguousarray(closed.numbers)
        with _places.borrowed(context.n_items) as place_of:
            stability_kernel.keep(numbers, worth, np.ascontiguousarray(previous), size, margin, place_of, order)
        return closed.at(order)
