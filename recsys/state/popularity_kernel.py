"""Reads of the bank of half-lives, compiled.

Shapes: N items, H half-lives with spans, P places. `sums` (N, H, 2) are sums in units by the slot of their span, of which `newest` (H,) is
that of the newest one; `factors` (H,) make them counts of now.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled
from recsys.state.half_lives import LIVE_SPANS
from recsys.state.item_row import WEIGHT_ONE
from recsys.state.leaders_kernel import BEFORE

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
Bools = NDArray[np.bool_]

class Held(NamedTuple):
    """Counts that are held: `sums` (N, H, 2), and of all time `units` (N,) and the same as numbers, `all_time` (N,). `marks` (N,) are
    false before and after."""

    sums: F64
    units: I64
    all_time: F32
    marks: Bools


@compiled
def add(
    held: Held, windows: I64, spans: I64, spans_s: I64, newest_s: int, starts: I64, ends: I64, records: U32, filled: Bools, items: U32
) -> int:
    """Add `records[starts:ends]`, items and units (n, 2), of each row (R,) to its span of its window: place 0 is all time, others have
    spans of `spans_s` (H + 1,). Spans that do not count at `newest_s` are passed over. Mark the slots that were `filled` (H, 2), and write
    each item into `items` once; return how many there are."""
    sums, units, all_time, marks = held.sums, held.units, held.all_time, held.marks
    n_items = 0
    for row in range(len(windows)):
        place, span = windows[row] - 1, spans[row]
        if place >= 0 and span <= newest_s // spans_s[place + 1] - LIVE_SPANS:
            continue
        slot = span % LIVE_SPANS
        if place >= 0 and ends[row] > starts[row]:
            filled[place, slot] = True
        for at in range(starts[row], ends[row]):
            item, added = records[at, 0], np.int64(records[at, 1])
            if item >= len(marks):
                raise IndexError("there is no room for an item")
            if place >= 0:
                sums[item, place, slot] += added
            else:
                units[item] += added
                all_time[item] = units[item] / WEIGHT_ONE
            if not marks[item]:
                marks[item] = True
                items[n_items] = item
                n_items += 1
    for at in range(n_items):
        marks[items[at]] = False
    return n_items


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
            out[place, h] = (sums[number, h, slot] + sums[number, h, 1 - slot] * BEFORE) * factors[h]
        out[place, n_half_lives] = all_time[number]


@compiled
def blend(sums: F64, all_time: F32, numbers: I64, chosen: I64, shares: F64, share: float, out: F32) -> None:
    """Write the `chosen` half-lives' sums (T,) times `shares` (T, 2), by slot, and `share` of the all-time count, of `numbers` (P,) into
    `out` (P,)."""
    for place in range(len(numbers)):
        number = max(numbers[place], 0)
        total = share * all_time[number]
        for t in range(len(chosen)):
            total += sums[number, chosen[t], 0] * shares[t, 0] + sums[number, chosen[t], 1] * shares[t, 1]
        out[place] = total
