"""Reads of the bank of half-lives, compiled.

Shapes: N items, H half-lives with spans, P places. `sums` (N, H, 2) are sums in units by the slot of their span, of which `newest` (H,) is
that of the newest one; `factors` (H,) make them counts of now.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled
from recsys.state.half_lives import MOST_GROWTH

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_BEFORE = 1.0 / MOST_GROWTH
"""What a sum of the span before counts less."""


@compiled
def bank(sums: F64, all_time: F32, numbers: I64, newest: I64, factors: F64, out: F32) -> None:
    """Write the counts of `numbers` (P,) at every half-life and of all time into `out` (P, H + 1); 0 for a number below 0."""
    n_half_lives = len(factors)
    for place in range(len(numbers)):
        number = numbers[place]
        if number < 0:
            out[place] = 0
            continue
        for h in range(n_half_lives):
            slot = newest[h]
            out[place, h] = (sums[number, h, slot] + sums[number, h, 1 - slot] * _BEFORE) * factors[h]
        out[place, n_half_lives] = all_time[number]


@compiled
def blend(sums: F64, all_time: F32, numbers: I64, chosen: I64, newest: I64, factors: F64, share: float, out: F32) -> None:
    """Write Σ_h factor · count over the `chosen` half-lives, and `share` of the all-time count, of `numbers` (P,) into `out` (P,)."""
    for place in range(len(numbers)):
        number = max(numbers[place], 0)
        total = share * all_time[number]
        for h in chosen:
            slot = newest[h]
            total += (sums[number, h, slot] + sums[number, h, 1 - slot] * _BEFORE) * factors[h]
        out[place] = total
