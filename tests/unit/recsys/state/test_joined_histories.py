"""Histories of several ids are joined by the rules of touches, as in plain Python."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.state.joined_histories import hold_joined
from recsys.state.user_rows import unpack_rows
from recsys.state.user_table import UserTable, unpack_row
from schemas.events import EVENT_TYPES, EventType
from tests import fold
from tests.builders import small_settings
from tests.histories import Entry, hold
from tests.merging import joined
from workers.state.touch_policy import kept_types, touch_policy

SETTINGS = small_settings(state={"history_length": 20, "seen_length": 4}, touch={"view": "no"})
LENGTH = SETTINGS.state.history_length
VIEW, PURCHASE, DISLIKE = EventType.VIEW.code, EventType.PURCHASE.code, EventType.DISLIKE.code


@st.composite
def entries(draw: st.DrawFn) -> list[Entry]:
    """Draw the entries of a row, oldest touch first."""
    items = draw(st.lists(st.integers(0, 14), unique=True, max_size=LENGTH))
    drawn = []
    for item in items:
        last_s, kind = draw(st.integers(1_000, 1_012)), draw(st.sampled_from([VIEW, PURCHASE, DISLIKE]))
        units = {VIEW: 8, PURCHASE: 64, DISLIKE: -32}[kind]
        drawn.append((item, last_s, last_s - draw(st.integers(0, 9)), units, kind, draw(st.integers(1, 200)), 1))
    return sorted(drawn, key=lambda entry: entry[1])


Rows = list[tuple[list[Entry], list[int]]]
ROWS = st.lists(st.tuples(entries(), st.lists(st.integers(0, 30), unique=True, max_size=4)), min_size=2, max_size=4)


def table_of(rows: Rows) -> tuple[UserTable, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Return a table that holds rows under their numbers, and their slots."""
    table = UserTable(LENGTH, SETTINGS.state.seen_length, kept_types=kept_types(touch_policy(SETTINGS), SETTINGS.weights))
    table.load({str(number): None for number in range(len(rows))})
    slots = np.array([table.slot(str(number)) for number in range(len(rows))], np.int64)
    hold(table, slots, [own for own, _ in rows], list(range(5, 5 + len(rows))))
    for slot, (_, older) in zip(slots.tolist(), rows, strict=True):
        table.older[slot] = np.array(older, np.uint32)
    return table, slots


def as_entries(own: list[Entry]) -> list[fold.Entry]:
    return [fold.Entry(str(i), last, first, units, EVENT_TYPES[kind].value, n, visits) for i, last, first, units, kind, n, visits in own]


@given(users=st.lists(ROWS, min_size=1, max_size=3))
def test_any_histories_are_joined_as_in_plain_python(users: list[Rows]) -> None:
    table, slots = table_of([row for rows in users for row in rows])
    packed, ends = table.pack(slots.tolist()), np.cumsum([len(rows) for rows in users])
    parts = [row for rows, end in zip(users, ends.tolist(), strict=True) for row in packed[end - len(rows) : end - 1]]
    owners = np.repeat(np.arange(len(users)), [len(rows) - 1 for rows in users])
    keys = [f"joined{user}" for user in range(len(users))]
    hold_joined(table, keys, slots[ends - 1], unpack_rows(parts, LENGTH), owners)
    for key, rows, own in zip(keys, users, slots[ends - 1].tolist(), strict=True):
        slot = table.slot(key)
        assert slot is not None
        found = unpack_row(table.pack([slot])[0])
        history, older = joined([(as_entries(entries_), [str(item) for item in older_]) for entries_, older_ in rows], SETTINGS)
        assert as_entries(list(zip(*(column.tolist() for column in found.columns.arrays), strict=True))) == history
        assert [str(item) for item in found.older.tolist()] == older
        assert found.spent == table.spent[own], "what the account may add to items is not changed"
    assert table.pack(slots.tolist()) == packed, "the histories that were joined stay as they are"


def test_the_newest_sign_and_in_it_the_strongest_weight_count_and_touches_add_up() -> None:
    purchase, dislike = (7, 100, 90, 64, PURCHASE, 1, 1), (7, 200, 200, -32, DISLIKE, 1, 0)
    view, other = (7, 300, 250, 8, VIEW, 4, 1), (8, 150, 150, 8, VIEW, 250, 1)
    table, slots = table_of([([purchase, other], []), ([dislike], []), ([(8, 160, 160, 64, PURCHASE, 9, 1), view], [])])
    packed = table.pack(slots.tolist())
    hold_joined(table, ["joined"], slots[2:], unpack_rows(packed[:2], LENGTH), np.zeros(2, np.int64))
    slot = table.slot("joined")
    assert slot is not None
    found = unpack_row(table.pack([slot])[0]).columns
    assert list(zip(*(column.tolist() for column in found.arrays), strict=True)) == [
        (8, 160, 150, 64, PURCHASE, 255, 1),
        (7, 300, 90, 8, VIEW, 6, 1),  # after the dislike a view counts as a view, whatever came before
    ]


def test_a_user_without_events_of_their_own_has_the_histories_of_the_others() -> None:
    table, slots = table_of([([(3, 10, 10, 8, VIEW, 1, 1)], [9]), ([], [])])
    hold_joined(table, ["joined"], slots[1:], unpack_rows(table.pack(slots[:1].tolist()), LENGTH), np.zeros(1, np.int64))
    slot = table.slot("joined")
    assert slot is not None and table.lengths[slot] == 1 and table.older[slot].tolist() == [9]
