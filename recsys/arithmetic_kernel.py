"""Arithmetic that several compiled loops share. Shapes: D numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # comes with numba
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from recsys.jit import compiled_sums

F32 = NDArray[np.float32]
EIGHT = 8
_FLOAT_BYTES = 4


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
def add_all(total: F32, rows: F32, scales: F32) -> None:
    """Replace `total` (D,) by total + Σ_r scale · row for `scales` (R,) and the first of `rows` (R or more, D), four rows at a time."""
    n = len(scales)
    for r in range(0, n - 3, 4):
        a, b, c, d = rows[r], rows[r + 1], rows[r + 2], rows[r + 3]
        of_a, of_b, of_c, of_d = scales[r], scales[r + 1], scales[r + 2], scales[r + 3]
        for i in range(len(total)):
            total[i] += a[i] * of_a + b[i] * of_b + c[i] * of_c + d[i] * of_d
    for r in range(n - n % 4, n):
        for i in range(len(total)):
            total[i] += rows[r, i] * scales[r]


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


@intrinsic  # type: ignore[untyped-decorator]
def add_eight(typing_context: Any, total: Any, at: Any, row: Any, start: Any) -> Any:
    """Add the eight numbers of `row` (R,) from `start` on to those of `total` (T,) from `at` on: arrays of float32 whose numbers
    lie side by side. Places are not checked. For short rows at changing places, which numba does not vectorise by itself."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        eight = ir.VectorType(ir.FloatType(), EIGHT)

        def place(array: int, first: int) -> Any:
            numbers = context.make_array(signature.args[array])(context, builder, arguments[array]).data
            return builder.bitcast(builder.gep(numbers, [arguments[first]]), eight.as_pointer())

        added_to, added = place(0, 1), place(2, 3)
        both = builder.fadd(builder.load(added_to, align=_FLOAT_BYTES), builder.load(added, align=_FLOAT_BYTES))
        builder.store(both, added_to, align=_FLOAT_BYTES)
        return context.get_dummy_value()

    return types.void(total, at, row, start), generate
