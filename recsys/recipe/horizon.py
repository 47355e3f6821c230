"""Choices that a case of a new user is about, beside the next one.

The list of a user of whom next to nothing is known is looked at for more than one choice, and the choice right after the first event says
little about the others: it is often what lay beside that item. So a case before the user's tenth event asks for all choices up to there.
Later cases ask for the next one.

Shapes: B events, L later choices.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]

FIRST_EVENTS = 10
"""Events of a user up to which a case asks for all choices."""


def later_choices(users: I64, items: I64, weights: NDArray[np.int8], events: I64) -> I64:
    """Return the items that users chose after the `events` (B,), ascending, up to their tenth event: (B, L), −1 for none.

    `users`, `items` and `weights` (n,) are the columns of a log. An item counts once, if it is liked and was not touched before. Nothing
    counts that happened after the last of the `events`, so that a training knows no event on which it is judged.
    """
    found = np.full((len(events), FIRST_EVENTS - 1), -1, np.int64)
    if not len(events):
        return found
    known = users[: int(events[-1]) + 1]
    order = np.argsort(known, kind="stable")
    grouped = known[order]
    first = np.searchsorted(grouped, users[events])
    ends = np.minimum(np.searchsorted(grouped, users[events], side="right"), first + FIRST_EVENTS)
    for row in np.flatnonzero(order[ends - 1] > events).tolist():
        mine = order[first[row] : ends[row]]
        is_first = np.zeros(len(mine), np.bool_)
        is_first[np.unique(items[mine], return_index=True)[1]] = True
        chosen = items[mine[is_first & (mine > events[row]) & (weights[mine] > 0)]]
        found[row, : len(chosen)] = chosen
    return found
