"""Why an item is listed: the recent interactions that added most to its score.

Shapes: U users, K places, R recent interactions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled
from recsys.lists.candidates import Candidates
from recsys.lists.context import ListContext, Users
from recsys.lists.sources.base import Source

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
MAX_BECAUSE = 2


def because(sources: Sequence[Source], listed: Candidates, users: Users, context: ListContext) -> I64:
    """Return the two recent items that added most to each listed one, through all sources that explain themselves: (U, K, 2), −1 for
    none."""
    items, recent = listed.numbers, users.recent.items
    added = np.zeros((*items.shape, recent.shape[1]), np.float32)  # (U, K, R)
    for source in sources:
        source.explain(users, items, listed.scales[source.name], context, added)
    found = np.empty((*items.shape, MAX_BECAUSE), np.int64)
    _strongest(added, recent, items, found)
    return found


@compiled
def _strongest(added: F32, recent: I64, items: I64, found: I64) -> None:
    """Write the two of the `recent` items (U, R) that added most to each of `items` (U, K), if it is more than 0, into `found` (U, K, 2),
    −1 for none. `added` (U, K, R) is overwritten."""
    found[:] = -1
    for user in range(len(items)):
        for k in range(items.shape[1]):
            own = added[user, k]
            for place in range(found.shape[2] if items[user, k] >= 0 else 0):
                best = 0
                for r in range(1, len(own)):
                    if own[r] > own[best]:
                        best = r
                if own[best] > 0 and recent[user, best] != found[user, k, 0]:
                    found[user, k, place] = recent[user, best]
                own[best] = -np.inf
