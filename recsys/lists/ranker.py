"""From features to scores.

Shapes: U users, C candidates, F features.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.lists.features import Features

F32 = NDArray[np.float32]
Bools = NDArray[np.bool_]


class Ranker(Protocol):
    """Scores candidates. Higher is better."""

    def score(self, features: Features, valid: Bools) -> F32:
        """Return a score for each candidate, (U, C). Where `valid` (U, C) is False there is none, and any score will do."""
        ...

    def parts(self, features: Features) -> F32:
        """Return what each feature added to the score, (U, C, F): a list shows it as its sources."""
        ...


class WeightedSum:
    """Adds the features up: each is a source's part of the score, weight included."""

    def score(self, features: Features, valid: Bools) -> F32:
        values = features.values
        total = np.zeros(values.shape[:2], np.float32)
        for feature in range(values.shape[2]):
            total += values[:, :, feature]
        return total

    def parts(self, features: Features) -> F32:
        return features.values
