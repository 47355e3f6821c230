"""Touch policy: which touches take an item off a user's lists, and for how long.

Shapes: G groups of items that have the same rules, 256 codes of event types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]

FOR_EVER = 2**62
"""Seconds that never pass."""
N_CODES = 256


class TouchPolicy:
    """Says for how many seconds after its last touch an item stays off its user's lists, by the type of the entry.

    `off_s[c]` belongs to the type of code c: 0 for a type that takes nothing off, `FOR_EVER` for good; types beyond it take off for ever.
    `by_category` overrides it for items that have a category (upper and lower case are the same): category ▸ code ▸ seconds. Of several
    categories of an item the shortest time counts. An entry whose weight is below 0 stays off as long as `dislike_code` says, if its own
    type says less.
    """

    def __init__(
        self, off_s: Sequence[int] = (), by_category: Mapping[str, Mapping[int, int]] | None = None, dislike_code: int | None = None
    ) -> None:
        base = np.full(N_CODES, FOR_EVER, np.int64)
        base[: len(off_s)] = off_s
        self._base = base
        self._dislike_code = dislike_code
        self._by_category = {category.casefold(): dict(changed) for category, changed in (by_category or {}).items()}
        self._groups: dict[frozenset[str], int] = {frozenset(): 0}
        self._table: I64 = self._rows(frozenset())[None]

    @property
    def table(self) -> I64:
        """Return seconds by group of items, by sign of the entry's weight (0: above 0, 1: below) and by type: (G, 2, 256)."""
        return self._table

    def group_of(self, categories: Sequence[str]) -> int:
        """Return the group of an item with these categories, 0 for one without overrides."""
        if not self._by_category:
            return 0
        named = frozenset(name for category in categories if (name := category.casefold()) in self._by_category)
        group = self._groups.get(named)
        if group is None:
            group = self._groups[named] = len(self._table)
            self._table = np.concatenate((self._table, self._rows(named)[None]))
        return group

    def kept_types(self, dislikes: Sequence[int] = ()) -> int:
        """Return a mask of the types whose items stay off lists when they have left the history: bit c for code c.

        `dislikes` are types of which events may weigh less than 0."""
        tables = [self._table[0], *(self._rows(frozenset({category})) for category in self._by_category)]
        takes_off = np.any([table[0] > 0 for table in tables], axis=0)
        for code in dislikes:
            takes_off[code] |= any(table[1, code] > 0 for table in tables)
        return sum(1 << code for code in np.flatnonzero(takes_off[:63]).tolist())

    def _rows(self, named: frozenset[str]) -> I64:
        """Return the seconds of items of these categories, (2, 256)."""
        off_s = self._base.copy()
        changes = [self._by_category[category] for category in named]
        for code in {code for changed in changes for code in changed}:
            off_s[code] = min(changed[code] for changed in changes if code in changed)
        disliked = off_s if self._dislike_code is None else np.maximum(off_s, off_s[self._dislike_code])
        return np.stack((off_s, disliked))


ALL_FOR_EVER = TouchPolicy()
"""Every touch takes its item off for ever."""
