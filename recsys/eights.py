"""Eight numbers at once, for compiled loops that numba does not vectorise by itself: short rows at changing places.

llvmlite comes with numba.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

EIGHT = 8
_FLOAT_BYTES = 4


@intrinsic  # type: ignore[untyped-decorator]
def add_eight(typing_context: Any, total: Any, at: Any, row: Any, start: Any) -> Any:
    """Add the eight numbers of `row` (R,) from `start` on to those of `total` (T,) from `at` on: arrays of float32 whose numbers
    lie side by side. Places are not checked."""

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
