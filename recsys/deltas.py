"""What a micro-batch adds to the rows of items, grouped as the state store takes it: one set of appends per item group.

A row is named by `RowId`: ("c", epoch, item number) holds what co-occurs with an item in one event-time epoch, ("pop", window, bucket)
how often the items of a group were chosen in one event-time bucket.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.cooccurrence import Pairs
from recsys.interactions import Interactions
from recsys.rows import RECORD_BYTES, run_ends, sum_pairs

RowId = tuple[str, int | str, int]
U32 = NDArray[np.uint32]
I64 = NDArray[np.int64]

WINDOWS_S: Mapping[str, int] = {"hour": 3_600, "day": 86_400}
"""Popularity windows with buckets of event time; "all" has the single bucket 0."""
_POPULARITY_UNITS = 2  # 1/64 in an interaction's 1/32


@dataclass(frozen=True, slots=True)
class RowSlices:
    """Appends to one kind of row: row i gets `neighbours[ends[i-1]:ends[i]]` with `weights` alike.

    Shapes: `rows` R ids of one kind and one epoch or window, `numbers` (R,) the item of a co-occurrence row or −1, `ends` (R,), records
    (n,). Each neighbour once a row.
    """

    rows: list[RowId]
    numbers: I64
    ends: I64
    neighbours: U32
    weights: I64

    @property
    def sizes(self) -> I64:
        """Records of each row, (R,)."""
        sizes = self.ends.copy()
        sizes[1:] -= self.ends[:-1]
        return sizes

    def only(self, chosen: NDArray[np.bool_]) -> RowSlices:
        """The rows that are `chosen` (R,)."""
        sizes = self.sizes
        records = np.repeat(chosen, sizes)
        rows = [row for row, is_chosen in zip(self.rows, chosen.tolist(), strict=True) if is_chosen]
        return RowSlices(rows, self.numbers[chosen], np.cumsum(sizes[chosen]), self.neighbours[records], self.weights[records])

    @classmethod
    def joined(cls, parts: Sequence[RowSlices]) -> RowSlices:
        """The rows of several parts of one kind, one after another."""
        if len(parts) == 1:
            return parts[0]
        before = np.cumsum([0, *(len(part.neighbours) for part in parts[:-1])])
        return cls(
            [row for part in parts for row in part.rows],
            np.concatenate([part.numbers for part in parts]),
            np.concatenate([part.ends + start for part, start in zip(parts, before.tolist(), strict=True)]),
            np.concatenate([part.neighbours for part in parts]),
            np.concatenate([part.weights for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class GroupDelta:
    """All appends to one item group: `ends` (R,) u32 are byte offsets into `payload`, 8 bytes a record."""

    slices: tuple[RowSlices, ...]

    @property
    def rows(self) -> list[RowId]:
        return [row for part in self.slices for row in part.rows]

    def packed(self) -> tuple[bytes, bytes]:
        """Byte ends (u32 array) and payload, as the store's function takes them. Weights above 2³²−1 cannot come from one batch."""
        records = np.empty((sum(len(part.neighbours) for part in self.slices), 2), "<u4")
        ends, before = [], 0
        for part in self.slices:
            after = before + len(part.neighbours)
            records[before:after, 0], records[before:after, 1] = part.neighbours, part.weights
            ends.append((part.ends + before) * RECORD_BYTES)
            before = after
        return np.concatenate(ends).astype("<u4").tobytes() if ends else b"", records.tobytes()


def group_deltas(
    batch: Interactions, pairs: Pairs, *, epoch_s: int, item_groups: int, chosen: NDArray[np.bool_] | None = None
) -> list[GroupDelta]:
    """One `GroupDelta` for each of `item_groups` groups (some empty), of the interactions that `chosen` (n,) selects, or of all."""
    epochs = batch.times_s.astype(np.int64) // epoch_s
    slices: list[list[RowSlices]] = [[] for _ in range(item_groups)]
    rows, neighbours, weights, pair_epochs = pairs.rows, pairs.neighbours, pairs.weights, epochs[pairs.sources]
    if chosen is not None:
        kept = chosen[pairs.sources]
        rows, neighbours, weights, pair_epochs = rows[kept], neighbours[kept], weights[kept], pair_epochs[kept]
    for epoch in np.unique(pair_epochs).tolist():
        here = pair_epochs == epoch
        for group, part in _cooccurrence_slices(epoch, rows[here], neighbours[here], weights[here], item_groups):
            slices[group].append(part)
    positive = batch.weights > 0 if chosen is None else (batch.weights > 0) & chosen
    items, amounts = batch.items[positive], batch.weights[positive].astype(np.int64) * _POPULARITY_UNITS
    times_s = batch.times_s[positive].astype(np.int64)
    together: list[tuple[int, RowSlices]] | None = None
    for window, bucket_s in (("all", 0), *WINDOWS_S.items()):
        buckets = times_s // bucket_s if bucket_s else np.zeros_like(times_s)
        if together and buckets.min() == buckets.max():  # as most batches have it: the sums are the same
            found = [(group, _renamed(part, window, int(buckets[0]))) for group, part in together]
        else:
            found = _popularity_slices(window, buckets, items, amounts, item_groups)
            together = found if together is None else together
        for group, part in found:
            slices[group].append(part)
    return [GroupDelta(tuple(parts)) for parts in slices]


def _cooccurrence_slices(epoch: int, rows: U32, neighbours: U32, weights: I64, item_groups: int) -> list[tuple[int, RowSlices]]:
    """Summed pairs of one epoch, cut by group. Rows are rotated so that a group is one run of the sorted rows."""
    if not len(rows):
        return []
    numbers = rows.astype(np.int64)
    stride = int(numbers.max()) // item_groups + 1
    rotated, neighbours, weights = sum_pairs((numbers % item_groups) * stride + numbers // item_groups, neighbours, weights)
    ends = run_ends(rotated)
    row = rotated[ends - 1]
    group, numbers = row // stride, row % stride * item_groups + row // stride
    found = []
    for first_row, last_row, start, end in _group_runs(group, ends):
        ids: list[RowId] = [("c", epoch, number) for number in numbers[first_row:last_row].tolist()]
        cut = slice(start, end)
        found.append(
            (
                int(group[first_row]),
                RowSlices(ids, numbers[first_row:last_row], ends[first_row:last_row] - start, neighbours[cut], weights[cut]),
            )
        )
    return found


def _popularity_slices(window: str, buckets: I64, items: U32, amounts: I64, item_groups: int) -> list[tuple[int, RowSlices]]:
    """Summed choices in the buckets of one window, cut by group."""
    if not len(items):
        return []
    distinct, place = np.unique(buckets, return_inverse=True)
    rows, numbers, sums = sum_pairs((items % np.uint32(item_groups)).astype(np.int64) * len(distinct) + place, items, amounts)
    ends = run_ends(rows)
    row = rows[ends - 1]
    group, bucket = row // len(distinct), distinct[row % len(distinct)]
    found = []
    for first_row, last_row, start, end in _group_runs(group, ends):
        ids: list[RowId] = [("pop", window, number) for number in bucket[first_row:last_row].tolist()]
        none = np.full(last_row - first_row, -1, np.int64)
        cut = slice(start, end)
        found.append((int(group[first_row]), RowSlices(ids, none, ends[first_row:last_row] - start, numbers[cut], sums[cut])))
    return found


def _renamed(part: RowSlices, window: str, bucket: int) -> RowSlices:
    """The one row of a part as the row of another window's bucket."""
    return RowSlices([("pop", window, bucket)], part.numbers, part.ends, part.neighbours, part.weights)


def _group_runs(group: I64, ends: I64) -> list[tuple[int, int, int, int]]:
    """For rows sorted by group that end at `ends`: first row, end of rows, first record and end of records of each group's run."""
    last = run_ends(group)
    first = np.concatenate(([0], last[:-1]))
    starts = np.where(first > 0, ends[first - 1], 0)
    return list(zip(first.tolist(), last.tolist(), starts.tolist(), ends[last - 1].tolist(), strict=True))
