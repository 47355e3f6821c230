"""Devices of a log's events, for cases that know on what their list is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recsys.lists.context import Situation
from recsys.lists.learned.devices import MAX_DEVICES, MAX_NAME, NAME

LEAST_EVENTS = 100
"""Events on a device below which a ranker cannot learn what it changes."""
LEAST_SHARE = 0.01
_MIXING = 0x9E3779B97F4A7C15
"""2⁶⁴ by the golden ratio, odd: half of all events, evenly, and whatever their order."""


@dataclass(frozen=True, slots=True, eq=False)
class Devices:
    """Holds `names`, that of most events first; and the `codes` (n,) of a log's events: its device's place from 1; 0 for others."""

    names: tuple[str, ...]
    codes: NDArray[np.int8]

    @classmethod
    def of(cls, devices: Sequence[str | None]) -> Self | None:
        """Return those of events on these `devices` (n,), None for none. A device counts that a hundred events, and one in a hundred
        of those on any device, happened on; eight at most. None if there are fewer than two."""
        at = {name: place for place, name in enumerate(dict.fromkeys(one for one in devices if one and len(one) <= MAX_NAME))}
        found = np.array([at.get(one, -1) if one else -1 for one in devices], np.int64)
        counts = np.bincount(found[found >= 0], minlength=len(at))
        enough = np.flatnonzero(counts >= max(LEAST_EVENTS, LEAST_SHARE * counts.sum()))
        kept = enough[np.argsort(-counts[enough], kind="stable")][:MAX_DEVICES]
        if len(kept) < 2:
            return None
        names, codes = list(at), np.zeros(len(at) + 1, np.int8)
        codes[kept] = 1 + np.arange(len(kept))
        return cls(tuple(names[place] for place in kept.tolist()), codes[found])

    def at(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Self:
        """Return those of some events."""
        return type(self)(self.names, self.codes[rows])

    def situation(self, event: int) -> Situation:
        """Return what a list for the event knows: the device of every second event. The others know none, like lists that are published: a
        ranker learns both."""
        code = int(self.codes[event])
        is_known = code > 0 and (event * _MIXING >> 40) % 2 == 0
        return {NAME: self.names[code - 1]} if is_known else {}
