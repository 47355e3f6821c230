"""Directed item co-occurrence: what pairs of items add to the rows of items.

An interaction with item i after the user's touches of the items h_1 (newest) … h_W adds to row h_j, neighbour i ("i came after h_j") and,
by a smaller amount, to row i, neighbour h_j. Which interactions do: `recsys.state.touches`. Amounts are integers in units of 1/64, so
that any order of summing gives the same row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

U32 = NDArray[np.uint32]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PairWeights:
    """Amounts that one pair of unit-weight interactions adds, by their distance in the history: (W,) integers in units of 1/64."""

    forward: tuple[int, ...]
    backward: tuple[int, ...]

    @classmethod
    def decaying(cls, *, window: int, step: float, backward: float) -> PairWeights:
        """Return `step`^distance forward and `backward` times that in reverse, at least 1/64 each."""
        amounts = [64 * step**distance for distance in range(window)]
        return cls(tuple(max(1, round(a)) for a in amounts), tuple(max(1, round(backward * a)) for a in amounts))

    @property
    def window(self) -> int:
        return len(self.forward)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Directed additions, unsorted. All (p,): row item, neighbour item, weight in units of 1/64, index of the interaction that made it."""

    rows: U32
    neighbours: U32
    weights: I64
    sources: I64


def log_likelihood_ratio(
    together: NDArray[np.float32], one: NDArray[np.float32], other: NDArray[np.float32], total: float
) -> NDArray[np.float32]:
    """Return Dunning's log-likelihood ratio of a 2 × 2 table, element by element; 0 where the two meet less often than by chance.

    `together` counts both, `one` and `other` each alone or together, `total` everything; the arrays broadcast. Unit-less counts ≥ 0.
    Source: Dunning 1993, "Accurate Methods for the Statistics of Surprise and Coincidence".
    """
    total64 = np.float64(total)
    k11 = np.minimum(together.astype(np.float64), np.minimum(one, other).astype(np.float64))
    k12, k21 = one.astype(np.float64) - k11, other.astype(np.float64) - k11
    k22 = np.maximum(total64 - k11 - k12 - k21, 0.0)
    cells = _x_log_x(k11) + _x_log_x(k12) + _x_log_x(k21) + _x_log_x(k22)
    margins = _x_log_x(k11 + k12) + _x_log_x(k21 + k22) + _x_log_x(k11 + k21) + _x_log_x(k12 + k22)
    ratio = 2.0 * (cells + _x_log_x(k11 + k12 + k21 + k22) - margins)
    associated = k11 * (k11 + k12 + k21 + k22) > (k11 + k12) * (k11 + k21)
    return np.where(associated, np.maximum(ratio, 0.0), 0.0).astype(np.float32)


def _x_log_x(x: NDArray[np.float64]) -> NDArray[np.float64]:
    product: NDArray[np.float64] = x * np.log(np.where(x > 0, x, 1.0))
    return product
