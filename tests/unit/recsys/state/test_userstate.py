"""User rows survive packing, and what a table holds of a user depends on the events alone, not on how they were cut into batches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import LayoutError
from recsys.state.user_table import UserTable, pack_embeddings, quantise_weights, unpack_row

U32 = st.integers(0, 2**32 - 1)
ENTRIES = st.lists(st.tuples(U32, U32, st.integers(-127, 127).filter(bool)), max_size=60)
OUT_OF_ORDER = st.lists(st.tuples(U32, st.integers(1, 12), st.integers(-127, 127).filter(bool)), max_size=16)
FEW_ITEMS = st.lists(st.tuples(st.integers(0, 9), U32, st.integers(-127, 127).filter(bool)), max_size=60)


def appended(table: UserTable, user_id: str, entries: list[tuple[int, int, int]]) -> None:
    slot = table.slot(user_id)
    assert slot is not None
    items, times_s, weights = (np.array(column) for column in zip(*entries, strict=True))
    table.append(np.array([slot]), np.array([len(entries)]), items.astype(np.uint32), times_s.astype(np.uint32), weights.astype(np.int8))


@given(st.lists(OUT_OF_ORDER, max_size=3), st.integers(1, 14))
def test_the_newest_go_by_event_time_and_the_rows_stay_in_order_of_arrival(users: list[list[tuple[int, int, int]]], width: int) -> None:
    table = UserTable(history_length=10, seen_length=0, capacity=1)
    table.load({str(i): None for i in range(len(users))})
    for i, entries in enumerate(users):
        if entries:
            appended(table, str(i), entries)
    slots = np.array([table.slot(str(i)) for i in range(len(users))], np.int64)
    before = table.pack(slots.tolist())
    found = table.newest(slots, width)
    for i, entries in enumerate(users):
        by_time = sorted(entries[-10:], key=lambda entry: entry[1])[-width:]
        used = min(width, 10) - len(by_time)
        assert list(zip(*(column[i, used:].tolist() for column in found), strict=True)) == by_time
        assert not found[2][i, :used].any()
    assert table.pack(slots.tolist()) == before


@given(ENTRIES, st.lists(st.lists(st.floats(-8, 8, width=32), min_size=3, max_size=3), max_size=3))
def test_a_packed_row_unpacks_to_what_was_packed(entries: list[tuple[int, int, int]], vectors: list[list[float]]) -> None:
    table = UserTable(history_length=20, seen_length=50, capacity=1)
    table.load({"a": None, "b": None})
    if entries:
        appended(table, "b", entries)
    parts = [pack_embeddings(tag, np.array([vector], np.float32))[0] for tag, vector in enumerate(vectors)]
    slot = table.slot("b")
    assert slot is not None
    packed = table.pack([slot], [parts])[0]
    row = unpack_row(packed)
    assert list(zip(row.items.tolist(), row.times_s.tolist(), row.weights.tolist(), strict=True)) == entries[-20:]
    for tag, (embedding, vector) in enumerate(zip(row.embeddings, vectors, strict=True)):
        assert embedding.tag == tag
        assert np.abs(embedding.vector() - vector).max() <= embedding.scale * 0.501 + 1e-6

    again = UserTable(history_length=20, seen_length=50)
    again.load({"c": packed})
    copy = again.slot("c")
    assert copy is not None and again.pack([copy], [parts]) == [packed]


@given(FEW_ITEMS, st.lists(st.integers(1, 60), max_size=10), st.integers(0, 6))
def test_history_and_older_items_do_not_depend_on_the_cuts(entries: list[tuple[int, int, int]], cuts: list[int], seen_length: int) -> None:
    whole, parts = UserTable(8, seen_length), UserTable(8, seen_length)
    for table in (whole, parts):
        table.load({"u": None})
    if entries:
        appended(whole, "u", entries)
    edges = sorted({0, len(entries), *(cut for cut in cuts if cut < len(entries))})
    for start, stop in itertools.pairwise(edges):
        appended(parts, "u", entries[start:stop])
    assert parts.pack([parts.slot("u") or 0]) == whole.pack([whole.slot("u") or 0])


@given(FEW_ITEMS, st.integers(0, 6))
def test_older_items_are_the_newest_that_left_each_once(entries: list[tuple[int, int, int]], seen_length: int) -> None:
    table = UserTable(8, seen_length)
    table.load({"u": None})
    if entries:
        appended(table, "u", entries)
    left: list[int] = []
    for item, _, _ in entries[:-8]:
        left = [other for other in left if other != item] + [item]
    assert table.older[table.slot("u") or 0].tolist() == left[max(0, len(left) - seen_length) :]


def test_several_users_are_appended_to_at_once_as_one_after_another() -> None:
    together, apart = UserTable(6, 4), UserTable(6, 4)
    for table in (together, apart):
        table.load(dict.fromkeys("abc"))
    random = np.random.default_rng(1)
    for _ in range(8):
        counts = {user: int(random.integers(1, 9)) for user in random.permutation(list("abc")).tolist()[: int(random.integers(1, 4))]}
        entries = {user: [(int(i), int(i) + 1, 32) for i in random.integers(0, 12, n)] for user, n in counts.items()}
        for user, own in entries.items():
            appended(apart, user, own)
        items, times_s, weights = (np.array(column) for column in zip(*(e for own in entries.values() for e in own), strict=True))
        slots = np.array([together.slot(user) for user in counts])
        together.append(slots, np.array(list(counts.values())), items.astype(np.uint32), times_s.astype(np.uint32), weights.astype(np.int8))
    for user in "abc":
        assert together.pack([together.slot(user) or 0]) == apart.pack([apart.slot(user) or 0])


@pytest.mark.parametrize("cut", [0, 3, 7, 8, 20, -1])
def test_a_torn_row_is_refused(cut: int) -> None:
    table = UserTable(8, 4)
    table.load({"u": None})
    appended(table, "u", [(i, i, 32) for i in range(12)])
    packed = table.pack([table.slot("u") or 0], [pack_embeddings(7, np.ones((1, 4), np.float32))])[0]
    assert unpack_row(packed).embeddings[0].tag == 7
    with pytest.raises(LayoutError):
        unpack_row(packed[:cut])
    with pytest.raises(LayoutError, match="layout 9"):
        unpack_row(b"\x09" + packed[1:])


def test_forgetting_the_least_recently_used_leaves_the_others_alone() -> None:
    table = UserTable(4, 2, capacity=2)
    table.load(dict.fromkeys(f"u{i}" for i in range(5)))
    for i in range(5):
        appended(table, f"u{i}", [(i, i, 32)])
    table.slot("u0")  # now the most recently used
    assert table.shrink(2) == ["u1", "u2", "u3"]
    assert list(table) == ["u4", "u0"]
    table.load({"new": None})
    assert table.lengths[table.slot("new") or 0] == 0, "a slot is used again without what was in it"
    assert table.items[table.slot("u0") or 0, -1] == 0 and table.items[table.slot("u4") or 0, -1] == 4


def test_a_weight_that_is_not_zero_stays_so() -> None:
    weights = np.array([0.0, 1e-4, -1e-4, 1.0, -1.0, 0.6, 4.0, -4.0], np.float32)
    assert quantise_weights(weights).tolist() == [0, 1, -1, 32, -32, 19, 127, -127]


BATCHES = st.lists(st.dictionaries(st.sampled_from("abcde"), st.integers(1, 14), min_size=1), max_size=8)


@given(BATCHES, st.integers(0, 5), st.integers(0, 2**16))
def test_a_table_of_users_is_their_lists(batches: list[dict[str, int]], seen_length: int, seed: int) -> None:
    """However many events of however many users come in a batch: a history is the newest, older items what left it, each once."""
    random = np.random.default_rng(seed)
    table = UserTable(6, seen_length, capacity=2)
    table.load(dict.fromkeys("abcde"))
    lists: dict[str, list[tuple[int, int, int]]] = {user: [] for user in "abcde"}
    left: dict[str, list[int]] = {user: [] for user in "abcde"}
    for batch in batches:
        new = {user: [(int(i), int(t), 32) for i, t in random.integers(0, 9, (n, 2))] for user, n in batch.items()}
        flat = np.array([entry for own in new.values() for entry in own])
        table.append(
            np.array([table.slot(user) for user in new]), np.array(list(batch.values())),
            flat[:, 0].astype(np.uint32), flat[:, 1].astype(np.uint32), flat[:, 2].astype(np.int8),
        )  # fmt: skip
        for user, own in new.items():
            lists[user] += own
            while len(lists[user]) > 6:
                item = lists[user].pop(0)[0]
                left[user] = [*(other for other in left[user] if other != item), item][-seen_length:] if seen_length else []
        if random.random() < 0.3:  # users may be forgotten and read again at any time
            slots = [slot for user in "abcde" if (slot := table.slot(user)) is not None]
            packed = dict(zip("abcde", table.pack(slots), strict=True))
            table.forget("abd")
            table.load({user: packed[user] for user in "bdca"})
    for user in "abcde":
        slot = table.slot(user) or 0
        used = 6 - int(table.lengths[slot])
        columns = (table.items[slot], table.times_s[slot], table.weights[slot])
        assert list(zip(*(column[used:].tolist() for column in columns), strict=True)) == lists[user]
        assert not any(column[:used].any() for column in columns)
        assert table.older[slot].tolist() == left[user]
