"""Weights of events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ShapeError
from recsys.jit import compiled


@dataclass(frozen=True, slots=True)
class WeightTable:
    """Weight of each event type code; `rating_code` is the type whose value decides, from `rating_neutral` (0) to `rating_best` (1).

    `by_code[c]` is the unitless weight of type *c*; the entry of `rating_code` is not read.
    """

    by_code: tuple[float, ...]
    rating_code: int
    rating_neutral: float
    rating_best: float

    def __post_init__(self) -> None:
        if not 0 <= self.rating_code < len(self.by_code):
            raise ShapeError(f"rating_code must be one of the {len(self.by_code)} type codes")
        if not self.rating_best > self.rating_neutral:
            raise ValueError("rating_best must be above rating_neutral")


def event_weights(type_codes: NDArray[np.int8], values: NDArray[np.float64], table: WeightTable) -> NDArray[np.float32]:
    """Return the unitless weight of each event: above 0 a preference, below 0 a dislike, 0 nothing.

    Shapes: all (n,). A rating weighs (value − neutral) / (best − neutral), clipped to [−1, 1], and one that does not exceed neutral is a
    dislike: exactly neutral becomes the smallest negative weight, −1/32, since the state counts in units of 1/32. A rating without value
    (NaN) weighs 0. Raises: ShapeError for arrays of different length or a type code outside the table.
    """
    if type_codes.shape != values.shape or type_codes.ndim != 1:
        raise ShapeError(f"type codes and values must be one axis of the same length, got {type_codes.shape} and {values.shape}")
    if len(type_codes) and (int(type_codes.min()) < 0 or int(type_codes.max()) >= len(table.by_code)):
        raise ShapeError(f"an event type code lies outside the table of {len(table.by_code)} types")
    weights, by_code = np.empty(len(values), np.float32), np.array(table.by_code, np.float32)
    _weigh(type_codes, values, by_code, table.rating_code, table.rating_neutral, table.rating_best, weights)
    return weights


@compiled
def _weigh(
    type_codes: NDArray[np.int8],
    values: NDArray[np.float64],
    by_code: NDArray[np.float32],
    rating_code: int,
    neutral: float,
    best: float,
    weights: NDArray[np.float32],
) -> None:
    for i in range(len(type_codes)):
        if type_codes[i] != rating_code:
            weights[i] = by_code[type_codes[i]]
        elif np.isnan(values[i]):
            weights[i] = 0
        else:
            scaled = min(max((values[i] - neutral) / (best - neutral), -1.0), 1.0)
            weights[i] = scaled if scaled != 0 else -1 / 32
