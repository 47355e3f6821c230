"""A table of users: rows survive packing, what it holds depends on the events alone, and users come and go."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import LayoutError
from recsys.state.user_table import UserTable, pack_embeddings, quantise_weights, unpack_row
from tests.builders import batch_of
from tests.histories import apply, hold, touched

Event = tuple[int, int, int]
"""Item, second and weight."""
WEIGHTS = st.integers(-127, 127).filter(bool)
FEW_ITEMS = st.lists(st.tuples(st.integers(0, 14), st.integers(0, 200_000), WEIGHTS), max_size=60)


def learnt(table: UserTable, user_id: str, events: list[Event]) -> None:
    slot = table.slot(user_id)
    assert slot is not None
    items, times_s, weights = zip(*events, strict=True)
    apply(table, batch_of([slot], [len(events)], items, times_s, weights))


@given(FEW_ITEMS, st.integers(1, 14))
def test_the_newest_are_the_items_that_were_touched_last(events: list[Event], width: int) -> None:
    table = UserTable(history_length=10, seen_length=0, capacity=1)
    table.load(dict.fromkeys("ab"))
    if events:
        learnt(table, "b", events)
    slots = np.array([table.slot("a"), table.slot("b")], np.int64)
    items, times_s, _ = table.newest(slots, width)
    last_s = {item: max(at_s for other, at_s, _ in events if other == item) for item, _, _ in events}
    newest = sorted(last_s.values())[-10:][-width:]
    used = min(width, 10) - len(newest)
    assert times_s[1, used:].tolist() == newest, "whatever order events come in"
    assert [last_s[item] for item in items[1, used:].tolist()] == newest
    assert not items[0].any() and not items[1, :used].any() and not times_s[1, :used].any()


@given(FEW_ITEMS, st.lists(st.lists(st.floats(-8, 8, width=32), min_size=3, max_size=3), max_size=3))
def test_a_packed_row_unpacks_to_what_was_packed(events: list[Event], vectors: list[list[float]]) -> None:
    table = UserTable(history_length=10, seen_length=50, capacity=1)
    table.load({"a": None, "b": None})
    if events:
        learnt(table, "b", events)
    parts = [pack_embeddings(tag, np.array([vector], np.float32))[0] for tag, vector in enumerate(vectors)]
    slot = table.slot("b")
    assert slot is not None
    packed = table.pack([slot], [parts])[0]
    row = unpack_row(packed)
    first = 10 - int(table.lengths[slot])
    for held, found in zip(table.histories.columns, row.columns, strict=True):
        assert held[slot, first:].tolist() == found.tolist() and not held[slot, :first].any()
    assert (row.spent, row.older.tolist()) == (int(table.spent[slot]), table.older[slot].tolist())
    for tag, (embedding, vector) in enumerate(zip(row.embeddings, vectors, strict=True)):
        assert embedding.tag == tag
        assert np.abs(embedding.vector() - vector).max() <= embedding.scale * 0.501 + 1e-6

    again = UserTable(history_length=10, seen_length=50)
    again.load({"c": packed})
    copy = again.slot("c")
    assert copy is not None and again.pack([copy], [parts]) == [packed]


@given(FEW_ITEMS, st.lists(st.integers(1, 60), max_size=10), st.integers(0, 6), st.booleans())
def test_a_row_does_not_depend_on_the_cuts(events: list[Event], cuts: list[int], seen_length: int, reloads: bool) -> None:
    whole, parts = UserTable(8, seen_length), UserTable(8, seen_length)
    for table in (whole, parts):
        table.load({"u": None})
    if events:
        learnt(whole, "u", events)
    edges = sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})
    for start, stop in itertools.pairwise(edges):
        learnt(parts, "u", events[start:stop])
        if reloads:  # users may be forgotten and read again at any time
            (packed,) = parts.pack([parts.slot("u") or 0])
            parts.forget("u")
            parts.load({"u": packed})
    assert parts.pack([parts.slot("u") or 0]) == whole.pack([whole.slot("u") or 0])


@given(FEW_ITEMS, st.integers(0, 6))
def test_older_items_are_the_last_that_left_each_once(events: list[Event], seen_length: int) -> None:
    """What leaves is what was touched longest ago by event time, however late it arrives."""
    table = UserTable(8, seen_length)
    table.load({"u": None})
    last_s: dict[int, int] = {}
    order: list[int] = []
    left: list[int] = []
    for item, at_s, weight in events:
        learnt(table, "u", [(item, at_s, weight)])
        if item not in order or at_s >= last_s[item]:
            order = [other for other in order if other != item]
            last_s[item] = at_s
            order.insert(sum(last_s[other] <= at_s for other in order), item)
        if len(order) > 8:
            left = [*(other for other in left if other != order[0]), order.pop(0)]
    slot = table.slot("u") or 0
    assert table.items[slot, 8 - table.lengths[slot] :].tolist() == order
    assert table.older[slot].tolist() == left[max(0, len(left) - seen_length) :]


def test_only_items_of_kept_types_are_remembered_when_they_leave() -> None:
    view, purchase = 1, 7
    table = UserTable(4, 50, kept_types=1 << purchase)
    table.load({"u": None})
    slot = table.slot("u") or 0
    kinds = [view, purchase, purchase, view, view, view, view, purchase]
    apply(table, batch_of([slot], [8], range(8), range(100, 108), [32] * 8, kinds))
    assert table.items[slot].tolist() == [4, 5, 6, 7] and table.older[slot].tolist() == [1, 2]
    apply(table, batch_of([slot], [2], [20, 21], [50, 51], [32] * 2, [purchase, view]))
    assert table.older[slot].tolist() == [1, 2, 20], "an event older than all of a full history is remembered at once"
    assert table.items[slot].tolist() == [4, 5, 6, 7]


def test_a_backfill_after_going_live_does_not_push_out_the_present() -> None:
    table = UserTable(20, 1_000)
    table.load({"u": None})
    learnt(table, "u", [(item, 1_700_000_000 + item, 32) for item in range(20)])
    learnt(table, "u", [(100 + item, 1_600_000_000 + item, 32) for item in range(150)])
    slot = table.slot("u") or 0
    assert table.items[slot].tolist() == list(range(20)) and len(table.older[slot]) == 150


def test_several_users_learn_at_once_as_one_after_another() -> None:
    together, apart = UserTable(6, 4), UserTable(6, 4)
    for table in (together, apart):
        table.load(dict.fromkeys("abc"))
    random = np.random.default_rng(1)
    for _ in range(12):
        counts = {user: int(random.integers(1, 9)) for user in random.permutation(list("abc")).tolist()[: int(random.integers(1, 4))]}
        events = {user: [(int(i), int(i) * 700, 32) for i in random.integers(0, 12, n)] for user, n in counts.items()}
        for user, own in events.items():
            learnt(apart, user, own)
        items, times_s, weights = zip(*(event for own in events.values() for event in own), strict=True)
        apply(together, batch_of([together.slot(user) or 0 for user in counts], list(counts.values()), items, times_s, weights))
    for user in "abc":
        assert together.pack([together.slot(user) or 0]) == apart.pack([apart.slot(user) or 0])


@pytest.mark.parametrize("cut", [0, 3, 7, 8, 20, -1])
def test_a_torn_row_is_refused(cut: int) -> None:
    table = UserTable(8, 4)
    table.load({"u": None})
    learnt(table, "u", [(i, i, 32) for i in range(12)])
    packed = table.pack([table.slot("u") or 0], [pack_embeddings(7, np.ones((1, 4), np.float32))])[0]
    assert unpack_row(packed).embeddings[0].tag == 7
    with pytest.raises(LayoutError):
        unpack_row(packed[:cut])
    for layout in (1, 2, 9):
        with pytest.raises(LayoutError, match=f"layout {layout}.*rebuild the state"):
            unpack_row(bytes([layout]) + packed[1:])


def test_forgetting_the_least_recently_used_leaves_the_others_alone() -> None:
    table = UserTable(4, 2, capacity=2)
    table.load(dict.fromkeys(f"u{i}" for i in range(5)))
    for i in range(5):
        learnt(table, f"u{i}", [(i, i, 32)])
    table.slot("u0")  # now the most recently used
    assert table.shrink(2) == ["u1", "u2", "u3"]
    assert list(table) == ["u4", "u0"]
    table.load({"new": None})
    slot = table.slot("new") or 0
    assert table.lengths[slot] == table.spent[slot] == 0, "a slot is used again without what was in it"
    assert table.items[table.slot("u0") or 0, -1] == 0 and table.items[table.slot("u4") or 0, -1] == 4


def test_rows_of_a_longer_history_are_held_as_their_newest_entries() -> None:
    long, short = UserTable(8, 0), UserTable(3, 0)
    long.load({"u": None})
    hold(long, np.array([long.slot("u")]), [[touched(item, 10 * item, 32, item) for item in range(8)]], [17])
    short.load({"u": long.pack([long.slot("u") or 0])[0]})
    slot = short.slot("u") or 0
    assert short.items[slot].tolist() == short.types[slot].tolist() == [5, 6, 7] and short.spent[slot] == 17


def test_a_weight_that_is_not_zero_stays_so() -> None:
    weights = np.array([0.0, 1e-4, -1e-4, 1.0, -1.0, 0.6, 4.0, -4.0], np.float32)
    assert quantise_weights(weights).tolist() == [0, 1, -1, 32, -32, 19, 127, -127]


def test_a_table_with_room_for_all_users_never_moves() -> None:
    table = UserTable(8, 4, capacity=40)
    items = table.items
    table.load({f"u{number}": None for number in range(40)})
    assert table.items is items
    table.load({"one more": None})
    assert table.items is not items and len(table.items) == 80


def test_a_slot_that_was_used_before_holds_nothing_of_its_last_user() -> None:
    table = UserTable(8, 4, capacity=1)
    table.load({"a": None})
    learnt(table, "a", [(1, 10, 32), (2, 20, 32)])
    table.forget(["a"])
    table.load({"b": None})
    slot = table.slot("b")
    assert slot == 0 and not any(column[slot].any() for column in table.histories.columns)
    assert not table.lengths[slot] and not table.spent[slot] and not len(table.older[slot])
