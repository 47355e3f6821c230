"""Bounds how many items of one category, brand or other value a list shows in its first places.

Shapes: U users, P ranked candidates, R caps, W most values of an item in one field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recsys.lists.candidates import Candidates
from recsys.lists.context import ListContext, Users
from recsys.lists.policies import caps_kernel
from recsys.lists.policies.options import Cap
from recsys.lists.policy import EXPLORED
from recsys.lists.scratch import Scratch

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_counts = Scratch(np.int32)


class Caps:
    """Takes candidates in their order, and passes over those with a value that has reached its cap. An item with several categories counts
    in each of them; one without a value of a field is not capped by it.

    Where no candidate fits, the place gets the first of those that break the fewest caps: a list keeps its size. Exploration draws places
    behind the caps' back, so where one of them is within a cap, it draws from candidates that all fit together.
    """

    def __call__(self, candidates: Candidates, size: int, users: Users, context: ListContext) -> Candidates:
        caps, slots = context.options.policy.caps, context.options.exploration_slots
        if not caps:
            return candidates
        n_placed = size
        if slots and any(cap.first > size - slots for cap in caps):
            n_placed = size + EXPLORED
            caps = tuple(replace(cap, first=n_placed) if cap.first > size - slots else cap for cap in caps)
        order, kept = under_caps(candidates.numbers, caps, size, n_placed, context)
        placed = candidates.at(order)
        if n_placed == size:
            return placed
        return placed.only(np.arange(candidates.numbers.shape[1]) < kept[:, None])


def under_caps(numbers: I64, caps: Sequence[Cap], size: int, n_placed: int, context: ListContext) -> tuple[I64, I64]:
    """Return the columns of `numbers` (U, P), −1 for none, in the order that they have under the caps, which hold for the first `n_placed`
    places, and how many are placed, (U,). A place below `size` takes what breaks the fewest caps where nothing fits."""
    values, n_values = _values(numbers, caps, context)
    most, first = (np.array([getattr(cap, name) for cap in caps], np.int64) for name in ("most", "first"))
    order, kept = np.empty(numbers.shape, np.int64), np.empty(len(numbers), np.int64)
    with _counts.borrowed(max(n_values, 1)) as counts:
        caps_kernel.place(np.ascontiguousarray(numbers), values, most, first, size, n_placed, counts, order, kept)
    return order, kept


def _values(numbers: I64, caps: Sequence[Cap], context: ListContext) -> tuple[I32, int]:
    """Return what the caps count of each candidate, (U, P, R, W), −1 behind the last value, and a number above all of them. No two fields
    share a number."""
    of_fields = [context.catalogue.labels[cap.field] for cap in caps]
    shape = (len(numbers), numbers.shape[1], len(caps), max(labels.width for labels in of_fields))
    found = np.full(shape, -1, np.int32)
    start = 0
    for at, labels in enumerate(of_fields):
        values = labels.at(numbers)
        found[:, :, at, : labels.width] = np.where(values >= 0, values + np.int32(start), np.int32(-1))
        start += labels.bound
    return found, start
