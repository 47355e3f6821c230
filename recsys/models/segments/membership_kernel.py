"""Which segments users belong to, compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


@compiled
def mark(keys: U64, values: F32, known: U64, starts: I64, low: F32, high: F32, places: I64, out: F32) -> None:
    """Set `out` (U, S) to 1 where an attribute of a user, `keys` and `values` (U, M), is one of the `known` keys (K,), ascending, and its
    number, if it is one, lies within a segment of that key: those at `places[starts[k]:starts[k + 1]]` with `low` ≤ number < `high`."""
    for user in range(len(keys)):
        for place in range(keys.shape[1]):
            key = keys[user, place]
            if key == 0:
                break
            at = np.searchsorted(known, key)
            if at == len(known) or known[at] != key:
                continue
            value = values[user, place]
            for segment in range(starts[at], starts[at + 1]):
                if np.isnan(value) or low[segment] <= value < high[segment]:
                    out[user, places[segment]] = np.float32(1)
