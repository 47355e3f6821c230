"""Invariants of packed rows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import LayoutError, ShapeError
from recsys.state import item_row

PAIRS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, item_row.MAX_WEIGHT)), max_size=60)
ANY_PAIRS = st.lists(st.tuples(st.integers(0, 0xFFFF_FFFF), st.integers(0, item_row.MAX_WEIGHT)), max_size=60)


def body_of(pairs: list[tuple[int, int]]) -> bytes:
    return item_row.pack_records([key for key, _ in pairs], np.array([units for _, units in pairs], dtype=np.int64))


def sums_of(body: bytes) -> dict[int, int]:
    keys, units = item_row.sum_records(*item_row.records(body))
    return dict(zip(keys.tolist(), units.tolist(), strict=True))


def counted(pairs: list[tuple[int, int]]) -> dict[int, int]:
    counter: Counter[int] = Counter()
    for key, units in pairs:
        counter[key] += units
    return dict(counter)


@given(ANY_PAIRS)
def test_records_survive_packing_in_order(pairs: list[tuple[int, int]]) -> None:
    keys, units = item_row.records(body_of(pairs))
    assert list(zip(keys.tolist(), units.tolist(), strict=True)) == pairs


@given(PAIRS)
def test_compaction_changes_no_sum(pairs: list[tuple[int, int]]) -> None:
    row = item_row.pack_header(3, 0) + body_of(pairs)
    assert sums_of(item_row.compact(row, 100)) == counted(pairs)


@given(PAIRS, PAIRS)
def test_appending_adds(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    body = item_row.compact(item_row.pack_header(0, 0) + body_of(first), 100) + body_of(second)
    assert sums_of(body) == counted(first + second)


@given(PAIRS, st.integers(1, 10), st.randoms())
def test_cap_keeps_the_heaviest_whatever_the_order_of_records(pairs: list[tuple[int, int]], cap: int, random: object) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    kept = item_row.compact(item_row.pack_header(0, 0) + body_of(pairs), cap)
    assert kept == item_row.compact(item_row.pack_header(9, 0) + body_of(shuffled), cap)
    heaviest = sorted(counted(pairs).items(), key=lambda item: (-item[1], item[0]))[:cap]
    assert sums_of(kept) == dict(heaviest)
    keys, _ = item_row.records(kept)
    assert keys.tolist() == sorted(keys.tolist())


def test_a_sum_above_one_record_is_split_without_loss() -> None:
    huge = 5 * item_row.MAX_WEIGHT + 7
    body = item_row.pack_records([4, 9, 11], np.array([huge, 1, item_row.MAX_WEIGHT], dtype=np.int64))
    assert len(body) == 8 * (6 + 1 + 1)
    assert sums_of(body) == {4: huge, 9: 1, 11: item_row.MAX_WEIGHT}
    assert sums_of(item_row.compact(item_row.pack_header(0, 0) + body, 10)) == {4: huge, 9: 1, 11: item_row.MAX_WEIGHT}


def test_header_says_generation_and_compacted_length() -> None:
    body = body_of([(1, 2), (3, 4)])
    row = item_row.parse_row(item_row.pack_header(2**32 + 5, 8) + body)
    assert (row.generation, row.base_length, row.neighbours.tolist(), row.weights.tolist()) == (5, 8, [1, 3], [2, 4])
    assert row.neighbours.dtype == np.uint32 and row.weights.dtype == np.uint32


TORN = [b"", b"1234567", *(item_row.pack_header(0, size) + b"12345678"[:n] for size, n in ((0, 4), (16, 8), (4, 8)))]


@pytest.mark.parametrize("row", TORN)
def test_a_torn_row_is_refused(row: bytes) -> None:
    with pytest.raises(LayoutError):
        item_row.parse_row(row)


def test_misfit_arrays_are_refused() -> None:
    with pytest.raises(ShapeError):
        item_row.sum_records([1, 2], [1])
    with pytest.raises(ShapeError):
        item_row.pack_records([1, 2], [1])
    with pytest.raises(LayoutError):
        item_row.pack_records([1], [-1])
    with pytest.raises(ShapeError):
        item_row.compact(item_row.pack_header(0, 0), 0)


def test_no_records_sum_to_nothing() -> None:
    keys, sums = item_row.sum_records([], [])
    assert len(keys) == 0 and sums.dtype == np.int64
    assert item_row.compact(item_row.pack_header(1, 0), 4) == b""


@given(st.lists(PAIRS | ANY_PAIRS, max_size=8), st.integers(1, 30))
def test_compacting_many_rows_is_compacting_each(many: list[list[tuple[int, int]]], cap: int) -> None:
    packed = [item_row.pack_header(number, 0) + body_of(pairs) for number, pairs in enumerate(many)]
    assert item_row.compact_rows(packed, cap) == [item_row.compact(row, cap) for row in packed]


@pytest.mark.parametrize("torn", [b"", b"1234567", item_row.pack_header(0, 8), item_row.pack_header(0, 0) + b"1234"])
def test_one_torn_row_among_many_is_found(torn: bytes) -> None:
    with pytest.raises(LayoutError):
        item_row.compact_rows([item_row.pack_header(0, 0) + body_of([(1, 2)]), torn], 4)


@given(st.lists(st.tuples(st.integers(0, 2**32), st.integers(0, 2**32 - 1) | st.integers(0, 5), st.integers(0, 2**40)), max_size=40))
def test_pairs_are_summed_in_order_whatever_their_size(triples: list[tuple[int, int, int]]) -> None:
    sums: Counter[tuple[int, int]] = Counter()
    for row, neighbour, weight in triples:
        sums[row % 2**31, neighbour] += weight
    columns = np.array([(row % 2**31, neighbour, weight) for row, neighbour, weight in triples], np.int64).reshape(-1, 3).T
    found = item_row.sum_pairs(columns[0], columns[1].astype(np.uint32), columns[2])
    assert list(zip(*(part.tolist() for part in found), strict=True)) == [(*pair, sums[pair]) for pair in sorted(sums)]
