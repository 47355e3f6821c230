"""Reads the table of users' histories, compiled.

Shapes: C slots and H columns, right-aligned; U users; W newest columns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled

U32 = NDArray[np.uint32]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]


@compiled
def newest(items: U32, times_s: U32, weights: I8, slots: I64, of_items: U32, of_times_s: U32, of_weights: I8) -> None:
    """Copy the last W columns of these users to `of_items`, `of_times_s` and `of_weights` (U, W)."""
    n_columns, width = items.shape[1], of_items.shape[1]
    for user in range(len(slots)):
        slot = slots[user]
        for column in range(width):
            source = n_columns - width + column
            of_items[user, column] = items[slot, source]
            of_times_s[user, column] = times_s[slot, source]
            of_weights[user, column] = weights[slot, source]


@compiled
def on_axis(
    numbers: U32, times_s: U32, units: I8, lengths: I32, slots: I64, unit: np.float32, positions: I32, items: I32, weights: F32, ages_s: F32
) -> None:
    """Histories (U, W) with `numbers` of items as histories with their `positions` (N,) on a model's axis, −1 for items that it does not
    know and for unused columns; weights in units of 1 / `unit`; and seconds before the newest."""
    width = numbers.shape[1]
    for user in range(len(slots)):
        first = width - min(width, lengths[slots[user]])
        for column in range(width):
            if column < first:
                items[user, column], weights[user, column], ages_s[user, column] = -1, 0, 0
                continue
            number = numbers[user, column]
            items[user, column] = positions[number] if number < len(positions) else -1
            weights[user, column] = np.float32(units[user, column]) / unit
            ages_s[user, column] = np.float32(np.int64(times_s[user, width - 1]) - np.int64(times_s[user, column]))


@compiled
def recent(times_s: U32, weights: I8, lengths: I32, unit: np.float32, ages_s: F32, strengths: F32, places: F32) -> None:
    """Read from right-aligned rows (U, W), of which the last `lengths` (U,) columns are used: for those of positive weight their strength
    in `unit`, age in seconds before the newest of them, and place among them from the newest on; 0 and 0 for others, whose place is how
    many are newer."""
    width = weights.shape[1]
    for user in range(len(weights)):
        first, newest_s = max(width - lengths[user], 0), np.int64(0)
        for column in range(first, width):
            if weights[user, column] > 0:
                newest_s = max(newest_s, np.int64(times_s[user, column]))
        place = 0
        for column in range(width - 1, -1, -1):
            is_read = column >= first and weights[user, column] > 0
            ages_s[user, column] = newest_s - times_s[user, column] if is_read else 0
            strengths[user, column] = np.float32(weights[user, column]) / unit if is_read else np.float32(0)
            places[user, column] = place
            place += is_read
