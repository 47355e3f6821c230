"""Arithmetic that several compiled loops share. Shapes: D numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled_sums

F32 = NDArray[np.float32]


@compiled_sums
def dot(left: F32, right: F32) -> np.float32:
    """Return the inner product of two rows (D,)."""
    total = np.float32(0)
    for i in range(len(left)):
        total += left[i] * right[i]
    return total


@compiled_sums
def add(total: F32, row: F32, scale: np.float32) -> None:
    """Replace `total` (D,) by total + scale · row."""
    for i in range(len(total)):
        total[i] += row[i] * scale


@compiled_sums
def exp_of_negative(x: np.float32) -> np.float32:
    """Return e^x for x ≤ 0, a few millionths off at most, and next to 0 below −87: 2^n · 2^f with a whole n and |f| ≤ 1/2, in a form
    that is vectorised."""
    y = max(x * np.float32(1.442695040888963), np.float32(-126))
    n = np.int32(y - np.float32(0.5))
    f = (y - np.float32(n)) * np.float32(0.6931471805599453)
    power = np.float32(1 / 720)
    power = power * f + np.float32(1 / 120)
    power = power * f + np.float32(1 / 24)
    power = power * f + np.float32(1 / 6)
    power = power * f + np.float32(1 / 2)
    power = (power * f + np.float32(1)) * f + np.float32(1)
    return power * np.int32((n + np.int32(127)) << np.int32(23)).view(np.float32)
