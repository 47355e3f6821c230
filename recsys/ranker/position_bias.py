"""Position bias: how much less often a place of a list is looked at than the first one, from impressions, and what that makes of clicks.

    P(click on item i at place k) = θ_k · γ_i     (place k is looked at) · (item i is liked when it is looked at)

Both factors are told apart only by items that were shown at several places: by personal lists, or by exploration.

Shapes: n impressions, K places, I items.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ShapeError

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

PositionWeights: TypeAlias = F32
"""Factor of each event's weight, ≥ 1: one over the propensity of the place that it happened at, 1 without a place."""
MAX_WEIGHT = 10.0
"""A click far down counts for no more than this many at the top: few of these must not decide."""
SWEEPS = 200
_PRIOR = 0.5
"""Clicks and other impressions that are added to each item's and each place's, so that none is certain."""


def propensities(items: I64, positions: I64, clicked: Bools, n_places: int, sweeps: int = SWEEPS) -> F64:
    """Return how often each place is looked at for each time that the first one is, (K,), K = `n_places`, by expectation maximisation over
    impressions of `items` (n,) at `positions` (n,) from 1, those beyond K counted as K, that were `clicked` (n,).

    Never above that of the place before: what noise says otherwise is averaged. A place without impressions takes that of the place before.
    Raises: ShapeError for columns of different lengths, and for a position below 1.
    Source: Wang et al. 2018, "Position Bias Estimation for Unbiased Learning to Rank in Personal Search", section 3, by item.
    """
    if not len(items) == len(positions) == len(clicked):
        raise ShapeError(f"items, positions and clicked must have one length, got {len(items)}, {len(positions)} and {len(clicked)}")
    if len(positions) and int(positions.min()) < 1:
        raise ShapeError(f"positions count from 1, got {int(positions.min())}")
    places = np.minimum(positions, n_places) - 1
    numbers = np.unique(items, return_inverse=True)[1]
    cells, cell_of = np.unique(numbers * n_places + places, return_inverse=True)  # impressions of one item at one place are alike
    shown = np.bincount(cell_of, minlength=len(cells)).astype(np.float64)
    hits = np.bincount(cell_of, clicked, len(cells))
    item_of, place_of = cells // n_places, cells % n_places
    by_place, by_item = np.bincount(place_of, shown, n_places).astype(np.float64), np.bincount(item_of, shown)
    theta, gamma = 1.0 / np.arange(1, n_places + 1), np.full(len(by_item), 0.5)
    for _ in range(sweeps):
        looked, liked = theta[place_of], gamma[item_of]
        neither = np.maximum(1.0 - looked * liked, 1e-9)
        seen = hits + (shown - hits) * looked * (1 - liked) / neither
        wanted = hits + (shown - hits) * liked * (1 - looked) / neither
        theta = (np.bincount(place_of, seen, n_places) + _PRIOR) / (by_place + 2 * _PRIOR)
        gamma = (np.bincount(item_of, wanted, len(gamma)) + _PRIOR) / (by_item + 2 * _PRIOR)
    return _falling(theta / theta[0], by_place)


def _falling(theta: F64, counts: F64) -> F64:
    """Return the nearest sequence that does not rise, weighted by `counts` (K,): neighbours that rise are averaged."""
    blocks: list[tuple[float, float, int]] = []
    for value, count in zip(theta.tolist(), counts.tolist(), strict=True):
        blocks.append((value if count else (blocks[-1][0] if blocks else 1.0), max(count, 1e-9), 1))
        while len(blocks) > 1 and blocks[-1][0] > blocks[-2][0]:
            (low, few, n), (high, many, m) = blocks[-2], blocks[-1]
            blocks[-2:] = [((low * few + high * many) / (few + many), few + many, n + m)]
    falling = np.concatenate([np.full(n, value) for value, _, n in blocks])
    found: F64 = falling / falling[0]
    return found


def position_weights(positions: I64, places: F64) -> PositionWeights:
    """Return the factors of events at `positions` (n,) from 1, 0 for none, by the propensities of `places` (K,): (n,)."""
    at = np.clip(positions, 1, len(places)) - 1
    weights = np.minimum(1 / np.maximum(places[at], 1e-9), MAX_WEIGHT)
    return np.where(positions > 0, weights, 1.0).astype(np.float32)
