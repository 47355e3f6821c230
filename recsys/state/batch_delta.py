"""Additions of a micro-batch to the rows of items, in the order in which the state store takes them: item group after item group.

A row is named by `RowId`: ("c", epoch, item number) holds what co-occurs with an item in one event-time epoch, ("pop", window, span) how
often the items of a group were chosen in one span of event time, weighed by when in the span that was (`recsys.state.half_lives`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.cooccurrence import Pairs
from recsys.state import batch_delta_kernel
from recsys.state.batch_delta_kernel import Additions
from recsys.state.half_lives import ALL_TIME, GROWTH, GROWTH_BITS, SPANS_S, WINDOWS_S
from recsys.state.interactions import Interactions
from recsys.state.item_row import RECORD_BYTES

RowId = tuple[str, int | str, int]
Span = tuple[str, int | str, int]
"""("c", epoch, −1), or ("pop", window, span), which is the same row in each group."""
U32 = NDArray[np.uint32]
I64 = NDArray[np.int64]

_WINDOWS = (ALL_TIME, *WINDOWS_S)
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

    def by_span(self) -> Iterator[tuple[Span, I64]]:
        """Yield each span with its rows, (r,)."""
        order = np.argsort(self.span, kind="stable")
        ends = np.searchsorted(self.span[order], np.arange(len(self.spans)), side="right").tolist()
        for span, start, end in zip(self.spans, [0, *ends], ends, strict=False):
            if start < end:
                yield span, order[start:end]

    def packed(self, group: int) -> tuple[bytes, bytes]:
        """Return a group's byte ends (u32 array) and payload, as the store's function takes them. Sums above 2³²−1 cannot come from one
        batch."""
        first, last = int(self.groups[group]), int(self.groups[group + 1])
        if first == last:
            return b"", b""
        start = int(self.ends[first - 1]) if first else 0
        ends = self.ends[first:last]
        return ((ends - start) * RECORD_BYTES).astype("<u4").tobytes(), self.records[start : int(ends[-1])].tobytes()

    def records_of(self, rows: I64) -> U32:
        """Return the records of some rows (r,), one row after another."""
        starts = self.starts_of(rows).tolist()
        return np.concatenate([self.records[start:end] for start, end in zip(starts, self.ends[rows].tolist(), strict=True)])


def batch_delta(batch: Interactions, pairs: Pairs, *, epoch_s: int, item_groups: int, chosen: NDArray[np.bool_] | None = None) -> Delta:
    """Return what the interactions that `chosen` (n,) selects add, or all of them, in `item_groups` groups."""
    times_s, positive = batch.times_s.astype(np.int64), batch.weights > 0
    rows, neighbours, amounts, sources = pairs.rows, pairs.neighbours, pairs.weights, pairs.sources
    if chosen is not None:
        kept, positive = chosen[sources], positive & chosen
        rows, neighbours, amounts, sources = rows[kept], neighbours[kept], amounts[kept], sources[kept]
    items, times_s_of = batch.items[positive], times_s[positive]
    if not len(items):
        return Delta.nothing(item_groups)
    epochs, epoch_of = _distinct(times_s // epoch_s)
    spans: list[Span] = [("c", epoch, -1) for epoch in epochs]
    counts = np.tile(batch.weights[positive].astype(np.int64) * _POPULARITY_UNITS, (len(_WINDOWS), 1))
    span_of, amounts_of = np.empty((2, *counts.shape), np.int64)
    batch_delta_kernel.choices(times_s_of, counts, SPANS_S, GROWTH, GROWTH_BITS, span_of, amounts_of)
    several = span_of.min(axis=1) < span_of.max(axis=1)
    for row, window in enumerate(_WINDOWS):
        distinct, place = _distinct(span_of[row]) if several[row] else ([int(span_of[row, 0])], 0)
        span_of[row] = len(spans) + place
        spans += [("pop", window, span) for span in distinct]
    added = Additions(epoch_of, sources, rows, neighbours, amounts, span_of, items, amounts_of)
    found = _summed(added, len(spans), len(epochs), item_groups)
    group, row_span, number, ends, records = found
    kinds = [(kind, where) for kind, where, _ in spans]
    numbers = np.where(number < 0, np.array([bucket for *_, bucket in spans], np.int64)[row_span], number).tolist()
    names = [(*kinds[place], number) for place, number in zip(row_span.tolist(), numbers, strict=True)]
    return Delta(names, np.searchsorted(group, np.arange(item_groups + 1)), spans, row_span, number, ends, records)


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


def _summed(added: Additions, n_spans: int, n_epochs: int, item_groups: int) -> tuple[I64, I64, I64, I64, U32]:
    """Return item group, span, item (−1 for none) and end of the records of each row, (R,), and the records (n, 2). The first
    `n_epochs` spans are epochs."""
    rows, items = added.rows, added.items
    n = len(rows) + added.span_of.size
    largest_row, largest_item = int(rows.max(initial=0)) // item_groups, max(int(added.neighbours.max(initial=0)), int(items.max()))
    largest_amount = max(int(added.amounts.max(initial=0)), int(added.counts.max()))
    bits = np.array([value.bit_length() for value in (n_spans - 1, largest_row, largest_item, largest_amount)], np.int64)
    above_amount = int(bits[:3].sum()) + (item_groups - 1).bit_length()
    if above_amount + int(bits[3]) > _KEY_BITS:
        return _summed_by_columns(added, item_groups)
    keys, other = np.empty((2, n), np.int64)
    n = batch_delta_kernel.keys(added, item_groups, bits, keys)
    keys, other = keys[:n], other[:n]
    if batch_delta_kernel.ordered(keys, other, int(bits[3]), above_amount):
        keys = other
    group, span, number, ends = np.empty((4, n), np.int64)
    records = np.empty((n, 2), np.uint32)
    n_rows, n_records = batch_delta_kernel.summed(keys, n_epochs, item_groups, bits, group, span, number, ends, records)
    return group[:n_rows], span[:n_rows], number[:n_rows], ends[:n_rows], records[:n_records]


def _summed_by_columns(added: Additions, item_groups: int) -> tuple[I64, I64, I64, I64, U32]:
    """Return what the kernels would, for numbers so large that an addition does not fit in 63 bits."""
    window, choice = np.nonzero(added.counts)
    span = np.concatenate((added.epoch_of[added.sources], added.span_of[window, choice]))
    number = np.full(len(span), -1, np.int64)
    number[: len(added.rows)] = added.rows
    neighbours = np.concatenate((added.neighbours, added.items[choice]))
    amounts = np.concatenate((added.amounts, added.counts[window, choice]))
    group = np.where(number < 0, neighbours, number) % item_groups
    order = np.lexsort((neighbours, number, span, group))
    group, span, number, neighbours, amounts = group[order], span[order], number[order], neighbours[order], amounts[order]
    is_row, is_record = np.ones((2, len(order)), np.bool_)
    is_row[1:] = (group[1:] != group[:-1]) | (span[1:] != span[:-1]) | (number[1:] != number[:-1])
    is_record[1:] = is_row[1:] | (neighbours[1:] != neighbours[:-1])
    first = np.flatnonzero(is_record)
    records = np.stack((neighbours[first], np.add.reduceat(amounts, first)), axis=1).astype(np.uint32)
    row = np.flatnonzero(is_row)
    ends = np.append(np.flatnonzero(is_row[first])[1:], len(first))
    return group[row], span[row], number[row], ends, records
