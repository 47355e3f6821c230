"""Finds the value through which a model leads from a user's own item to a listed one, compiled.

Shapes: P places, I items of the model, F values, D dimensions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import dot
from recsys.jit import compiled

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@compiled
def strongest(starts: I64, columns: I32, weights: F32, given: F32, users: F32, items: I64, own: I64, found: I64) -> None:
    """Write the value that adds most to the score of each of `items` (P,), and that the `own` item (P,) says, too, into `found` (P,); −1
    where none adds anything, and where an item is −1.

    `starts`, `columns` (ascending within a row) and `weights` are what items say; `given` (F, D) are vectors of values, `users` (P, D)
    those of the users. A value adds its weight times the inner product of the two.
    """
    for place in range(len(items)):
        found[place] = -1
        if items[place] < 0 or own[place] < 0:
            continue
        at, end = starts[items[place]], starts[items[place] + 1]
        other, other_end = starts[own[place]], starts[own[place] + 1]
        best = np.float32(0)
        while at < end and other < other_end:
            if columns[at] < columns[other]:
                at += 1
            elif columns[at] > columns[other]:
                other += 1
            else:
                added = weights[at] * dot(given[columns[at]], users[place])
                if added > best:
                    best = added
                    found[place] = columns[at]
                at += 1
                other += 1
