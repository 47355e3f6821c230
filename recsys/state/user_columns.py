"""The columns of users' histories: one entry per item, in order of its last touch.

Shapes: C slots and H columns, right-aligned (newest last), or one user's entries side by side.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]

WEIGHT_UNITS = 32
"""Interaction weights are kept as i8 in units of 1/32: from −3.97 to 3.97."""


class Columns(NamedTuple):
    """One column for each fact of an entry; all have the same shape.

    `items`: item numbers; `times_s` and `first_s`: Unix seconds of the newest and of the earliest touch; `weights`: what the entry counts
    for now, in units of 1/32; `types`: code of the event type that gave this weight; `counts`: touches, 255 at most; `visits`: sessions
    that were counted in the epoch of the newest touch.
    """

    items: U32
    times_s: U32
    first_s: U32
    weights: NDArray[np.int8]
    types: U8
    counts: U8
    visits: U8

    @classmethod
    def zeros(cls, *shape: int) -> Columns:
        """Return columns of zeros of a shape."""
        return cls(
            np.zeros(shape, np.uint32),
            np.zeros(shape, np.uint32),
            np.zeros(shape, np.uint32),
            np.zeros(shape, np.int8),
            *(np.zeros(shape, np.uint8) for _ in range(3)),
        )

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Return all columns, in their order."""
        return tuple(self)

    @classmethod
    def empty(cls, *shape: int) -> Columns:
        """Return columns of a shape that hold anything."""
        return cls(
            np.empty(shape, np.uint32),
            np.empty(shape, np.uint32),
            np.empty(shape, np.uint32),
            np.empty(shape, np.int8),
            *(np.empty(shape, np.uint8) for _ in range(3)),
        )


class Histories(NamedTuple):
    """Histories in `columns` (C, H); one for each, (C,): entries in use, and events of the user's budget that are spent."""

    columns: Columns
    lengths: NDArray[np.int32]
    spent: NDArray[np.int32]
