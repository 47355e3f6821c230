"""The best items of one half-life, kept while counts come in instead of being looked for among all items after each batch.

Until a span ends, counts only grow, and halving changes them all by one factor. So an item that was not among the best `POOL` when they
were looked through cannot be among the best before it is chosen again.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from recsys.state import popularity_kernel

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]

POOL = 512
"""Best items that are remembered: as many can be asked for."""
_CHANGED = 8_192
"""All items are looked through again after this many changes."""
_MOST = 2 * POOL
"""The best of those that are remembered are chosen again where there are more."""
_FEW = 4
"""Values are cut before they are sorted if there are this many times more than wanted."""


class Leaders:
    """Items among which the best are: the best `POOL` of when all were looked through, and those that changed since."""

    def __init__(self) -> None:
        self._pool: I64 | None = None
        self._changed: list[U32] = []
        self._n_changed = 0

    def drop(self) -> None:
        """Look through all items before the next answer."""
        self._pool, self._changed, self._n_changed = None, [], 0

    def note(self, items: U32) -> None:
        """Note that the counts of these items grew."""
        if self._pool is not None:
            self._changed.append(items)
            self._n_changed += len(items)
            if self._n_changed > _CHANGED:
                self.drop()

    def best(self, size: int, values_of: Callable[[I64 | slice], F64]) -> I64:
        """Return the `size` items (at most `POOL`) with the highest values above 0, highest first, equal ones by number. `values_of`
        returns the values of some items, or of all."""
        if size > POOL:
            raise ValueError(f"size: got {size}; the best {POOL} are kept, ask for no more")
        if self._pool is None:
            values = values_of(slice(None))
            chosen = np.flatnonzero(values > 0)
            self._pool = np.sort(_highest(chosen, values[chosen], POOL))
        elif self._changed:
            joined = np.concatenate((self._pool, *self._changed)).astype(np.int64)
            joined.sort()
            self._pool = joined[np.flatnonzero(np.append(joined[1:] != joined[:-1], True))]
            self._changed = []
        values = values_of(self._pool)
        if len(self._pool) > _MOST:
            some = values > 0
            self._pool = np.sort(_highest(self._pool[some], values[some], POOL))
            values = values_of(self._pool)
        found = np.empty(size, np.int64)
        return found[: popularity_kernel.highest(self._pool, values, found, np.empty(size))]


def _highest(numbers: I64, values: F64, size: int) -> I64:
    """Return the `size` of `numbers` (n,), ascending, with the highest values, highest first, equal ones by number."""
    if len(numbers) > _FEW * size:
        least = np.partition(values, len(values) - size)[len(values) - size]
        kept = values >= least
        numbers, values = numbers[kept], values[kept]
    return numbers[np.lexsort((numbers, -values))[:size]]
