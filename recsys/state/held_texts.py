"""Holds an exact text of each item or user, by number: each distinct text once.

Shapes: C rows that there is room for, V distinct values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

MISSING = -1
_FEW = 1_024
"""Values that no row has any more are dropped once they are more than this, and more than those that a row has."""


class HeldTexts:
    """One text, or tuple of texts, of each item or user: `codes` (C,) are places in `values` (V), `MISSING` for none; with a `default`,
    rows without a value have that. Distinct values never share a place. `values` grows until those that nobody has any more are dropped,
    which makes new `values` and `tables`."""

    def __init__(self, n_rows: int, default: Any = None) -> None:
        self._default = default
        self._none = MISSING if default is None else 0
        self.codes: I32 = np.full(n_rows, self._none, np.int32)
        self.values: list[Any] = [] if default is None else [default]
        self.tables: dict[Any, Any] = {}
        self._places: dict[Any, int] = dict.fromkeys(self.values, 0)
        self._counts: list[int] = [1] * len(self.values)  # the default always stays
        self._n_dropped = 0

    def grow(self, n_rows: int) -> None:
        """Make room for row numbers below `n_rows`."""
        self.codes = np.pad(self.codes, (0, n_rows - len(self.codes)), constant_values=self._none)

    def put(self, row: int, value: Any) -> None:
        """Replace the value of a row; None: it has none."""
        before, value = int(self.codes[row]), self._default if value is None else value
        if before != MISSING and self.values[before] == value:
            return
        place = MISSING
        if value is not None:
            place = self._places.setdefault(value, len(self.values))
            if place == len(self.values):
                self.values.append(value)
                self._counts.append(0)
                self._n_dropped += 1
            self._n_dropped -= self._counts[place] == 0
            self._counts[place] += place > self._none
        self.codes[row] = place
        if before > self._none:
            self._counts[before] -= 1
            self._n_dropped += self._counts[before] == 0
            if self._n_dropped > max(_FEW, len(self.values) - self._n_dropped):
                self._drop()

    def _drop(self) -> None:
        """Number the values again that a row has."""
        counts = np.array(self._counts)
        kept = np.flatnonzero(counts)
        places = np.full(len(counts) + 1, MISSING, np.int32)  # the last one is for MISSING
        places[kept] = np.arange(len(kept))
        self.codes = places[self.codes]
        self.values = [self.values[place] for place in kept.tolist()]
        self._counts = counts[kept].tolist()
        self._places = {value: place for place, value in enumerate(self.values)}
        self.tables, self._n_dropped = {}, 0
