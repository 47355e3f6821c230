"""Derives what the interactions of a batch change: histories with one entry per item, pairs of items, and popularity.

An entry is ordered by its last touch (event time; equal times in order of arrival). An event moves the entry of its item there; a late
one leaves it where it is. The newest sign counts: within one sign the strongest weight, of the last change of mind. When a history is
full, the entry with the oldest last touch leaves; an event older than all of a full history is remembered as seen, and adds nothing.

What one user can add is bounded, by what the user's row says:

* An event *visits* its item unless a positive entry of it was touched within `session_s`. A visit adds pairs with the W positive entries
  of other items before it, at distance 0, 1, …; a late one also with those that follow within `session_s`. Of the visits of one item in one
  epoch the first `pairings_per_epoch` do. What happened first by event time comes first in a pair.
* To the popularity of a half-life an item gets the event's weight once in each half-life of event time, and later in it only what a
  stronger event weighs more. To popularity of all time it gets it for the first `touches_per_epoch` visits of an epoch. So do events that
  go back to an earlier period, or that follow a dislike.
* Events that add something spend the user's `budget`; a tenth of it comes back for each day of event time. Beyond it they change the
  history alone.

Shapes: U users, n interactions, p pairs, V windows of popularity, W distances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.cooccurrence import Pairs, PairWeights
from recsys.state import touch_kernel
from recsys.state.interactions import Interactions
from recsys.state.user_columns import Columns, Histories
from recsys.state.user_table import UserTable

I64 = NDArray[np.int64]

REFILL = 10
"""A budget comes back in so many days."""


@dataclass(frozen=True, slots=True)
class TouchRules:
    """Bounds what the events of one user add to rows of items. Times in seconds; `budget` and the other bounds in events."""

    pair_weights: PairWeights
    epoch_s: int
    session_s: int = 1_800
    pairings_per_epoch: int = 1
    touches_per_epoch: int = 1
    partner_touches: int = 20
    budget: int = 1_000

    @property
    def refill(self) -> int:
        """Return the events that come back a day."""
        return max(self.budget // REFILL, 1)


@dataclass(frozen=True, slots=True)
class Touches:
    """Holds what a batch changes: `pairs` to add; `popularity` (V, n) in units of 1/32, what each event adds to each window; the histories
    `after` the batch of its users; and the items that events push out of them to be remembered, `left` (n,), −1 for none."""

    pairs: Pairs
    popularity: I64
    after: Histories
    left: I64


def derive_touches(batch: Interactions, users: UserTable, rules: TouchRules, periods_s: tuple[int, ...]) -> Touches:
    """Return what a batch changes, from the histories before it. Changes nothing. `periods_s` (V,) is by window of popularity in how many
    seconds a user counts once for an item; 0: by visits."""
    n, n_columns, most = len(batch), users.history_length, 4 * rules.pair_weights.window * len(batch)
    n_users, most_events = len(batch.slots), int(batch.counts.max(initial=0))
    out = touch_kernel.Touched(
        touch_kernel.PairRows(*np.empty((2, most), np.uint32), *np.empty((2, most), np.int64)),
        np.zeros((len(periods_s), n), np.int64),
        Histories(Columns.empty(n_users, n_columns), *np.empty((2, n_users), np.int32)),
        np.full(n, -1, np.int64),
    )
    n_pairs = touch_kernel.touch(
        touch_kernel.Batch(batch.slots, batch.counts, batch.items, batch.times_s, batch.weights, batch.types),
        users.histories,
        _numbers(rules, periods_s, users.kept_types),
        Columns.empty(n_columns + most_events),
        out,
    )
    found = out.pairs
    pairs = Pairs(found.rows[:n_pairs], found.neighbours[:n_pairs], found.amounts[:n_pairs], found.sources[:n_pairs])
    return Touches(pairs, out.popularity, out.after, out.left)


def _numbers(rules: TouchRules, periods_s: tuple[int, ...], kept_types: int) -> touch_kernel.Rules:
    return touch_kernel.Rules(
        np.asarray(rules.pair_weights.forward, np.int64),
        np.asarray(rules.pair_weights.backward, np.int64),
        np.asarray(periods_s, np.int64),
        rules.epoch_s,
        rules.session_s,
        rules.pairings_per_epoch,
        rules.touches_per_epoch,
        rules.partner_touches,
        rules.budget,
        rules.refill,
        kept_types,
    )
