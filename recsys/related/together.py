"""Items that the same users chose as one item, by counts of users (`recsys.state.bought`).

Shapes: N other items, K places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.cooccurrence import log_likelihood_ratio

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Together:
    """Items (K,), best first: `support` users have chosen both; `confidence` is their share of the users of the one item; `lift` how many
    times more often that is than if the two had nothing to do with each other; `score` the log-likelihood ratio, which orders."""

    numbers: I64
    support: I64
    confidence: F64
    lift: F64
    score: F64


def bought_together(others: I64, support: I64, own_users: int, users: I64, n_users: int, *, least_users: int, size: int) -> Together:
    """Return the best of the items `others` (N,), which have `support` (N,) users in common with an item that has `own_users` users, and
    `users` (N,) users themselves; `n_users` users have chosen anything.

    Pairs of fewer than `least_users` users are left out, and pairs that meet less often than by chance. Equal scores go by support, then
    by number. Counts that do not fit together, as of different moments, are made to fit.
    """
    kept = support >= least_users
    others, support = others[kept], support[kept]
    own, theirs = np.maximum(own_users, support), np.maximum(users[kept], support)
    total = max(n_users, int(own.max(initial=0)), int(theirs.max(initial=0)), 1)
    lift = support * float(total) / (own * theirs)
    score = log_likelihood_ratio(
        support.astype(np.float32), own.astype(np.float32), theirs.astype(np.float32), float(total)
    ).astype(np.float64)
    order = np.lexsort((others, -support, -score))
    order = order[lift[order] >= 1][:size]
    return Together(others[order], support[order], support[order] / own[order], lift[order], score[order])
