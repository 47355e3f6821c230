"""The newest preference of some users, held back from training: its places say when to stop.

Shapes: V users, I items, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.models.base import F32
from recsys.models.training_set import TrainingSet
from recsys.models.user_vectors import best_products

I64 = NDArray[np.int64]

PLACES = 10
LEAST_PREFERENCES = 3
"""A user with fewer is held back from nothing."""
_BLOCK_SCORES = 4_000_000
"""Scores ranked at once: 16 MB."""


@dataclass(frozen=True, slots=True)
class HeldBack:
    """`users` (V,) and the item of each that was held back, `targets` (V,); the other items of user v are
    `seen[starts[v]:starts[v + 1]]`."""

    users: I64
    targets: I64
    seen: I64
    starts: I64

    def ndcg(self, users: F32, items: F32) -> float:
        """Return NDCG@10 of the targets among all items that their users have not, by vectors of the users (V, D) and of all items (I, D).

        Users may have several vectors each (`recsys.models.user_vectors`). Equal scores count half.
        """
        return self.ndcg_by(lambda rows: best_products(users[rows], items), len(items))

    def ndcg_by(self, score: Callable[[I64], F32], n_items: int) -> float:
        """Do as `ndcg` by a function that scores all items for some of the users, (B,): (B, I)."""
        gains, step = 0.0, max(1, _BLOCK_SCORES // max(n_items, 1))
        for first in range(0, len(self.users), step):
            rows = np.arange(first, min(first + step, len(self.users)))
            scores = score(rows)
            lengths = self.starts[rows + 1] - self.starts[rows]
            own = scores[np.arange(len(rows)), self.targets[rows]].copy()
            scores[np.repeat(np.arange(len(rows)), lengths), self.seen[self.starts[first] : self.starts[rows[-1] + 1]]] = -np.inf
            ranks = 0.5 + (scores > own[:, None]).sum(axis=1) + (scores == own[:, None]).sum(axis=1) / 2
            gains += float(np.where(ranks <= PLACES, 1 / np.log2(1 + ranks), 0.0).sum())
        return gains / max(len(self.users), 1)


def hold_back(
    entries: TrainingSet, most: int, chance: np.random.Generator, *, is_warm: bool, newest: bool = True
) -> tuple[TrainingSet, HeldBack | None]:
    """Hold back the newest of the preferences `entries` of some users, or a random one, at most `most` and half of those with three or
    more; return the rest, and these; None if there are none.

    With `is_warm`, only newest preferences that the earlier model was not trained on are held back, where that is known.
    """
    starts = entries.user_starts()
    able = np.flatnonzero(np.diff(starts) >= LEAST_PREFERENCES)
    if is_warm and entries.unseen is not None:
        able = able[entries.unseen[starts[able + 1] - 1]]
    n_held = min(most, len(able) // 2)
    if not n_held:
        return entries, None
    users = np.sort(chance.choice(able, n_held, replace=False))
    last = starts[users + 1] - 1
    if not newest and not (is_warm and entries.unseen is not None):
        last -= (chance.random(n_held) * (starts[users + 1] - starts[users])).astype(np.int64)
    kept = np.ones(len(entries), bool)
    kept[last] = False
    rest = entries.only(kept)
    of_rest = rest.user_starts()
    lengths = of_rest[users + 1] - of_rest[users]
    ends = np.cumsum(lengths)
    places = np.repeat(of_rest[users], lengths) + np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
    return rest, HeldBack(users, entries.items[last].astype(np.int64), rest.items[places].astype(np.int64), np.concatenate(([0], ends)))
