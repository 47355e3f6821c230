"""Windows of the newest items of users, and what an item that enters or leaves one changes of counts, compiled.

Shapes: u users with events, n events, S slots, W columns of a window, a additions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

USERS = 0xFFFF_FFFF
"""Neighbour that stands for the number of users who have a window."""


class Additions(NamedTuple):
    """Additions (a,): to the pair of `rows` and `neighbours`, or to the users of an item where both are the same, `amounts` of 1 or −1, and
    the event that made each, `sources`."""

    rows: I64
    neighbours: I64
    amounts: I64
    sources: I64

    @classmethod
    def room(cls, most: int) -> Additions:
        """Return unwritten additions."""
        return cls(*np.empty((4, most), np.int64))

    def cut(self, n: int) -> Additions:
        """Return the first additions."""
        return Additions(*(column[:n] for column in self))


@compiled
def enter(windows: I32, lengths: I32, slots: I64, counts: I64, items: I64, counted: NDArray[np.bool_], size: int, out: Additions) -> int:
    """Let the items (n,) of `counted` events enter the windows (S, W) of the users in `slots` (u,), who have `counts` (u,) events each, one
    user after another. A window holds its `lengths` (S,) items from the left, the newest last, and at most `size` of them afterwards. Write
    what changes, and return how many additions there are: at most 4 · W an event."""
    rows, neighbours, amounts, sources = out
    n, event = 0, 0
    for user in range(len(slots)):
        window, length = windows[slots[user]], lengths[slots[user]]
        for _ in range(counts[user]):
            item, source = items[event], event
            event += 1
            if not counted[source]:
                continue
            place = 0
            while place < length and window[place] != item:
                place += 1
            is_new = place == length
            for at in range(place, length - 1):
                window[at] = window[at + 1]
            if not is_new:
                window[length - 1] = item
            while length > size - is_new:
                left = window[0]
                for at in range(1, length):
                    window[at - 1] = window[at]
                length -= 1
                for at in range(length):
                    rows[n], neighbours[n], amounts[n], sources[n] = left, window[at], -1, source
                    rows[n + 1], neighbours[n + 1], amounts[n + 1], sources[n + 1] = window[at], left, -1, source
                    n += 2
                rows[n], neighbours[n], amounts[n], sources[n] = left, left, -1, source
                n += 1
            if not is_new:
                continue
            if length == 0:
                rows[n], neighbours[n], amounts[n], sources[n] = item, USERS, 1, source
                n += 1
            for at in range(length):
                rows[n], neighbours[n], amounts[n], sources[n] = item, window[at], 1, source
                rows[n + 1], neighbours[n + 1], amounts[n + 1], sources[n + 1] = window[at], item, 1, source
                n += 2
            rows[n], neighbours[n], amounts[n], sources[n] = item, item, 1, source
            n += 1
            window[length] = item
            length += 1
        lengths[slots[user]] = length
    return n
