"""Protocols of `benchmarks.streams`: which events are targets, and recall at 10 and 20 from their ranks.

Before an event is learnt, all items that somebody touched before are ranked for its user; ties share their mean rank.

* discovery: targets are a user's first touches of items that somebody touched before, by users with at least one earlier item. The
  user's own items are left out of the ranking.
* again: targets are repeated touches. Nothing is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.streams.log import Log

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

NO_TARGET, DISCOVERY, AGAIN = 0, 1, 2
PROTOCOLS = {"discovery": DISCOVERY, "again": AGAIN}
CUTOFFS = (10, 20)
CHOOSING_SHARE = 0.4
"""Constants are chosen, and models first trained, on this share of the targets, the oldest."""


class Touches(NamedTuple):
    """Touches in order of time, for compiled loops; items have been touched in the order of their numbers.

    Shapes: (n,) `users`, `items`, `is_first` (of the user and item), `kinds` (which protocol has the event as a target); (U + 1,)
    `own_starts`: user u has room for its distinct items from there on.
    """

    users: I64
    items: I64
    is_first: Bools
    kinds: NDArray[np.int8]
    own_starts: I64

    @property
    def n_items(self) -> int:
        return int(self.items.max(initial=-1)) + 1


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """A log's touches. `events` (n,) are their places in the log."""

    log: Log
    events: I64
    touches: Touches

    @classmethod
    def of(cls, log: Log) -> Stream:
        events = np.flatnonzero(log.is_touch)
        users, items = log.users[events], log.items[events]
        is_first = _firsts(users * max(log.n_items, 1) + items)
        kinds = np.where(is_first & ~_firsts(items) & ~_firsts(users), DISCOVERY, NO_TARGET).astype(np.int8)
        kinds[~is_first] = AGAIN
        per_user = np.bincount(users[is_first], minlength=log.n_users)
        starts = np.concatenate(([0], np.cumsum(per_user))).astype(np.int64)
        return cls(log, events, Touches(users, items, is_first, kinds, starts))

    def targets(self, protocol: str) -> I64:
        """Return the touches that are a protocol's targets, (T,)."""
        return np.flatnonzero(self.touches.kinds == PROTOCOLS[protocol])

    def choosing(self, protocol: str) -> I64:
        """Return the oldest targets, on which constants are chosen."""
        targets = self.targets(protocol)
        return targets[: n_choosing(len(targets))]


def _firsts(keys: I64) -> Bools:
    """Mark the first place of each key, (n,)."""
    marked = np.zeros(len(keys), np.bool_)
    marked[np.unique(keys, return_index=True)[1]] = True
    return marked


def n_choosing(n_targets: int) -> int:
    """Return the number of targets, the oldest, on which constants are chosen."""
    return int(CHOOSING_SHARE * n_targets)


def recall(ranks: F64, k: int) -> float:
    """Return the share of targets of rank `k` or better, 0 without targets."""
    return float((ranks <= k).mean()) if len(ranks) else 0.0


def recalls(ranks: F64) -> dict[str, float]:
    """Return the figures of a protocol from the ranks of its targets (T,), oldest first."""
    parts: Mapping[str, F64] = {"": ranks, "last60_": ranks[n_choosing(len(ranks)) :]}
    return {f"{name}recall@{k}": round(recall(part, k), 5) for name, part in parts.items() for k in CUTOFFS}
