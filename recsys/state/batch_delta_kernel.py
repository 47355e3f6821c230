"""Sums of what a batch adds alike to the rows of items, compiled.

Shapes: n interactions, p pairs, m choices, V windows, R rows.
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


class Additions(NamedTuple):
    """Additions of p pairs, with the place of each interaction's epoch in `epoch_of` (n,)."""

    epoch_of: I64
    sources: I64
    rows: U32
    neighbours: U32
    amounts: I64


class Sums(NamedTuple):
    """R rows, group after group, in each span after span: item group, place of the span, item (−1 for a row of popularity), and where the
    records end, (R,) each; `records` (n, 2) are neighbour and sum."""

    group: I64
    span: I64
    number: I64
    ends: I64
    records: U32

    @classmethod
    def room(cls, n_rows: int, n_records: int) -> Sums:
        """Return unwritten sums."""
        group, span, number, ends = np.empty((4, n_rows), np.int64)
        return cls(group, span, number, ends, np.empty((n_records, 2), np.uint32))

    @classmethod
    def nothing(cls) -> Sums:
        """Return no rows."""
        return cls.room(0, 0)

    def cut(self, n_rows: int, n_records: int) -> Sums:
        """Return the first rows and records."""
        return Sums(self.group[:n_rows], self.span[:n_rows], self.number[:n_rows], self.ends[:n_rows], self.records[:n_records])


@compiled
def choices(
    times_s: I64, counts: I64, spans_s: I64, growth: I64, growth_bits: int, span_of: I64, amounts: I64, several: NDArray[np.bool_]
) -> None:
    """Write the span of each choice (m,) into `span_of` (V, m), and into `amounts` (V, m) what it adds there: its `counts` (V, m), grown by
    when in the span it was (`recsys.state.half_lives`). Where `spans_s` (V,) is 0 there is one span, and nothing grows. Mark in `several`
    (V,) the windows with choices in more than one span."""
    half = np.int64(1) << (growth_bits - 1)
    for window in range(len(spans_s)):
        length = spans_s[window]
        several[window] = False
        for choice in range(len(times_s)):
            if length == 0:
                span_of[window, choice], amounts[window, choice] = 0, counts[window, choice]
                continue
            span = times_s[choice] // length
            step = (times_s[choice] - span * length) * len(growth) // length
            span_of[window, choice], amounts[window, choice] = span, (counts[window, choice] * growth[step] + half) >> growth_bits
            several[window] |= span != span_of[window, 0]


@compiled
def keys(added: Additions, item_groups: int, bits: I64, out: I64) -> None:
    """Write each addition as one number: its item group, epoch, row within the group, neighbour and amount in `bits` (4,) of epoch, row,
    neighbour and amount. It belongs to the epoch of the interaction that made the pair."""
    rows, neighbours, amounts = added.rows, added.neighbours, added.amounts
    for i in range(len(rows)):
        owner = np.int64(rows[i])
        key = ((owner % item_groups) << bits[0]) | added.epoch_of[added.sources[i]]
        key = (key << bits[1]) | (owner // item_groups)
        out[i] = (((key << bits[2]) | np.int64(neighbours[i])) << bits[3]) | amounts[i]


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
def summed(sorted_keys: I64, item_groups: int, bits: I64, out: Sums) -> tuple[int, int]:
    """Sum additions, in order of their `keys`, to one neighbour of one row; return how many rows and records there are."""
    group, span, number, ends, records = out.group, out.span, out.number, out.ends, out.records
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
            number[n_rows] = (row & row_mask) * item_groups + group[n_rows]
            n_rows += 1
        before = place
        records[n_records, 0], records[n_records, 1] = place & neighbour_mask, key & amount_mask
        n_records += 1
        ends[n_rows - 1] = n_records
    return n_rows, n_records


@compiled
def choice_sums(items: U32, span_of: I64, amounts: I64, orders: I64, starts: I64, out: Sums) -> tuple[int, int]:
    """Sum choices of `items` (m,), which add `amounts` (V, m) to the spans `span_of` (V, m); 0 adds nothing. `orders` (V, m) sort them by
    group, span and item; group g has those from `starts[g]` on. Return how many rows and records there are."""
    group, span, number, ends, records = out.group, out.span, out.number, out.ends, out.records
    n_rows, n_records = 0, 0
    for g in range(len(starts) - 1):
        for window in range(len(span_of)):
            last_span, last_item = np.int64(-1), np.int64(-1)
            for at in range(starts[g], starts[g + 1]):
                choice = orders[window, at]
                amount, item = amounts[window, choice], np.int64(items[choice])
                if amount == 0:
                    continue
                if span_of[window, choice] != last_span:
                    last_span, last_item = span_of[window, choice], np.int64(-1)
                    group[n_rows], span[n_rows], number[n_rows] = g, last_span, -1
                    n_rows += 1
                if item == last_item:
                    records[n_records - 1, 1] += amount
                    continue
                last_item = item
                records[n_records, 0], records[n_records, 1] = item, amount
                n_records += 1
                ends[n_rows - 1] = n_records
    return n_rows, n_records


@compiled
def merge(first: Sums, second: Sums, item_groups: int, out: Sums) -> None:
    """Write the rows of both, group after group: in each those of `first`, then those of `second`."""
    row, record = 0, 0
    at, read = np.zeros(2, np.int64), np.zeros(2, np.int64)
    for group in range(item_groups):
        for which in range(2):
            of = first if which == 0 else second
            while at[which] < len(of.group) and of.group[at[which]] == group:
                place = at[which]
                out.group[row], out.span[row], out.number[row] = group, of.span[place], of.number[place]
                for copied in range(read[which], of.ends[place]):
                    out.records[record, 0], out.records[record, 1] = of.records[copied, 0], of.records[copied, 1]
                    record += 1
                read[which] = of.ends[place]
                out.ends[row] = record
                row += 1
                at[which] += 1
