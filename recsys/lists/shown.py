"""Reads how often items were shown to users, for lists and features, and caps it.

Shapes: U users, N entries, C candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.lists.scratch import Scratch
from recsys.state import shown_kernel
from recsys.state.shown import ShownTable

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]

_places = Scratch(np.int32)


@dataclass(frozen=True, slots=True)
class FrequencyCap:
    """Lets an item that was shown `times` times without a choice rest for `rest_s` seconds of event time after the last impression."""

    times: int
    rest_s: int


class ShownItems(NamedTuple):
    """Items that were shown to users since they last chose them, oldest impression first: numbers (U, N), −1 in unused places; how often,
    1 to 255; and the second of the last impression. Both are 0 in unused places."""

    items: I64
    counts: I32
    shown_s: I64


class ShownCounts(NamedTuple):
    """Counts of impressions of candidates (U, C) since their user last chose them, 0 to 255, and the second of the last one, 0 for none."""

    counts: I32
    shown_s: I64


def shown_items(table: ShownTable, slots: I64) -> ShownItems:
    """Return the entries of users in `slots` (U,) with at least one impression."""
    held = table.of(slots)
    used = (np.arange(table.width)[None, :] < held.lengths[:, None]) & (held.counts > 0)
    order = np.argsort(~used, axis=1, kind="stable")  # unused places to the end
    used = np.take_along_axis(used, order, axis=1)
    items, counts, shown_s = (np.take_along_axis(column, order, axis=1) for column in (held.items, held.counts, held.shown_s))
    return ShownItems(
        np.where(used, items.astype(np.int64), -1), np.where(used, counts, 0).astype(np.int32), np.where(used, shown_s, 0).astype(np.int64)
    )


def counts_of(table: ShownTable, slots: I64, numbers: I64, n_items: int) -> ShownCounts:
    """Return how often the candidates `numbers` (U, C), −1 for none, were shown to users in `slots` (U,). Item numbers are below
    `n_items`."""
    found = ShownCounts(np.empty(numbers.shape, np.int32), np.empty(numbers.shape, np.int64))
    with _places.borrowed(n_items) as place_of:
        shown_kernel.look_up(table.places, slots, np.ascontiguousarray(numbers), place_of, found.counts, found.shown_s)
    return found


def resting(table: ShownTable, slots: I64, cap: FrequencyCap, now_s: int) -> tuple[U32, I64]:
    """Return the items that a cap lets rest at `now_s`, user after user, and where the items of each end, (U,)."""
    items, ends = np.empty(int(table.places.lengths[slots].sum()), np.uint32), np.empty(len(slots), np.int64)
    shown_kernel.resting(table.places, slots, cap.times, cap.rest_s, now_s, items, ends)
    return items[: int(ends[-1]) if len(ends) else 0], ends
