"""What the compiled loops do with rows of numbers again and again. Shapes: D numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled_sums

F32 = NDArray[np.float32]


@compiled_sums
def dot(left: F32, right: F32) -> np.float32:
    """Inner product of two rows (D,)."""
    total = np.float32(0)
    for i in range(len(left)):
        total += left[i] * right[i]
    return total


@compiled_sums
def add(total: F32, row: F32, scale: np.float32) -> None:
    """`total` (D,) becomes total + scale · row."""
    for i in range(len(total)):
        total[i] += row[i] * scale
