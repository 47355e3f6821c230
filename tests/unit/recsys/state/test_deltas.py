"""Deltas by item group hold exactly what the pairs and the choices sum to, however many groups there are and however the log is chosen."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.cooccurrence import PairWeights
from recsys.state import batch_delta as batch_delta_module
from recsys.state import batch_delta_kernel
from recsys.state.batch_delta import Delta, RowId, batch_delta
from recsys.state.half_lives import PERIODS_S, WINDOWS, span_amount
from recsys.state.interactions import Interactions
from recsys.state.item_row import records
from recsys.state.touches import Touches, TouchRules, derive_touches
from recsys.state.user_table import UserTable
from tests.builders import batch_of

EPOCH_S = 1_000
EVENTS = st.lists(
    st.tuples(st.integers(0, 30) | st.integers(2**31, 2**31 + 4), st.integers(0, 400_000), st.integers(-64, 127).filter(bool)),
    min_size=1,
    max_size=25,
)


RULES = TouchRules(PairWeights.decaying(window=6, step=0.8, backward=0.5), EPOCH_S)


def made(events: list[tuple[int, int, int]]) -> tuple[Interactions, Touches]:
    table = UserTable(20, 0)
    table.load({"u": None})
    items, times_s, weights = zip(*events, strict=True)
    batch = batch_of([table.slot("u") or 0], [len(events)], items, times_s, weights)
    return batch, derive_touches(batch, table, RULES, PERIODS_S)


def expected(batch: Interactions, touches: Touches, chosen: list[bool]) -> dict[RowId, Counter[int]]:
    sums: dict[RowId, Counter[int]] = {}
    pairs = touches.pairs
    for row, neighbour, weight, source in zip(pairs.rows, pairs.neighbours, pairs.weights, pairs.sources, strict=True):
        if chosen[source]:
            sums.setdefault(("c", int(batch.times_s[source]) // EPOCH_S, int(row)), Counter())[int(neighbour)] += int(weight)
    for window, amounts in zip(WINDOWS, touches.popularity.tolist(), strict=True):
        for i, count in enumerate(amounts):
            if chosen[i] and count:
                span, amount = span_amount(2 * count, int(batch.times_s[i]), window)
                sums.setdefault(("pop", window, span), Counter())[int(batch.items[i])] += amount
    return sums


def unpacked(delta: Delta) -> dict[RowId, Counter[int]]:
    """What the packed groups say; checks that each row and neighbour comes once, and in the group it belongs to."""
    sums: dict[RowId, Counter[int]] = {}
    for group in range(delta.item_groups):
        (ends, payload), rows = delta.packed(group), delta.rows_of(group)
        start = 0
        assert len(set(rows)) == len(rows)
        for row_id, end in zip(rows, np.frombuffer(ends, "<u4").tolist(), strict=True):
            neighbours, weights = records(payload[start:end])
            assert len(neighbours) and len(set(neighbours.tolist())) == len(neighbours)
            owners = {row_id[2]} if row_id[0] == "c" else set(neighbours.tolist())
            assert {owner % delta.item_groups for owner in owners} == {group}
            sums.setdefault(row_id, Counter()).update(dict(zip(neighbours.tolist(), weights.tolist(), strict=True)))
            start = end
        assert start == len(payload)
    return sums


def check_columns(delta: Delta) -> None:
    """Spans, numbers and records of rows say what their names and the packed groups do."""
    names = [(*delta.spans[place][:2], number if number >= 0 else delta.spans[place][2]) for place, number in
             zip(delta.span.tolist(), delta.numbers.tolist(), strict=True)]  # fmt: skip
    assert names == delta.rows
    assert [kind == "c" for kind, _, _ in delta.rows] == (delta.numbers >= 0).tolist()
    assert len(delta.records) == (delta.ends[-1] if len(delta.ends) else 0)
    assert b"".join(delta.packed(group)[1] for group in range(delta.item_groups)) == delta.records.tobytes()
    by_epoch = list(delta.by_epoch())
    assert all({delta.spans[place] for place in delta.span[rows].tolist()} == {("c", epoch, -1)} for epoch, rows in by_epoch)
    counts = delta.count_rows()
    assert sorted([*counts.tolist(), *(row for _, rows in by_epoch for row in rows.tolist())]) == list(range(len(delta.rows)))
    windows, spans = delta.windows_of(counts)
    named = [("pop", WINDOWS[window], span) for window, span in zip(windows.tolist(), spans.tolist(), strict=True)]
    assert named == [delta.rows[row] for row in counts.tolist()]
    some = np.arange(0, len(delta.rows), 2)
    starts = delta.starts_of(np.arange(len(delta.rows)))
    assert delta.sizes_of(some).tolist() == (delta.ends - starts)[some].tolist()


@pytest.mark.parametrize("item_groups", [1, 3, 8, 1024])
@given(events=EVENTS)
def test_the_groups_together_sum_to_the_pairs(item_groups: int, events: list[tuple[int, int, int]]) -> None:
    batch, touches = made(events)
    delta = batch_delta(batch, touches, epoch_s=EPOCH_S, item_groups=item_groups)
    assert delta.item_groups == item_groups
    assert unpacked(delta) == expected(batch, touches, [True] * len(batch))
    check_columns(delta)


@given(events=EVENTS, at=st.integers(0, 25))
def test_a_cut_takes_exactly_the_chosen_interactions(events: list[tuple[int, int, int]], at: int) -> None:
    batch, touches = made(events)
    chosen = batch.source_offsets >= at
    delta = batch_delta(batch, touches, epoch_s=EPOCH_S, item_groups=3, chosen=chosen)
    assert unpacked(delta) == expected(batch, touches, chosen.tolist())
    check_columns(delta)


def test_dislikes_alone_add_nothing() -> None:
    batch, touches = made([(1, 0, -32), (2, 0, -32)])
    delta = batch_delta(batch, touches, epoch_s=EPOCH_S, item_groups=4)
    assert not delta.rows and [delta.packed(group) for group in range(4)] == [(b"", b"")] * 4
    check_columns(delta)


@given(events=EVENTS)
def test_numbers_that_do_not_fit_in_one_key_are_summed_alike(events: list[tuple[int, int, int]]) -> None:
    batch, touches = made(events)
    kept, batch_delta_module._KEY_BITS = batch_delta_module._KEY_BITS, 0
    try:
        slowly = batch_delta(batch, touches, epoch_s=EPOCH_S, item_groups=3)
    finally:
        batch_delta_module._KEY_BITS = kept
    quickly = batch_delta(batch, touches, epoch_s=EPOCH_S, item_groups=3)
    assert (slowly.rows, slowly.groups.tolist(), slowly.ends.tolist()) == (quickly.rows, quickly.groups.tolist(), quickly.ends.tolist())
    assert slowly.records.tolist() == quickly.records.tolist() and slowly.numbers.tolist() == quickly.numbers.tolist()
    for kernel in (batch_delta_kernel.keys, batch_delta_kernel.ordered, batch_delta_kernel.summed):
        assert len(kernel.signatures) == 1, "compiled once, before the group is joined"  # type: ignore[attr-defined]


@pytest.mark.parametrize("n", [0, 1, 300, 5_000])
@pytest.mark.parametrize(("first_bit", "n_bits"), [(0, 63), (7, 24), (7, 33), (11, 5), (0, 1), (60, 3)])
def test_numbers_are_sorted_by_the_bits_asked_for_and_keep_their_order_where_those_are_alike(n: int, first_bit: int, n_bits: int) -> None:
    numbers = np.random.default_rng(n + n_bits).integers(0, 1 << min(first_bit + n_bits, 62), n)
    keys, other = numbers.copy(), np.empty(n, np.int64)
    found = other if batch_delta_kernel.ordered(keys, other, first_bit, n_bits) else keys
    wanted = numbers[np.argsort((numbers >> first_bit) & ((1 << n_bits) - 1), kind="stable")]
    assert found.tolist() == wanted.tolist()
