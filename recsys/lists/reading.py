"""Reads what users did lately: how much each recent interaction weighs, and how co-occurrence counts become scores.

Shapes: U users, R recent interactions (newest last).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recsys.state import user_table_kernel
from recsys.state.user_table import WEIGHT_UNITS

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Similarity = Literal["directed", "cosine", "llr"]


@dataclass(frozen=True, slots=True)
class Recency:
    """Weight of the j-th newest interaction of age a: `step`^j · (1 + a/`age_s`)^−`power` + `long_share` · `long_step`^j."""

    step: float
    age_s: float
    power: float = 1.0
    long_share: float = 0.0
    long_step: float = 1.0

    def weights(self, recent: Recent) -> F32:
        """Return (U, R) weights; 0 for dislikes and unused columns."""
        fresh = (1.0 + recent.ages_s / np.float32(self.age_s)) ** np.float32(-self.power)
        place = recent.places
        decayed = np.float32(self.step) ** place * fresh + np.float32(self.long_share) * np.float32(self.long_step) ** place
        weighted: F32 = (decayed * recent.strengths).astype(np.float32)
        return weighted


@dataclass(frozen=True, slots=True)
class Recent:
    """The newest interactions of U users, all (U, R): item numbers, ages before the user's newest in seconds, strengths (weight where
    positive, else 0) and `places`, the rank among the user's positive ones (0 = newest)."""

    items: I64
    ages_s: F32
    strengths: F32
    places: F32

    @classmethod
    def of(cls, items: NDArray[np.uint32], times_s: NDArray[np.uint32], weights: NDArray[np.int8], lengths: NDArray[np.int32]) -> Recent:
        """Read right-aligned rows of the user table; `lengths` (U,) says how many columns are used."""
        ages_s, strengths, places = np.empty((3, *items.shape), np.float32)
        user_table_kernel.recent(times_s, weights, lengths, np.float32(WEIGHT_UNITS), ages_s, strengths, places)
        return cls(items.astype(np.int64), ages_s, strengths, places)

    def part(self, rows: slice | NDArray[np.int64]) -> Recent:
        """Return some of the users."""
        return Recent(self.items[rows], self.ages_s[rows], self.strengths[rows], self.places[rows])


@dataclass(frozen=True, slots=True)
class CooccurrenceReading:
    """Turns rows of counts into scores: a recent item's row is divided by its popularity^`source_power`, a candidate's column by
    (popularity + `candidate_offset`)^`candidate_power` ("directed"); by the square roots of both ("cosine"); or replaced by
    log-likelihood ratios ("llr")."""

    recency: Recency = Recency(step=0.88, age_s=120.0, long_share=0.3, long_step=0.88)
    similarity: Similarity = "directed"
    source_power: float = 0.6
    candidate_power: float = 0.33
    candidate_offset: float = 20.0

    def candidate_factor(self, popularity: F32) -> F32:
        """Return the factor of a candidate's counts by its popularity, any shape; 0 where nobody chose it."""
        if self.similarity == "llr":
            return np.ones_like(popularity)
        power, added = (self.candidate_power, self.candidate_offset) if self.similarity == "directed" else (0.5, 0.0)
        chosen = popularity > 0
        return np.where(chosen, np.where(chosen, popularity + np.float32(added), 1.0) ** np.float32(-power), 0.0).astype(np.float32)

    def weights(self, recent: Recent, popularity: F32) -> F32:
        """Return the factors of the recent items' rows, (U, R)."""
        weights, power = self.recency.weights(recent), self.source_power if self.similarity == "directed" else 0.5
        if self.similarity == "llr" or not power:
            return weights
        source = popularity[recent.items]
        weighted: F32 = (weights * np.where(source > 0, source, 1.0) ** np.float32(-power)).astype(np.float32)
        return weighted
