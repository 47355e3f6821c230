"""The outcome of an evaluation by user: what the gate compares, of models and of lists alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ShapeError
from recsys.evaluation.headline import PLACES
from recsys.evaluation.metrics import F64, I64


@dataclass(frozen=True, slots=True)
class UserScores:
    """Holds, by user, the ranking quality of one contender on the targets of U users.

    Shapes (U,): `users` are distinct numbers in ascending order, `targets` how many of each user's targets were ranked (≥ 1), `hits` how
    many of these came among the first ten places, `ndcg` the sum of their NDCG@10.
    """

    users: I64
    targets: I64
    hits: I64
    ndcg: F64

    @classmethod
    def of(cls, users: NDArray[np.integer], ranks: F64) -> UserScores:
        """Add up the ranks (1 = first, infinite for a miss) of T targets by user. Shapes: users, ranks (T,).

        Raises: ShapeError for arrays of different lengths.
        """
        if users.shape != ranks.shape:
            raise ShapeError(f"users {users.shape} and ranks {ranks.shape} differ in shape")
        distinct, place = np.unique(users, return_inverse=True)
        hit = ranks <= PLACES
        gains = np.where(hit, 1.0 / np.log2(1.0 + ranks), 0.0)
        n_users = len(distinct)
        return cls(
            distinct.astype(np.int64),
            np.bincount(place, minlength=n_users).astype(np.int64),
            np.bincount(place, weights=hit, minlength=n_users).astype(np.int64),
            np.bincount(place, weights=gains, minlength=n_users).astype(np.float64),
        )

    @property
    def n_targets(self) -> int:
        """Return the number of targets of all users."""
        return int(self.targets.sum())

    @property
    def n_hits(self) -> int:
        """Return the number of targets that came among the first ten places."""
        return int(self.hits.sum())

    @property
    def mean_ndcg(self) -> float:
        """Return the mean NDCG@10 over all targets."""
        return float(self.ndcg.sum() / self.n_targets) if len(self.users) else 0.0
