"""Additions of a micro-batch to the rows of items, in the order in which the state store takes them: item group after item group.

A row is named by `RowId`: ("c", epoch, item number) holds what co-occurs with an item in one event-time epoch, ("pop", window, span) how
often the items of a group were chosen in one span of event time, weighed by when in the span that was (`recsys.state.half_lives`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.state import batch_delta_kernel
from recsys.state.batch_delta_kernel import Additions, Sums
from recsys.state.half_lives import GROWTH, GROWTH_BITS, SPANS_S, WINDOWS
from recsys.state.interactions import Interactions
from recsys.state.item_row import RECORD_BYTES
from recsys.state.row_names import RowId as RowId
from recsys.state.row_names import Span as Span
from recsys.state.touches import Touches

U32 = NDArray[np.uint32]
I64 = NDArray[np.int64]

_POPULARITY_UNITS = 2  # 1/64 in an interaction's 1/32
_KEY_BITS = 63
_MANY_BETWEEN = 1_000
"""Distinct values are marked in an array of all there might be, if those are not many more than values."""


@dataclass(frozen=True, slots=True)
class Delta:
    """Appends to R rows, sorted by item group, each row once: row i gets `records[ends[i-1]:ends[i]]`.

    `rows` R names; `groups` (G + 1,) where each group's rows begin, and end; `spans` and the place among them of each row's, `span` (R,);
    `numbers` (R,) the item of a co-occurrence row or −1; `ends` (R,); `records` (n, 2) neighbours and weights in units of 1/64, each
    neighbour once a row.
    """

    rows: list[RowId]
    groups: I64
    spans: Sequence[Span]
    span: I64
    numbers: I64
    ends: I64
    records: U32

    @classmethod
    def nothing(cls, item_groups: int) -> Delta:
        """Return no appends to `item_groups` groups."""
        none = np.zeros(0, np.int64)
        return cls([], np.zeros(item_groups + 1, np.int64), (), none, none, none, np.zeros((0, 2), np.uint32))

    @property
    def item_groups(self) -> int:
        return len(self.groups) - 1

    def starts_of(self, rows: I64) -> I64:
        """Return where the records of some rows begin, (r,)."""
        return np.where(rows > 0, self.ends[rows - 1], 0)

    def sizes_of(self, rows: I64) -> I64:
        """Return the number of records of some rows, (r,)."""
        return self.ends[rows] - self.starts_of(rows)

    def rows_of(self, group: int) -> list[RowId]:
        """Return the names of the rows of a group."""
        return self.rows[self.groups[group] : self.groups[group + 1]]

    def by_epoch(self) -> Iterator[tuple[int, I64]]:
        """Yield each epoch with its rows of co-occurrence, (r,)."""
        for place, (kind, epoch, _) in enumerate(self.spans):
            if kind == "c" and len(rows := np.flatnonzero(self.span == place)):
                yield int(epoch), rows

    def count_rows(self) -> I64:
        """Return the rows of popularity, (r,)."""
        return np.flatnonzero(self.numbers < 0)

    def windows_of(self, rows: I64) -> tuple[I64, I64]:
        """Return the windows of some rows of popularity by their place in `WINDOWS`, and their spans, (r,) each."""
        windows = np.array([WINDOWS.index(str(where)) if kind == "pop" else -1 for kind, where, _ in self.spans], np.int64)
        spans = np.array([span for *_, span in self.spans], np.int64)
        return windows[self.span[rows]], spans[self.span[rows]]

    def packed(self, group: int) -> tuple[bytes, bytes]:
        """Return a group's byte ends (u32 array) and payload, as the store's function takes them. Sums above 2³²−1 cannot come from one
        batch."""
        first, last = int(self.groups[group]), int(self.groups[group + 1])
        if first == last:
            return b"", b""
        start = int(self.ends[first - 1]) if first else 0
        ends = self.ends[first:last]
        return ((ends - start) * RECORD_BYTES).astype("<u4").tobytes(), self.records[start : int(ends[-1])].tobytes()


def batch_delta(
    batch: Interactions, touches: Touches, *, epoch_s: int, item_groups: int, chosen: NDArray[np.bool_] | None = None
) -> Delta:
    """Return what the interactions that `chosen` (n,) selects add by their `touches`, or all of them, in `item_groups` groups."""
    pairs, times_s, adds = touches.pairs, batch.times_s.astype(np.int64), touches.popularity.any(axis=0)
    rows, neighbours, amounts, sources = pairs.rows, pairs.neighbours, pairs.weights, pairs.sources
    if chosen is not None:
        kept, adds = chosen[sources], adds & chosen
        rows, neighbours, amounts, sources = rows[kept], neighbours[kept], amounts[kept], sources[kept]
    choices = np.flatnonzero(adds)
    if not len(choices) and not len(rows):
        return Delta.nothing(item_groups)
    epochs, epoch_of = _distinct(times_s // epoch_s)
    spans: list[Span] = [("c", epoch, -1) for epoch in epochs]
    of_pairs, of_choices = _pair_sums(Additions(epoch_of, sources, rows, neighbours, amounts), len(epochs), item_groups), Sums.nothing()
    if len(choices):
        counts = np.take(touches.popularity, choices, axis=1) * _POPULARITY_UNITS
        span_of, amounts_of = np.empty((2, *counts.shape), np.int64)
        several = np.empty(len(WINDOWS), np.bool_)
        batch_delta_kernel.choices(times_s[choices], counts, SPANS_S, GROWTH, GROWTH_BITS, span_of, amounts_of, several)
        for row, window in enumerate(WINDOWS):
            distinct, place = _distinct(span_of[row]) if several[row] else ([int(span_of[row, 0])], 0)
            span_of[row] = len(spans) + place
            spans += [("pop", window, span) for span in distinct]
        of_choices = _choice_sums(batch.items[choices], span_of, amounts_of, several, item_groups)
    found = _merged(of_pairs, of_choices, item_groups)
    kinds = [(kind, where) for kind, where, _ in spans]
    numbers = np.where(found.number < 0, np.array([span for *_, span in spans], np.int64)[found.span], found.number).tolist()
    names = [(*kinds[place], number) for place, number in zip(found.span.tolist(), numbers, strict=True)]
    groups = np.searchsorted(found.group, np.arange(item_groups + 1))
    return Delta(names, groups, spans, found.span, found.number, found.ends, found.records)


def _distinct(values: I64) -> tuple[list[int], I64]:
    """Return distinct values, ascending, and the place of each value among them, (n,)."""
    least = int(values.min())
    above = values - least
    n_between = int(above.max()) + 1
    if n_between == 1:  # as most batches have it
        return [least], above
    if n_between > _MANY_BETWEEN + len(values):
        distinct, place = np.unique(values, return_inverse=True)
        return distinct.tolist(), place.astype(np.int64)
    is_there = np.zeros(n_between, np.bool_)
    is_there[above] = True
    return (np.flatnonzero(is_there) + least).tolist(), (np.cumsum(is_there) - 1)[above]


def _pair_sums(added: Additions, n_epochs: int, item_groups: int) -> Sums:
    """Return the sums of pairs."""
    n = len(added.rows)
    if not n:
        return Sums.nothing()
    values = (n_epochs - 1, int(added.rows.max()) // item_groups, int(added.neighbours.max()), int(added.amounts.max()))
    bits = np.array([value.bit_length() for value in values], np.int64)
    above_amount = int(bits[:3].sum()) + (item_groups - 1).bit_length()
    if above_amount + int(bits[3]) > _KEY_BITS:
        return _pair_sums_by_columns(added, item_groups)
    keys, other = np.empty((2, n), np.int64)
    batch_delta_kernel.keys(added, item_groups, bits, keys)
    if batch_delta_kernel.ordered(keys, other, int(bits[3]), above_amount):
        keys = other
    found = Sums.room(n, n)
    return found.cut(*batch_delta_kernel.summed(keys, item_groups, bits, found))


def _pair_sums_by_columns(added: Additions, item_groups: int) -> Sums:
    """Return what the kernels would, for numbers so large that an addition does not fit in 63 bits."""
    span, number, neighbours, amounts = added.epoch_of[added.sources], added.rows.astype(np.int64), added.neighbours, added.amounts
    group = number % item_groups
    order = np.lexsort((neighbours, number, span, group))
    group, span, number, neighbours, amounts = group[order], span[order], number[order], neighbours[order], amounts[order]
    is_row, is_record = np.ones((2, len(order)), np.bool_)
    is_row[1:] = (group[1:] != group[:-1]) | (span[1:] != span[:-1]) | (number[1:] != number[:-1])
    is_record[1:] = is_row[1:] | (neighbours[1:] != neighbours[:-1])
    first = np.flatnonzero(is_record)
    records = np.stack((neighbours[first], np.add.reduceat(amounts, first)), axis=1).astype(np.uint32)
    row = np.flatnonzero(is_row)
    ends = np.append(np.flatnonzero(is_row[first])[1:], len(first))
    return Sums(group[row], span[row], number[row], ends, records)


def _choice_sums(items: U32, span_of: I64, amounts: I64, several: NDArray[np.bool_], item_groups: int) -> Sums:
    """Return the sums of choices of `items` (m,), which add `amounts` (V, m) to the spans `span_of` (V, m). Windows with `several` (V,)
    spans are ordered one by one, all others alike."""
    group = items.astype(np.int64) % item_groups
    alike = _ordered(group, np.zeros_like(group), items) if len(items) > 1 else np.zeros(1, np.int64)
    orders = np.empty_like(span_of)
    for window in range(len(span_of)):
        orders[window] = _ordered(group, span_of[window] - span_of[window].min(), items) if several[window] else alike
    starts = np.zeros(item_groups + 1, np.int64)
    np.cumsum(np.bincount(group, minlength=item_groups), out=starts[1:])
    found = Sums.room(span_of.size, span_of.size)
    return found.cut(*batch_delta_kernel.choice_sums(items, span_of, amounts, orders, starts, found))


def _ordered(group: I64, span: I64, items: U32) -> I64:
    """Return the order of choices (m,) by group, span and item."""
    bits = [int(column.max()).bit_length() for column in (group, span, items)]
    place_bits = len(items).bit_length()
    if sum(bits) + place_bits > _KEY_BITS:
        return np.lexsort((items, span, group))
    keys = ((((group << bits[1]) | span) << bits[2]) | items) << place_bits
    keys |= np.arange(len(items))
    keys.sort()
    keys &= (1 << place_bits) - 1
    return keys


def _merged(pairs: Sums, choices: Sums, item_groups: int) -> Sums:
    """Return both, group after group: in each first the rows of pairs."""
    found = Sums.room(len(pairs.group) + len(choices.group), len(pairs.records) + len(choices.records))
    batch_delta_kernel.merge(pairs, choices, item_groups, found)
    return found
