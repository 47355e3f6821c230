"""The best items of each half-life, kept while counts come in instead of being looked for among all items after each batch.

Until a span ends, counts only grow, and halving changes them all by one factor. So an item that was not among the best `POOL` when they
were looked through cannot be among the best before it is chosen again.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from recsys.state import leaders_kernel
from recsys.state.leaders_kernel import Counts, Pools

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]

POOL = 256
"""Best items that are remembered: as many can be asked for."""
_MOST = 2 * POOL
"""The best of those that are remembered are chosen again where there are more."""
_FEW = 4
"""Values are cut before they are sorted if there are this many times more than wanted."""


class Leaders:
    """For each of H half-lives, items among which the best are: the best `POOL` of when all were looked through, and those that changed
    since."""

    def __init__(self, n_half_lives: int, n_items: int) -> None:
        n_bits = 16
        if n_half_lives > n_bits:
            raise ValueError(f"n_half_lives: got {n_half_lives}, there are {n_bits} bits for each item")
        sizes = np.full(n_half_lives, -1, np.int64)
        self._pools = Pools(np.empty((n_half_lives, _MOST), np.int64), sizes, np.zeros(n_items, np.uint16), np.empty(_MOST))

    def grow(self, n_items: int) -> None:
        """Make room for item numbers below `n_items`."""
        held = self._pools.held_by
        if n_items > len(held):
            self._pools = self._pools._replace(held_by=np.pad(held, (0, n_items - len(held))))

    def drop(self, place: int) -> None:
        """Look through all items before the next answer about one half-life."""
        self._pools.sizes[place] = -1
        np.bitwise_and(self._pools.held_by, np.uint16(0xFFFF ^ (1 << place)), out=self._pools.held_by)

    def note(self, items: U32, counts: Counts) -> None:
        """Note that these items grew at any half-life."""
        leaders_kernel.note(items, counts, self._pools, POOL)

    def tops(self, places: I64, size: int, counts: Counts, values_of: Callable[[int], F64]) -> I64:
        """Return the `size` items (at most `POOL`) with the highest counts above 0 at the half-lives at `places` (P,), highest first, equal
        ones by number: (P, `size`), −1 for none. `values_of` returns what orders all items at one."""
        if size > POOL:
            raise ValueError(f"size: got {size}; the best {POOL} are kept, ask for no more")
        for place in places[self._pools.sizes[places] < 0].tolist():
            values = values_of(place)
            chosen = np.flatnonzero(values > 0)
            best = _highest(chosen, values[chosen], POOL)
            self._pools.numbers[place, : len(best)] = best
            self._pools.sizes[place] = len(best)
            self._pools.held_by[best] |= np.uint16(1 << place)
        found = np.full((len(places), size), -1, np.int64)
        leaders_kernel.tops(places, counts, self._pools, found)
        return found


def _highest(numbers: I64, values: F64, size: int) -> I64:
    """Return the `size` of `numbers` (n,), ascending, with the highest values, highest first, equal ones by number."""
    if len(numbers) > _FEW * size:
        least = np.partition(values, len(values) - size)[len(values) - size]
        kept = values >= least
        numbers, values = numbers[kept], values[kept]
    return numbers[np.lexsort((numbers, -values))[:size]]
