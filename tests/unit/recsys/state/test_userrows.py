"""Rows in Redis lose nothing, are read alike one by one and together, and are refused when torn."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import LayoutError
from recsys.state import user_row_kernel, user_row_reading_kernel
from recsys.state.user_row import FIRST_LAYOUT, LAYOUT, UserRow, pack_embeddings, unpack_row
from recsys.state.user_rows import unpack_rows
from recsys.state.user_table import UserTable

Entry = tuple[int, int, int]
U32 = st.integers(0, 2**32 - 1)
ITEMS = st.one_of(st.integers(0, 40), st.integers(90_000, 100_000), U32)
WEIGHTS = st.one_of(st.just(32), st.sampled_from((16, 32, 48, -32)), st.integers(-128, 127))
GAPS_S = st.one_of(st.integers(0, 60), st.integers(-90_000, 1_000_000), U32)


@st.composite
def entries(draw: st.DrawFn, most: int = 60) -> list[Entry]:
    """A history, oldest first: mostly seconds apart, with pauses, late events and any jump at all."""
    n = draw(st.integers(0, most))
    items = draw(st.lists(draw(st.sampled_from((ITEMS, st.integers(500, 530)))), min_size=n, max_size=n))
    gaps_s = draw(st.lists(draw(st.sampled_from((GAPS_S, st.integers(0, 60)))), min_size=n, max_size=n))
    weights = draw(st.lists(draw(st.sampled_from((WEIGHTS, st.just(-7)))), min_size=n, max_size=n))
    times_s = [(1_600_000_000 + at) % 2**32 for at in np.cumsum(gaps_s, dtype=object)]
    return list(zip(items, times_s, weights, strict=True))


@st.composite
def users(draw: st.DrawFn) -> tuple[list[Entry], list[int], int]:
    """A history, older items and the number of embeddings."""
    return draw(entries()), draw(st.lists(ITEMS, max_size=30, unique=True)), draw(st.integers(0, 2))


def packed_by(table: UserTable, chosen: list[tuple[list[Entry], list[int], int]]) -> list[bytes]:
    names = [str(i) for i in range(len(chosen))]
    table.load(dict.fromkeys(names))
    slots = [slot for name in names if (slot := table.slot(name)) is not None]
    counts = np.array([len(own) for own, _, _ in chosen])
    flat = np.array([entry for own, _, _ in chosen for entry in own], np.int64).reshape(-1, 3)
    table.append(np.array(slots), counts, flat[:, 0].astype(np.uint32), flat[:, 1].astype(np.uint32), flat[:, 2].astype(np.int8))
    for slot, (_, older, _) in zip(slots, chosen, strict=True):
        table.older[slot] = np.array(older, np.uint32)
    vectors = np.random.default_rng(5).normal(size=(len(chosen), 2, 6)).astype(np.float32)
    parts = [[pack_embeddings(9 + k, vectors[i, k : k + 1])[0] for k in range(n)] for i, (_, _, n) in enumerate(chosen)]
    return table.pack(slots, parts)


def first_layout(own: list[Entry], older: list[int], parts: list[bytes]) -> bytes:
    """A row as the first version wrote it."""
    head = struct.pack("<BBHHH", FIRST_LAYOUT, len(parts), len(own), len(older), 0)
    items, times_s, weights = zip(*own, strict=True) if own else ((), (), ())
    columns = struct.pack(f"<{len(own)}I{len(own)}I{len(own)}b{len(older)}I", *items, *times_s, *weights, *older)
    return head + columns + b"".join(parts)


def entries_of(row: UserRow) -> list[Entry]:
    return list(zip(row.items.tolist(), row.times_s.tolist(), row.weights.tolist(), strict=True))


def read_together(rows: list[bytes], at_most: int) -> list[tuple[list[Entry], list[int]]]:
    found = unpack_rows(rows, at_most)
    read: list[tuple[list[Entry], list[int]]] = []
    for row, length in enumerate(found.lengths.tolist()):
        own = list(zip(*(column[row].tolist() for column in (found.items, found.times_s, found.weights)), strict=True))
        first = len(own) - length
        assert not any(any(entry) for entry in own[:first]), "what is not used is 0"
        read.append((own[first:], found.older.get(row, np.zeros(0)).tolist()))
    return read


@given(st.lists(users(), min_size=1, max_size=6))
def test_a_row_comes_back_as_it_was_one_by_one_and_together(chosen: list[tuple[list[Entry], list[int], int]]) -> None:
    rows = packed_by(UserTable(60, 100, capacity=1), chosen)
    for packed, (own, older, n_embeddings) in zip(rows, chosen, strict=True):
        row = unpack_row(packed)
        assert packed[0] == LAYOUT
        assert (entries_of(row), row.older.tolist(), len(row.embeddings)) == (own, older, n_embeddings)
        assert [embedding.tag for embedding in row.embeddings] == [9 + k for k in range(n_embeddings)]
    assert read_together(rows, 60) == [(own, older) for own, older, _ in chosen]
    assert read_together(rows, 7) == [(own[-7:], older) for own, older, _ in chosen]


@given(st.lists(users(), min_size=1, max_size=4), st.booleans())
def test_rows_of_the_first_layout_are_read_and_written_again_as_the_second(
    chosen: list[tuple[list[Entry], list[int], int]], mixed: bool
) -> None:
    second = packed_by(UserTable(60, 100, capacity=1), chosen)
    parts = pack_embeddings(3, np.ones((1, 6), np.float32))
    rows = [first_layout(own, older, parts * n) for own, older, n in chosen]
    for packed, (own, older, n_embeddings) in zip(rows, chosen, strict=True):
        row = unpack_row(packed)
        assert (entries_of(row), row.older.tolist(), len(row.embeddings)) == (own, older, n_embeddings)
    if mixed:
        rows = [packed if i % 2 else other for i, (packed, other) in enumerate(zip(rows, second, strict=True))]
    assert read_together(rows, 60) == [(own, older) for own, older, _ in chosen]
    table = UserTable(60, 100, capacity=1)
    table.load({str(i): packed for i, packed in enumerate(rows)})
    slots = [slot for i in range(len(rows)) if (slot := table.slot(str(i))) is not None]
    without = [(own, older, 0) for own, older, _ in chosen]
    assert table.pack(slots) == packed_by(UserTable(60, 100, capacity=1), without)


def accepted(packed: bytes) -> UserRow | None:
    try:
        return unpack_row(packed)
    except LayoutError:
        return None


def check_damaged(packed: bytes) -> None:
    """A damaged row is refused or a row, by itself and among others alike, and nothing else happens."""
    row = accepted(packed)
    if row is not None:
        assert len(row.items) == len(row.times_s) == len(row.weights) <= 0xFFFF and len(row.older) <= 0xFFFF
    if not packed:
        return
    good = packed_by(UserTable(60, 100, capacity=1), [([(7, 8, 9)], [1], 1)])[0]
    try:
        read = read_together([good, packed, good], 0xFFFF)
    except LayoutError:
        assert row is None
    else:
        assert row is not None and read[1] == (entries_of(row), row.older.tolist())
        assert read[0] == read[2] == ([(7, 8, 9)], [1])


@given(users(), st.data())
def test_a_cut_row_is_refused_and_a_flipped_bit_does_no_harm(chosen: tuple[list[Entry], list[int], int], data: st.DataObject) -> None:
    packed = packed_by(UserTable(60, 100, capacity=1), [chosen])[0]
    if data.draw(st.booleans()):
        packed = first_layout(chosen[0], chosen[1], pack_embeddings(3, np.ones((1, 6), np.float32)) * chosen[2])
    cut = data.draw(st.integers(0, len(packed) - 1))
    assert accepted(packed[:cut]) is None
    check_damaged(packed[:cut])
    bit = data.draw(st.integers(0, 8 * len(packed) - 1))
    flipped = bytearray(packed)
    flipped[bit // 8] ^= 1 << bit % 8
    check_damaged(bytes(flipped))
    check_damaged(packed + b"\0")


@given(st.binary(max_size=80), st.sampled_from((FIRST_LAYOUT, LAYOUT)))
def test_any_bytes_are_refused_or_a_row(behind: bytes, layout: int) -> None:
    check_damaged(bytes([layout]) + behind)


@pytest.mark.parametrize("first_item", [0, 2**31 - 1])
def test_every_flipped_bit_of_one_rich_row(first_item: int) -> None:
    random = np.random.default_rng(2)
    items, gaps_s, weights = random.integers(0, 5_000, 20), random.choice([30, 30, 30, -40], 20), random.choice([16, 32, -32], 20)
    items[7] = 0
    own = list(zip((first_item + items).tolist(), (1_700_000_000 + np.cumsum(gaps_s)).tolist(), weights.tolist(), strict=True))
    packed = packed_by(UserTable(60, 100, capacity=1), [(own, [first_item + 5, first_item, first_item + 900], 2)])[0]
    for bit in range(8 * len(packed)):
        flipped = bytearray(packed)
        flipped[bit // 8] ^= 1 << bit % 8
        check_damaged(bytes(flipped))


def test_rows_by_the_thousand_are_read_as_one_by_one() -> None:
    random = np.random.default_rng(4)
    chosen = []
    for i in range(2_500):
        n = int(random.integers(0, 61)) if i % 3 else 60
        times_s = 1_600_000_000 + np.cumsum(random.choice([5, 60, 90_000, -40], n))
        own = np.stack((random.integers(0, 20_000, n), times_s, random.choice([32, 32, 16], n)), axis=1)
        chosen.append(([tuple(entry) for entry in own.tolist()], random.permutation(500)[: int(random.integers(0, 80))].tolist(), i % 2))
    rows = packed_by(UserTable(60, 100), chosen)
    assert read_together(rows, 60) == [(own, older) for own, older, _ in chosen]
    for packed, (own, older, _) in zip(rows[::50], chosen[::50], strict=True):
        row = unpack_row(packed)
        assert (entries_of(row), row.older.tolist()) == (own, older)
    for kernel in (user_row_kernel.write, user_row_reading_kernel.read):
        assert len(kernel.signatures) == 1, "compiled once, before the group is joined"  # type: ignore[attr-defined]


def test_a_long_history_names_places_by_two_bytes() -> None:
    own = [(i % 7, 1_600_000_000 + 1_000_000 * (i > 700) + i, 32) for i in range(1_000)]
    packed = packed_by(UserTable(1_000, 0, capacity=1), [(own, [], 0)])[0]
    assert entries_of(unpack_row(packed)) == own and read_together([packed], 1_000)[0][0] == own
    assert len(packed) < 600


def test_a_full_row_of_a_usual_user_is_short() -> None:
    """A hundred events in sittings, of three weights, among a hundred thousand items, with an embedding: 982 bytes in the first layout."""
    random = np.random.default_rng(0)
    gaps_s = np.where(random.random(100) < 1 / 8, random.exponential(86_400, 100), random.exponential(180, 100)).astype(np.int64)
    entries = list(zip(random.integers(0, 100_000, 100).tolist(), (1_600_000_000 + np.cumsum(gaps_s)).tolist(),
                       random.choice([16, 32, 48], 100).tolist(), strict=True))  # fmt: skip
    table = UserTable(100, 1_000, capacity=1)
    packed_by(table, [(entries, [], 0)])
    packed = table.pack([table.slot("0") or 0], [pack_embeddings(7, random.normal(size=(1, 64)).astype(np.float32))])[0]
    assert len(packed) <= 506, "with the header of a Redis string it is in 512 bytes"


def test_a_torn_row_changes_nothing_in_the_table() -> None:
    table = UserTable(60, 100, capacity=1)
    good = packed_by(table, [([(7, 8, 9)], [1], 0)])[0]
    before = (len(table), table.items.copy(), table.lengths.copy())
    with pytest.raises(LayoutError):
        table.load({"0": None, "new": good, "torn": good[:-1]})
    assert len(table) == before[0] and (table.items == before[1]).all() and (table.lengths == before[2]).all()
