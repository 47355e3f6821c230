"""Rows in Redis lose nothing, are read alike one by one and together, and are refused when torn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import LayoutError
from recsys.state import user_row_kernel, user_row_reading_kernel
from recsys.state.user_row import LAYOUT, UserRow, pack_embeddings, unpack_row
from recsys.state.user_rows import unpack_rows
from recsys.state.user_table import UserTable
from tests.histories import Entry, hold, touched

U8, U32 = st.integers(0, 255), st.integers(0, 2**32 - 1)
ITEMS = st.one_of(st.integers(0, 40), st.integers(90_000, 100_000), U32)
TAGS = st.one_of(st.just((32, 2)), st.sampled_from(((16, 1), (32, 2), (48, 7), (-32, 9))), st.tuples(st.integers(-128, 127), U8))
GAPS_S = st.one_of(st.integers(0, 60), st.integers(0, 1_000_000), st.integers(0, 2**30))
REPEATS = st.one_of(st.none(), st.tuples(st.integers(0, 2_000_000), st.integers(2, 9), st.integers(0, 3)), st.tuples(U32, U8, U8))
"""How an entry differs from one touch: seconds from the first to the last, touches, visits."""


@st.composite
def entries(draw: st.DrawFn, most: int = 60) -> list[Entry]:
    """A history, oldest first: mostly single touches seconds apart, with pauses, repeats and any jump at all."""
    n = draw(st.integers(0, most))
    items = draw(st.lists(draw(st.sampled_from((ITEMS, st.integers(500, 530)))), min_size=n, max_size=n))
    gaps_s = draw(st.lists(draw(st.sampled_from((GAPS_S, st.integers(0, 60)))), min_size=n, max_size=n))
    tags = draw(st.lists(draw(st.sampled_from((TAGS, st.just((-7, 5))))), min_size=n, max_size=n))
    repeats = draw(st.lists(draw(st.sampled_from((REPEATS, st.none()))), min_size=n, max_size=n))
    found, at_s = [], draw(st.sampled_from((0, 1_600_000_000)))
    for item, gap_s, (units, kind), repeat in zip(items, gaps_s, tags, repeats, strict=True):
        at_s = min(at_s + gap_s, 2**32 - 1)
        if repeat is None:
            found.append(touched(item, at_s, units, kind))
        else:
            seconds, touches, visits = repeat
            found.append((item, at_s, max(at_s - seconds, 0), units, kind, touches, visits))
    return found


User = tuple[list[Entry], list[int], int, int]
"""A history, older items, what is spent, and the number of embeddings."""


@st.composite
def users(draw: st.DrawFn) -> User:
    spent = draw(st.one_of(st.integers(0, 1_000), st.integers(0, 0xFFFF)))
    return draw(entries()), draw(st.lists(ITEMS, max_size=30, unique=True)), spent, draw(st.integers(0, 2))


def packed_by(table: UserTable, chosen: list[User]) -> list[bytes]:
    names = [str(i) for i in range(len(chosen))]
    table.load(dict.fromkeys(names))
    slots = [slot for name in names if (slot := table.slot(name)) is not None]
    hold(table, np.array(slots), [own for own, *_ in chosen], [spent for _, _, spent, _ in chosen])
    for slot, (_, older, *_) in zip(slots, chosen, strict=True):
        table.older[slot] = np.array(older, np.uint32)
    vectors = np.random.default_rng(5).normal(size=(len(chosen), 2, 6)).astype(np.float32)
    parts = [[pack_embeddings(9 + k, vectors[i, k : k + 1])[0] for k in range(n)] for i, (*_, n) in enumerate(chosen)]
    return table.pack(slots, parts)


def entries_of(row: UserRow) -> list[Entry]:
    return list(zip(*(column.tolist() for column in row.columns), strict=True))


def read_together(rows: list[bytes], at_most: int) -> list[tuple[list[Entry], list[int], int]]:
    found = unpack_rows(rows, at_most)
    read: list[tuple[list[Entry], list[int], int]] = []
    for row, length in enumerate(found.lengths.tolist()):
        own: list[Entry] = list(zip(*(column[row].tolist() for column in found.columns), strict=True))
        first = len(own) - length
        assert not any(any(entry) for entry in own[:first]), "what is not used is 0"
        read.append((own[first:], found.older.get(row, np.zeros(0)).tolist(), int(found.spent[row])))
    return read


@given(st.lists(users(), min_size=1, max_size=6))
def test_a_row_comes_back_as_it_was_one_by_one_and_together(chosen: list[User]) -> None:
    rows = packed_by(UserTable(60, 100, capacity=1), chosen)
    for packed, (own, older, spent, n_embeddings) in zip(rows, chosen, strict=True):
        row = unpack_row(packed)
        assert packed[0] == LAYOUT
        assert (entries_of(row), row.older.tolist(), row.spent, len(row.embeddings)) == (own, older, spent, n_embeddings)
        assert [embedding.tag for embedding in row.embeddings] == [9 + k for k in range(n_embeddings)]
    assert read_together(rows, 60) == [(own, older, spent) for own, older, spent, _ in chosen]
    assert read_together(rows, 7) == [(own[-7:], older, spent) for own, older, spent, _ in chosen]
    table = UserTable(60, 100, capacity=1)
    table.load({str(i): packed for i, packed in enumerate(rows)})
    slots = [slot for i in range(len(rows)) if (slot := table.slot(str(i))) is not None]
    without = [(own, older, spent, 0) for own, older, spent, _ in chosen]
    assert table.pack(slots) == packed_by(UserTable(60, 100, capacity=1), without)


def accepted(packed: bytes) -> UserRow | None:
    try:
        return unpack_row(packed)
    except LayoutError:
        return None


GOOD: User = ([touched(7, 8, 9)], [1], 3, 1)


def check_damaged(packed: bytes) -> None:
    """A damaged row is refused or a row, by itself and among others alike, and nothing else happens."""
    row = accepted(packed)
    if row is not None:
        assert {len(column) for column in row.columns} == {len(row.items)} and len(row.items) <= 0xFFFF and len(row.older) <= 0xFFFF
        assert (np.diff(row.times_s.astype(np.int64)) >= 0).all() and (row.columns.first_s <= row.times_s).all()
    if not packed:
        return
    good = packed_by(UserTable(60, 100, capacity=1), [GOOD])[0]
    try:
        read = read_together([good, packed, good], 0xFFFF)
    except LayoutError:
        assert row is None
    else:
        assert row is not None and read[1] == (entries_of(row), row.older.tolist(), row.spent)
        assert read[0] == read[2] == GOOD[:3]


@given(users(), st.data())
def test_a_cut_row_is_refused_and_a_flipped_bit_does_no_harm(chosen: User, data: st.DataObject) -> None:
    packed = packed_by(UserTable(60, 100, capacity=1), [chosen])[0]
    cut = data.draw(st.integers(0, len(packed) - 1))
    assert accepted(packed[:cut]) is None
    check_damaged(packed[:cut])
    bit = data.draw(st.integers(0, 8 * len(packed) - 1))
    flipped = bytearray(packed)
    flipped[bit // 8] ^= 1 << bit % 8
    check_damaged(bytes(flipped))
    check_damaged(packed + b"\0")


@given(st.binary(max_size=80), st.sampled_from((1, 2, LAYOUT, LAYOUT)))
def test_any_bytes_are_refused_or_a_row(behind: bytes, layout: int) -> None:
    check_damaged(bytes([layout]) + behind)


@pytest.mark.parametrize("first_item", [0, 2**31 - 1])
def test_every_flipped_bit_of_one_rich_row(first_item: int) -> None:
    random = np.random.default_rng(2)
    items, gaps_s, units = random.integers(0, 5_000, 20), random.choice([30, 30, 30, 4_000], 20), random.choice([16, 32, -32], 20)
    items[7] = 0
    times_s = (1_700_000_000 + np.cumsum(gaps_s)).tolist()
    facts = zip(items.tolist(), times_s, units.tolist(), strict=True)
    own = [touched(first_item + item, at_s, unit, unit & 7) for item, at_s, unit in facts]
    own[3] = (*own[3][:2], own[3][1] - 90_000, *own[3][3:5], 4, 2)
    own[11] = (*own[11][:2], own[11][1] - 5, *own[11][3:5], 255, 3)
    packed = packed_by(UserTable(60, 100, capacity=1), [(own, [first_item + 5, first_item, first_item + 900], 41, 2)])[0]
    for bit in range(8 * len(packed)):
        flipped = bytearray(packed)
        flipped[bit // 8] ^= 1 << bit % 8
        check_damaged(bytes(flipped))


def test_rows_by_the_thousand_are_read_as_one_by_one() -> None:
    random = np.random.default_rng(4)
    chosen: list[User] = []
    for i in range(2_500):
        n = int(random.integers(0, 61)) if i % 3 else 60
        times_s = (1_600_000_000 + np.cumsum(random.choice([5, 60, 90_000], n))).tolist()
        facts = zip(random.integers(0, 20_000, n).tolist(), times_s, random.choice([32, 32, 16], n).tolist(), strict=True)
        own = [touched(*fact) if i % 5 else (fact[0], fact[1], fact[1] - 77 * i, fact[2], 1, 2, 1) for fact in facts]
        chosen.append((own, random.permutation(500)[: int(random.integers(0, 80))].tolist(), i, i % 2))
    rows = packed_by(UserTable(60, 100), chosen)
    assert read_together(rows, 60) == [user[:3] for user in chosen]
    for packed, (own, older, spent, _) in zip(rows[::50], chosen[::50], strict=True):
        row = unpack_row(packed)
        assert (entries_of(row), row.older.tolist(), row.spent) == (own, older, spent)
    for kernel in (user_row_kernel.write, user_row_reading_kernel.read):
        assert len(kernel.signatures) == 1, "compiled once, before the group is joined"  # type: ignore[attr-defined]


def test_a_long_history_names_places_by_two_bytes() -> None:
    own = [touched(i % 7, 1_600_000_000 + 1_000_000 * (i > 700) + i, 32) for i in range(1_000)]
    packed = packed_by(UserTable(1_000, 0, capacity=1), [(own, [], 0, 0)])[0]
    assert entries_of(unpack_row(packed)) == own and read_together([packed], 1_000)[0][0] == own
    assert len(packed) < 600


def usual(random: np.random.Generator) -> list[Entry]:
    """A hundred items in sittings, viewed, played or purchased, among a hundred thousand."""
    gaps_s = np.where(random.random(100) < 1 / 8, random.exponential(86_400, 100), random.exponential(180, 100)).astype(np.int64)
    times_s = (1_600_000_000 + np.cumsum(gaps_s)).tolist()
    tags = [((16, 1), (32, 2), (48, 7))[i] for i in random.integers(0, 3, 100).tolist()]
    items = random.integers(0, 100_000, 100).tolist()
    return [touched(item, at_s, units, kind) for item, at_s, (units, kind) in zip(items, times_s, tags, strict=True)]


def length_of(own: list[Entry]) -> int:
    """Return the bytes of a full row with an embedding."""
    table = UserTable(100, 1_000, capacity=1)
    packed_by(table, [(own, [], 100, 0)])
    vector = np.random.default_rng(1).normal(size=(1, 64)).astype(np.float32)
    return len(table.pack([table.slot("0") or 0], [pack_embeddings(7, vector)])[0])


def test_a_full_row_of_a_usual_user_is_short() -> None:
    """982 bytes in the first layout."""
    assert length_of(usual(np.random.default_rng(0))) <= 506, "with the header of a Redis string it is in 512 bytes"


def test_repeats_cost_a_few_bytes_each() -> None:
    random = np.random.default_rng(0)
    own = usual(random)
    for place in random.permutation(100)[:30].tolist():
        item, at_s, _, units, kind, _, _ = own[place]
        own[place] = (item, at_s, at_s - int(random.integers(0, 60 * 86_400)), units, kind, int(random.integers(2, 9)), 2)
    assert length_of(own) <= length_of(usual(np.random.default_rng(0))) + 128, "four bytes each"


def test_a_torn_row_changes_nothing_in_the_table() -> None:
    table = UserTable(60, 100, capacity=1)
    good = packed_by(table, [([touched(7, 8, 9)], [1], 0, 0)])[0]
    before = (len(table), table.items.copy(), table.lengths.copy())
    with pytest.raises(LayoutError):
        table.load({"0": None, "new": good, "torn": good[:-1]})
    assert len(table) == before[0] and (table.items == before[1]).all() and (table.lengths == before[2]).all()
