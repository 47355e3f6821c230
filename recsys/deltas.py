"""What a micro-batch adds to the rows of items, grouped as the state store takes it: one set of appends per item group.

A row is named by `RowId`: ("c", epoch, item number) holds what co-occurs with an item in one event-time epoch, ("pop", window, bucket)
how often the items of a group were chosen in one event-time bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.cooccurrence import Pairs, sum_pairs
from recsys.interactions import Interactions

RowId = tuple[str, int | str, int]
U32 = NDArray[np.uint32]
I64 = NDArray[np.int64]

WINDOWS_S: Mapping[str, int] = {"hour": 3_600, "day": 86_400}
"""Popularity windows with buckets of event time; "all" has the single bucket 0."""
_POPULARITY_UNITS = 2  # 1/64 in an interaction's 1/32


@dataclass(frozen=True, slots=True)
class RowSlices:
    """Appends to one kind of row: row i gets `neighbours[ends[i-1]:ends[i]]` with `weights` alike.

    Shapes: `rows` R ids, `numbers` (R,) the item of a co-occurrence row or −1, `ends` (R,), records (n,). Each neighbour once a row.
    """

    rows: list[RowId]
    numbers: I64
    ends: I64
    neighbours: U32
    weights: I64


@dataclass(frozen=True, slots=True)
class GroupDelta:
    """All appends to one item group: `ends` (R,) u32 are byte offsets into `payload`, 8 bytes a record."""

    slices: tuple[RowSlices, ...]

    @property
    def rows(self) -> list[RowId]:
        return [row for part in self.slices for row in part.rows]

    def packed(self) -> tuple[bytes, bytes]:
        """Byte ends (u32 array) and payload, as the store's function takes them. Weights above 2³²−1 cannot come from one batch."""
        records = [np.stack((part.neighbours, part.weights.astype(np.uint32)), axis=1) for part in self.slices]
        ends, before = [], 0
        for part in self.slices:
            ends.append(before + part.ends * 8)
            before += len(part.neighbours) * 8
        if not ends:
            return b"", b""
        return np.concatenate(ends).astype("<u4").tobytes(), np.concatenate(records).astype("<u4").tobytes()


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
    for window, bucket_s in (("all", 0), *WINDOWS_S.items()):
        buckets = times_s // bucket_s if bucket_s else np.zeros_like(times_s)
        for bucket in np.unique(buckets).tolist():
            here = buckets == bucket
            for group, part in _popularity_slices(window, bucket, items[here], amounts[here], item_groups):
                slices[group].append(part)
    return [GroupDelta(tuple(parts)) for parts in slices]


def _cooccurrence_slices(epoch: int, rows: U32, neighbours: U32, weights: I64, item_groups: int) -> list[tuple[int, RowSlices]]:
    """Summed pairs of one epoch, cut by group. Rows are rotated so that a group is one run of the sorted rows."""
    stride = np.uint32(min(2**32 // item_groups, 2**32 - 1))  # numbers are dense, so far below: no row leaves its group's run
    groups = np.uint32(item_groups)
    rotated, neighbours, weights = sum_pairs((rows % groups) * stride + rows // groups, neighbours, weights)
    if not len(rotated):
        return []
    ends = np.flatnonzero(np.concatenate((rotated[1:] != rotated[:-1], [True]))) + 1
    row = rotated[ends - 1]
    group = row // stride
    numbers = (row % stride).astype(np.int64) * item_groups + group
    found = []
    group_ends = np.flatnonzero(np.concatenate((group[1:] != group[:-1], [True]))) + 1
    start = 0
    for end in group_ends.tolist():
        first, last = int(ends[start - 1]) if start else 0, int(ends[end - 1])
        ids: list[RowId] = [("c", epoch, number) for number in numbers[start:end].tolist()]
        found.append(
            (int(group[start]), RowSlices(ids, numbers[start:end], ends[start:end] - first, neighbours[first:last], weights[first:last]))
        )
        start = end
    return found


def _popularity_slices(window: str, bucket: int, items: U32, amounts: I64, item_groups: int) -> list[tuple[int, RowSlices]]:
    rows, numbers, sums = sum_pairs(items % np.uint32(item_groups), items, amounts)
    found = []
    for group in np.unique(rows).tolist():
        here = rows == group
        ends = np.array([int(here.sum())], np.int64)
        found.append((group, RowSlices([("pop", window, bucket)], np.array([-1], np.int64), ends, numbers[here], sums[here])))
    return found
