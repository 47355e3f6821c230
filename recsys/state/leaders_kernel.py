"""Keeps the best items of each half-life, compiled.

Shapes: N items, H half-lives of which the last is for ever, M places of a pool, K wanted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled
from recsys.state.half_lives import MOST_GROWTH

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U16 = NDArray[np.uint16]
U32 = NDArray[np.uint32]

BEFORE = 1.0 / MOST_GROWTH
"""What a sum of the span before counts less."""


class Counts(NamedTuple):
    """Holds what orders items: `sums` (N, H − 1, 2) by the slot of their span, of which `newest` (H − 1,) is that of the newest one, and
    of all time `units` (N,)."""

    sums: F64
    units: I64
    newest: I64


class Pools(NamedTuple):
    """`numbers` (H, M) of the items of each pool, the first `sizes` (H,) of them, the best of the last answer first; −1: not looked for
    yet. Bit h of `held_by` (N,) is 1 where pool h holds an item. `values` (M,) is room to work in."""

    numbers: I64
    sizes: I64
    held_by: U16
    values: F64


@compiled
def value(counts: Counts, item: int, place: int) -> float:
    """Return what orders an item at a half-life: its count but for a factor that is the same for all."""
    if place < len(counts.newest):
        slot = counts.newest[place]
        ordering: float = counts.sums[item, place, slot] + counts.sums[item, place, 1 - slot] * BEFORE
        return ordering
    return float(counts.units[item])


@compiled
def ordering(counts: Counts, place: int, values: F64) -> None:
    """Write what orders all items at a half-life into `values` (N,)."""
    for item in range(len(values)):
        values[item] = value(counts, item, place)


@compiled
def note(items: U32, counts: Counts, pools: Pools, kept: int) -> None:
    """Add `items` (n,) to the pools that do not hold them. A pool that is full keeps its best `kept` before."""
    for place in range(len(pools.sizes)):
        if pools.sizes[place] < 0:
            continue
        bit = np.uint16(1 << place)
        for item in items:
            if pools.held_by[item] & bit:
                continue
            if pools.sizes[place] == pools.numbers.shape[1]:
                best = np.empty(kept, np.int64)
                _order(place, counts, pools, best)
                for at in range(kept, pools.sizes[place]):
                    pools.held_by[pools.numbers[place, at]] &= ~bit
                pools.sizes[place] = kept
            pools.numbers[place, pools.sizes[place]] = item
            pools.sizes[place] += 1
            pools.held_by[item] |= bit


@compiled
def tops(places: I64, counts: Counts, pools: Pools, found: I64) -> None:
    """Write the best items at the half-lives at `places` (P,) into `found` (P, K), best first; places beyond them stay as they are."""
    for at in range(len(places)):
        _order(places[at], counts, pools, found[at])


@compiled
def _order(place: int, counts: Counts, pools: Pools, found: I64) -> None:
    """Move the best items of a pool to its front, best first, equal ones by number, and write those above 0 into `found` (K,)."""
    size, numbers, values = pools.sizes[place], pools.numbers[place], pools.values
    n, least = 0, np.inf
    for at in range(size):
        item = numbers[at]
        this = value(counts, item, place)
        if n == len(found) and (this < least or (this == least and item > numbers[n - 1])):
            values[at] = this
            continue
        if n < len(found):
            n += 1
        else:
            numbers[at], values[at] = numbers[n - 1], values[n - 1]
        to = n - 1
        while to > 0 and (values[to - 1] < this or (values[to - 1] == this and numbers[to - 1] > item)):
            numbers[to], values[to] = numbers[to - 1], values[to - 1]
            to -= 1
        numbers[to], values[to] = item, this
        least = values[n - 1]
    for at in range(n):
        if values[at] <= 0:
            break
        found[at] = numbers[at]
