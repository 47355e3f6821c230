"""Finished lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists of U users, K items each: numbers and scores (U, K), −1 and −∞ where there was nothing left to list; propensities (U, K); per
    source its part of the score (U, K); `because` (U, K, 2) item numbers that contributed most, −1 for none."""

    items: I64
    scores: F32
    propensities: F32
    contributions: dict[str, F32]
    because: I64

    @classmethod
    def joined(cls, blocks: Sequence[Lists]) -> Lists:
        """Return the users of all blocks, one after another."""
        if len(blocks) == 1:
            return blocks[0]
        return cls(
            np.concatenate([b.items for b in blocks]),
            np.concatenate([b.scores for b in blocks]),
            np.concatenate([b.propensities for b in blocks]),
            {name: np.concatenate([b.contributions[name] for b in blocks]) for name in blocks[0].contributions},
            np.concatenate([b.because for b in blocks]),
        )
