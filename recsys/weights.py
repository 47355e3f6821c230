"""What one event says about its item: a weight by type, from the rating's own scale for ratings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class WeightTable:
    """`by_type[code]` is the weight of an event type; ratings (type `rating_code`) are `(value − neutral) / (best − neutral)`, within ±1."""

    by_type: tuple[float, ...]
    rating_code: int
    rating_neutral: float
    rating_best: float


def event_weights(type_codes: NDArray[np.int8], values: NDArray[np.float64], table: WeightTable) -> NDArray[np.float32]:
    """Weight of each event (n,): positive for interest, negative for dislike, 0 for events that leave the state alone.

    `type_codes` (n,) index `table.by_type`; `values` (n,) are read for ratings only, where they must be finite. A neutral rating counts as a
    slight dislike, because the user has had the item.
    """
    weights = np.asarray(table.by_type, np.float32)[type_codes]
    rated = type_codes == table.rating_code
    if rated.any():
        scaled = (values[rated] - table.rating_neutral) / (table.rating_best - table.rating_neutral)
        scaled = np.clip(scaled, -1.0, 1.0)
        weights[rated] = np.where(np.abs(scaled) < 1 / 32, -1 / 32, scaled)
    return weights
