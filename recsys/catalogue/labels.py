"""Exact values of chosen fields of items, by item number: what caps count and calibration compares.

Unlike the columns of content features, every value has a number of its own, however many there are.

Shapes: N items, S distinct sets of values, W most values in a set.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

CATEGORY = "category"
"""The field of an item's categories."""
FIRST_CATEGORY = "first category"
"""The field of an item's first category alone: it has fewer distinct sets of values."""
ATTRIBUTE = "attribute."
"""The field of a categorical attribute is this and the attribute's name."""
NO_VALUES = 0
"""Number of the set without values."""


class Labels:
    """Holds the values that items have of one field. Distinct texts have distinct numbers; one is free again when no item has its value.

    `of` (N or more,) is the number of an item's set of values, `sets` (S, W) the values of each set in an item's order, then −1. `changes`
    counts items whose values changed.
    Memory: 4 bytes an item, and some 400 bytes for each distinct value and each distinct set.
    """

    def __init__(self, n_items: int = 256) -> None:
        self.changes = 0
        self.of: I32 = np.zeros(n_items, np.int32)
        self.sets: I32 = np.full((16, 1), -1, np.int32)
        self._sets: dict[tuple[int, ...], int] = {(): NO_VALUES}
        self._members: list[int] = [0]
        self._free_sets: list[int] = []
        self._numbers: dict[str, int] = {}
        self._texts: list[str] = []
        self._uses: list[int] = []
        self._free: list[int] = []

    @property
    def bound(self) -> int:
        """Return a number above those of all values."""
        return len(self._texts)

    @property
    def width(self) -> int:
        """Return W."""
        return int(self.sets.shape[1])

    def grow(self, n_items: int) -> None:
        """Make room for item numbers below `n_items`."""
        if n_items > len(self.of):
            self.of = np.pad(self.of, (0, max(n_items, 2 * len(self.of)) - len(self.of)))

    def put(self, number: int, values: Iterable[str]) -> None:
        """Replace the values of an item."""
        self.grow(number + 1)
        before = int(self.of[number])
        taken = self._set_of(tuple(self._number(text) for text in dict.fromkeys(values)))
        self.changes += taken != before
        self.of[number] = taken
        self._members[taken] += 1
        self._release(before)

    def values(self, number: int) -> tuple[str, ...]:
        """Return the values of an item."""
        found = self.sets[self.of[number]] if number < len(self.of) else self.sets[NO_VALUES]
        return tuple(self._texts[value] for value in found[found >= 0].tolist())

    def number_of(self, text: str) -> int:
        """Return the number of a value, −1 if no item has it."""
        return self._numbers.get(text, -1)

    @property
    def texts(self) -> Sequence[str]:
        """Return the values by number, as of now: a number that is free has the value that it had last."""
        return self._texts

    def items_with(self, number: int, n_items: int) -> I64:
        """Return the items below `n_items` with a value, (n,), ascending."""
        return np.flatnonzero((self.sets == number).any(axis=1)[self.of[:n_items]])

    def counts(self, counted: NDArray[np.bool_]) -> I64:
        """Return how many of the items that are `counted` (N,) have each value, (bound,)."""
        values = self.sets[self.of[: len(counted)][counted]]
        return np.bincount(values[values >= 0], minlength=self.bound).astype(np.int64)

    def at(self, numbers: I64) -> I32:
        """Return the values of the items `numbers` (…), −1 for none: (…, W), −1 behind the last."""
        found: I32 = self.sets[np.where(numbers >= 0, self.of[numbers], NO_VALUES)]
        return found

    def _number(self, text: str) -> int:
        number = self._numbers.get(text)
        if number is None:
            number = self._free.pop() if self._free else len(self._texts)
            if number == len(self._texts):
                self._texts.append(text)
                self._uses.append(0)
            self._numbers[text] = number
            self._texts[number] = text
        return number

    def _set_of(self, values: tuple[int, ...]) -> int:
        number = self._sets.get(values)
        if number is not None:
            return number
        number = self._free_sets.pop() if self._free_sets else len(self._members)
        if number == len(self._members):
            self._members.append(0)
        self._sets[values] = number
        rows, width = self.sets.shape
        if number >= rows or len(values) > width:
            more = (rows if number >= rows else 0, max(len(values) - width, 0))
            self.sets = np.pad(self.sets, ((0, more[0]), (0, more[1])), constant_values=-1)
        self.sets[number] = -1
        self.sets[number, : len(values)] = values
        for value in values:
            self._uses[value] += 1
        return number

    def _release(self, taken: int) -> None:
        """Count one item less of a set; free the set, and values that no other set has, after the last."""
        self._members[taken] -= taken != NO_VALUES
        if taken == NO_VALUES or self._members[taken]:
            return
        values = tuple(self.sets[taken][self.sets[taken] >= 0].tolist())
        del self._sets[values]
        self.sets[taken] = -1
        self._free_sets.append(taken)
        for value in values:
            self._uses[value] -= 1
            if not self._uses[value]:
                del self._numbers[self._texts[value]]
                self._free.append(value)
