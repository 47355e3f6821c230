"""Additions of a batch to the rows of items, compiled: pairs out of histories, and sums of what is alike.

Shapes: U users, n interactions, p pairs, C slots and H columns of a user table, W the window, R rows, a additions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled

U32 = NDArray[np.uint32]
I64 = NDArray[np.int64]

_DIGIT_BITS, _FEW_DIGIT_BITS = 12, 8
"""Bits that are sorted by at once, and so if there are few numbers: as many counters as digits are looked through."""


class Batch(NamedTuple):
    """A micro-batch: `slots` and `counts` (U,), the others (n,), user after user."""

    slots: I64
    counts: I64
    items: U32
    times_s: U32
    weights: NDArray[np.int8]


class Held(NamedTuple):
    """The histories before a batch, (C, H) each."""

    items: U32
    times_s: U32
    weights: NDArray[np.int8]


class PairRows(NamedTuple):
    """Pairs, (p,) each; `sources` are the numbers of the interactions that made them."""

    rows: U32
    neighbours: U32
    amounts: I64
    sources: I64


class Additions(NamedTuple):
    """Additions of a batch: p pairs, with the place of each interaction's epoch in `epoch_of` (n,), and m choices of `items`, which add
    `counts` (V, m) to the spans `span_of` (V, m) of V windows; 0 adds nothing."""

    epoch_of: I64
    sources: I64
    rows: U32
    neighbours: U32
    amounts: I64
    span_of: I64
    items: U32
    counts: I64


@compiled
def pairs(batch: Batch, held: Held, forward: I64, backward: I64, unit: int, out: PairRows) -> int:
    """Write the pairs of a batch with the histories before it and within it into `out`, which must hold 2 W n; return how many there are.
    Amounts by distance: `forward` and `backward` (W,), for two weights of `unit`."""
    slots, counts, items, times_s, weights = batch.slots, batch.counts, batch.items, batch.times_s, batch.weights
    held_items, held_times_s, held_weights = held.items, held.times_s, held.weights
    rows, neighbours, amounts, sources = out.rows, out.neighbours, out.amounts, out.sources
    n_columns, square, first, found = held_items.shape[1], unit * unit, 0, 0
    for user in range(len(slots)):
        slot = slots[user]
        for event in range(first, first + counts[user]):
            weight, mine = np.int64(weights[event]), items[event]
            for distance in range(len(forward) if weight > 0 else 0):
                place = event - 1 - distance
                if place >= first:
                    partner, strength, at_s = items[place], np.int64(weights[place]), times_s[place]
                else:
                    column = n_columns + place - first
                    if column < 0:
                        break
                    partner, strength, at_s = held_items[slot, column], np.int64(held_weights[slot, column]), held_times_s[slot, column]
                if strength <= 0 or partner == mine:
                    continue
                came_first, came_then = (mine, partner) if at_s > times_s[event] else (partner, mine)
                amount = (strength * weight * forward[distance] + square // 2) // square
                if amount > 0:
                    rows[found], neighbours[found], amounts[found], sources[found] = came_first, came_then, amount, event
                    found += 1
                amount = (strength * weight * backward[distance] + square // 2) // square
                if amount > 0:
                    rows[found], neighbours[found], amounts[found], sources[found] = came_then, came_first, amount, event
                    found += 1
        first += counts[user]
    return found


@compiled
def choices(times_s: I64, counts: I64, spans_s: I64, growth: I64, growth_bits: int, span_of: I64, amounts: I64) -> None:
    """Write the span of each choice (m,) into `span_of` (V, m), and into `amounts` (V, m) what it adds there: its `counts` (V, m), grown by
    when in the span it was (`recsys.state.half_lives`). Where `spans_s` (V,) is 0 there is one span, and nothing grows."""
    half = np.int64(1) << (growth_bits - 1)
    for window in range(len(spans_s)):
        length = spans_s[window]
        for choice in range(len(times_s)):
            if length == 0:
                span_of[window, choice], amounts[window, choice] = 0, counts[window, choice]
                continue
            span = times_s[choice] // length
            step = (times_s[choice] - span * length) * len(growth) // length
            span_of[window, choice], amounts[window, choice] = span, (counts[window, choice] * growth[step] + half) >> growth_bits


@compiled
def keys(added: Additions, item_groups: int, bits: I64, out: I64) -> int:
    """Write each addition as one number: its item group, span, row within the group, neighbour and amount in `bits` (4,) of span, row,
    neighbour and amount; return how many there are. First those of pairs to the rows of items, in the span of the interaction that made
    them; then, window after window, those of choices to one row a span and group, in their spans."""
    rows, neighbours, amounts, items, spans = added.rows, added.neighbours, added.amounts, added.items, added.span_of
    found = len(rows)
    for i in range(found):
        owner = np.int64(rows[i])
        key = ((owner % item_groups) << bits[0]) | added.epoch_of[added.sources[i]]
        key = (key << bits[1]) | (owner // item_groups)
        out[i] = (((key << bits[2]) | np.int64(neighbours[i])) << bits[3]) | amounts[i]
    for window in range(len(spans)):
        for choice in range(len(items)):
            amount = added.counts[window, choice]
            if amount == 0:
                continue
            item = np.int64(items[choice])
            key = (((item % item_groups) << bits[0]) | spans[window, choice]) << bits[1]
            out[found] = (((key << bits[2]) | item) << bits[3]) | amount
            found += 1
    return found


@compiled
def ordered(keys: I64, other: I64, first_bit: int, n_bits: int) -> bool:
    """Sort numbers (a,) by `n_bits` of their bits from `first_bit` on, digit by digit from the lowest (radix sort): a tenth of the time of
    `np.sort`. `other` (a,) is overwritten. Return True if the sorted numbers are in `other`."""
    widest = _DIGIT_BITS if len(keys) > 1 << _DIGIT_BITS else _FEW_DIGIT_BITS
    n_passes = (n_bits + widest - 1) // widest
    for number in range(n_passes):
        width = (n_bits - 1) // n_passes + 1
        shift = first_bit + number * width
        mask = (np.int64(1) << width) - 1
        starts = np.zeros(mask + 2, np.int64)
        for key in keys:
            starts[((key >> shift) & mask) + 1] += 1
        for digit in range(mask):
            starts[digit + 1] += starts[digit]
        for key in keys:
            digit = (key >> shift) & mask
            other[starts[digit]] = key
            starts[digit] += 1
        keys, other = other, keys
    return n_passes % 2 == 1


@compiled
def summed(
    sorted_keys: I64, n_item_spans: int, item_groups: int, bits: I64, group: I64, span: I64, number: I64, ends: I64, records: U32
) -> tuple[int, int]:
    """Sum additions, in order of their `keys`, to one neighbour of one row; return how many rows and records there are.

    Of each row its item group, span, item (−1 from the span `n_item_spans` on) and where its records end; `records` (a, 2) are neighbour
    and sum."""
    n_rows, n_records, before = 0, 0, np.int64(-1)
    of_row, neighbour_mask, amount_mask = bits[2] + bits[3], (np.int64(1) << bits[2]) - 1, (np.int64(1) << bits[3]) - 1
    row_mask, span_mask = (np.int64(1) << bits[1]) - 1, (np.int64(1) << bits[0]) - 1
    for key in sorted_keys:
        place, row = key >> bits[3], key >> of_row
        if place == before:
            records[n_records - 1, 1] += key & amount_mask
            continue
        if n_rows == 0 or row != before >> bits[2]:
            group[n_rows], span[n_rows] = row >> (bits[1] + bits[0]), (row >> bits[1]) & span_mask
            number[n_rows] = (row & row_mask) * item_groups + group[n_rows] if span[n_rows] < n_item_spans else -1
            n_rows += 1
        before = place
        records[n_records, 0], records[n_records, 1] = place & neighbour_mask, key & amount_mask
        n_records += 1
        ends[n_rows - 1] = n_records
    return n_rows, n_records
