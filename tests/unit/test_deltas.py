"""Deltas by item group hold exactly what the pairs and the choices sum to, however many groups there are and however the log is chosen."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.cooccurrence import Pairs, PairWeights, derive_pairs
from recsys.deltas import WINDOWS_S, GroupDelta, RowId, group_deltas
from recsys.interactions import Interactions
from recsys.rows import records
from recsys.userstate import UserTable
from tests.builders import batch_of

EPOCH_S = 1_000
EVENTS = st.lists(
    st.tuples(st.integers(0, 30) | st.integers(2**31, 2**31 + 4), st.integers(0, 400_000), st.integers(-64, 127).filter(bool)),
    min_size=1,
    max_size=25,
)


def made(events: list[tuple[int, int, int]]) -> tuple[Interactions, Pairs]:
    table = UserTable(20, 0)
    table.load({"u": None})
    items, times_s, weights = zip(*events, strict=True)
    batch = batch_of([0], [len(events)], items, times_s, weights)
    return batch, derive_pairs(batch, table, PairWeights.decaying(window=6, step=0.8, backward=0.5))


def expected(batch: Interactions, pairs: Pairs, chosen: list[bool]) -> dict[RowId, Counter[int]]:
    sums: dict[RowId, Counter[int]] = {}
    for row, neighbour, weight, source in zip(pairs.rows, pairs.neighbours, pairs.weights, pairs.sources, strict=True):
        if chosen[source]:
            sums.setdefault(("c", int(batch.times_s[source]) // EPOCH_S, int(row)), Counter())[int(neighbour)] += int(weight)
    for i, (item, weight) in enumerate(zip(batch.items.tolist(), batch.weights.tolist(), strict=True)):
        if chosen[i] and weight > 0:
            for window, bucket_s in {"all": 0, **WINDOWS_S}.items():
                bucket = int(batch.times_s[i]) // bucket_s if bucket_s else 0
                sums.setdefault(("pop", window, bucket), Counter())[item] += 2 * weight
    return sums


def unpacked(deltas: list[GroupDelta], item_groups: int) -> dict[RowId, Counter[int]]:
    """What the packed deltas say; checks that each row and neighbour comes once, and in the group it belongs to."""
    sums: dict[RowId, Counter[int]] = {}
    for group, delta in enumerate(deltas):
        ends, payload = delta.packed()
        start = 0
        assert len(set(delta.rows)) == len(delta.rows)
        for row_id, end in zip(delta.rows, np.frombuffer(ends, "<u4").tolist(), strict=True):
            neighbours, weights = records(payload[start:end])
            assert len(neighbours) and len(set(neighbours.tolist())) == len(neighbours)
            owners = {row_id[2]} if row_id[0] == "c" else set(neighbours.tolist())
            assert {owner % item_groups for owner in owners} == {group}
            sums.setdefault(row_id, Counter()).update(dict(zip(neighbours.tolist(), weights.tolist(), strict=True)))
            start = end
        assert start == len(payload)
    return sums


@pytest.mark.parametrize("item_groups", [1, 3, 8, 1024])
@given(events=EVENTS)
def test_the_groups_together_sum_to_the_pairs(item_groups: int, events: list[tuple[int, int, int]]) -> None:
    batch, pairs = made(events)
    deltas = group_deltas(batch, pairs, epoch_s=EPOCH_S, item_groups=item_groups)
    assert len(deltas) == item_groups
    assert unpacked(deltas, item_groups) == expected(batch, pairs, [True] * len(batch))


@given(events=EVENTS, at=st.integers(0, 25))
def test_a_cut_takes_exactly_the_chosen_interactions(events: list[tuple[int, int, int]], at: int) -> None:
    batch, pairs = made(events)
    chosen = batch.source_offsets >= at
    deltas = group_deltas(batch, pairs, epoch_s=EPOCH_S, item_groups=3, chosen=chosen)
    assert unpacked(deltas, 3) == expected(batch, pairs, chosen.tolist())


def test_dislikes_alone_add_nothing() -> None:
    batch, pairs = made([(1, 0, -32), (2, 0, -32)])
    assert all(not delta.rows and delta.packed() == (b"", b"") for delta in group_deltas(batch, pairs, epoch_s=EPOCH_S, item_groups=4))
