"""A model's scores of candidates, compiled. Shapes: U users, C candidates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@compiled
def softened(scores: F32, rows: I64, shift: F32) -> None:
    """Replace each logit (U, C) by e^(min(logit − shift[u], 0)), or 0 where the row (U, C) is −1."""
    for user in range(len(scores)):
        for column in range(scores.shape[1]):
            difference = min(scores[user, column] - shift[user], np.float32(0))
            scores[user, column] = np.exp(difference) if rows[user, column] >= 0 else np.float32(0)
