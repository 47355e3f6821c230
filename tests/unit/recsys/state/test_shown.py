"""Counts of impressions: the compiled fold is the plain one, rows survive packing, and torn rows are refused."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import LayoutError, ShapeError
from recsys.lists.shown import FrequencyCap, counts_of, resting, shown_items
from recsys.state.shown import ENTRY, ShownEvents, ShownTable, unpack_shown
from recsys.state.user_table import UserTable
from workers.operations.shown_fold import UserShown

Event = tuple[int, int, bool]
"""Item, second, and whether it was shown."""
EVENTS = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9), st.booleans()), max_size=40)
WIDTH = 3


def events_of(slots: list[int], events: list[list[Event]]) -> ShownEvents:
    flat = [event for own in events for event in own]
    items, times_s, is_shown = zip(*flat, strict=True) if flat else ((), (), ())
    return ShownEvents(
        np.array(slots, np.int64),
        np.array([len(own) for own in events], np.int64),
        np.array(items, np.uint32),
        np.array(times_s, np.uint32),
        np.array(is_shown, np.bool_),
    )


def plain(events: list[Event], most: int = WIDTH) -> list[tuple[int, int, int, int]]:
    folded = UserShown()
    for item, at_s, is_shown in events:
        folded.add(str(item), at_s, is_impression=is_shown, most=most)
    return [(int(item), *facts) for item, *facts in folded.entries]  # type: ignore[misc]


@given(EVENTS, EVENTS, st.lists(st.integers(0, 40), max_size=4))
def test_any_cuts_give_the_plain_fold_and_rows_survive_packing(first: list[Event], second: list[Event], cuts: list[int]) -> None:
    table = ShownTable(WIDTH, 4)
    bounds = [0, *sorted(cuts), 40]
    for start, end in pairwise(bounds):
        table.learn(events_of([3, 1], [first[start:end], second[start:end]]))
    rows = table.pack(np.array([3, 1, 0], np.int64))
    entries, lengths = unpack_shown([*rows, None])
    assert lengths[2:].tolist() == [0, 0]
    assert entries.tolist() == [*plain(first), *plain(second)]
    again = ShownTable(WIDTH, 2)
    again.grow(5)
    again.load(np.array([4, 0, 2, 1], np.int64), entries, lengths)
    assert again.pack(np.array([4, 0, 2], np.int64)) == rows


@given(EVENTS, st.integers(1, 3), st.integers(1, 4), st.integers(5, 12))
def test_what_lists_read_are_the_entries(events: list[Event], times: int, rest_s: int, now_s: int) -> None:
    table = ShownTable(WIDTH, 2)
    table.learn(events_of([1, 0], [events, []]))
    entries = [entry for entry in plain(events) if entry[1]]
    slots, numbers = np.array([1, 0], np.int64), np.array([[0, 1, 2, -1, 3, 4, 5], [5, 4, 3, 2, 1, 0, -1]])
    shown = shown_items(table, slots)
    assert [tuple(row) for row in zip(shown.items[0], shown.counts[0], shown.shown_s[0], strict=True) if row[0] >= 0] == [
        (item, count, shown_s) for item, count, shown_s, _ in entries
    ]
    assert (shown.items[1] == -1).all() and not shown.counts[1].any() and not shown.shown_s[1].any()
    found = counts_of(table, slots, numbers, 6)
    by_item = {item: (count, shown_s) for item, count, shown_s, _ in entries}
    assert [tuple(pair) for pair in zip(found.counts[0], found.shown_s[0], strict=True)] == [
        by_item.get(number, (0, 0)) for number in numbers[0].tolist()
    ]
    assert not found.counts[1].any() and not found.shown_s[1].any()
    items, ends = resting(table, slots, FrequencyCap(times, rest_s), now_s)
    assert items.tolist() == [item for item, count, shown_s, _ in entries if count >= times and now_s - shown_s < rest_s]
    assert ends.tolist() == [len(items), len(items)]


def test_a_user_is_named_once_when_an_item_begins_to_rest() -> None:
    table, shown = ShownTable(WIDTH, 1), lambda *times_s: events_of([0], [[(7, at_s, True) for at_s in times_s]])
    assert not table.learn(shown(1, 2), 3, 100).any()
    assert table.learn(shown(3), 3, 100).all()
    assert not table.learn(shown(4, 102), 3, 100).any(), "it rests since its last impression"
    assert table.learn(shown(202), 3, 100).all(), "it had rested"
    assert not table.learn(events_of([0], [[(7, 203, False), (7, 203, True), (7, 204, True)]]), 3, 100).any(), "a choice starts it again"
    assert table.pack(np.zeros(1, np.int64))[0][1:] == np.array([(7, 1, 204, 203)], ENTRY).tobytes()


def test_a_count_stops_at_255() -> None:
    table = ShownTable(WIDTH, 1)
    table.learn(events_of([0], [[(1, at_s, True) for at_s in range(1, 301)]]))
    assert unpack_shown(table.pack(np.zeros(1, np.int64)))[0].tolist() == [(1, 255, 300, 0)]


def test_torn_rows_and_columns_that_do_not_fit_are_refused_and_hold_nobody() -> None:
    users = UserTable(20, 0, 1, shown_items=WIDTH)
    for torn, text in ((b"\x02", "layout 2"), (b"", "layout none"), (b"\x01abc", "torn")):
        with pytest.raises(LayoutError, match=text):
            users.load({"u": None}, [torn])
        assert "u" not in users
    with pytest.raises(ShapeError):
        ShownEvents(np.zeros(1, np.int64), np.ones(1, np.int64), *np.zeros((2, 2), np.uint32), np.zeros(2, np.bool_))


def test_a_slot_that_is_used_again_shows_nothing_of_the_user_before() -> None:
    users = UserTable(20, 0, 1, shown_items=WIDTH)
    users.load({"a": None})
    assert users.shown is not None
    users.shown.learn(events_of([0], [[(9, 5, True)]]))
    packed = users.shown.pack(np.zeros(1, np.int64))
    users.forget(["a"])
    users.load({"b": None, "c": None})  # the table grows
    assert users.highest_item([0, 1]) == 0 and users.shown.pack(np.arange(2)) == [b"\x01", b"\x01"]
    users.load({"b": None}, packed)
    slot = users.slot("b")
    assert slot is not None and users.highest_item([slot]) == 9
