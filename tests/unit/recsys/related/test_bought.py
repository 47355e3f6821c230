"""What enters a window and leaves it keeps every count exact, and pairs are ordered by association."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.related.together import bought_together
from recsys.state.batch_delta import Delta
from recsys.state.bought import BUYERS, USERS, BoughtWindows, CountedRows, counted_rows, with_rows

EVENTS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 7), st.booleans()), max_size=60)
"""User, item, and whether the event counts."""


def enter(windows: BoughtWindows, events: list[tuple[int, int, bool]]) -> CountedRows:
    """Let events enter, user after user, as a batch has them; in two item groups."""
    users = sorted({user for user, *_ in events})
    ordered = [event for user in users for event in events if event[0] == user]
    counts = np.array([sum(event[0] == user for event in events) for user in users], np.int64)
    windows.load({f"u{user}": None for user in users if f"u{user}" not in windows})
    slots = windows.slots([f"u{user}" for user in users])
    items, counted = np.array([event[1] for event in ordered], np.uint32), np.array([event[2] for event in ordered], np.bool_)
    return counted_rows(windows.enter(slots, counts, items, counted), 2)


def add(sums: dict[tuple[str, int], Counter[int]], found: CountedRows) -> None:
    start = 0
    for group, (kind, _, number), end in zip(found.groups.tolist(), found.rows, found.ends.tolist(), strict=True):
        place = (kind, group if kind == BUYERS else number)
        assert kind == BUYERS or number % 2 == group
        for neighbour, amount in found.records[start:end].tolist():
            sums.setdefault(place, Counter())[neighbour] += amount if amount < 2**31 else amount - 2**32
        start = end
    assert start == len(found.records) and found.groups.tolist() == sorted(found.groups.tolist())


@settings(max_examples=30)
@given(st.lists(EVENTS, min_size=1, max_size=4), st.integers(2, 4))
def test_counts_are_those_of_windows_whatever_the_cuts(batches: list[list[tuple[int, int, bool]]], size: int) -> None:
    windows, sums = BoughtWindows(size, n_slots=1), dict[tuple[str, int], Counter[int]]()
    expected: dict[int, list[int]] = {}
    for batch in batches:
        if batch:
            add(sums, enter(windows, batch))
        for user, item, counts in batch:
            if counts:
                window = expected.setdefault(user, [])
                expected[user] = [*(held for held in window if held != item), item][-size:]
        for user, window in expected.items():
            assert np.frombuffer(windows.pack(f"u{user}"), "<u4").tolist() == window
    wanted = Counter(pair for window in expected.values() for pair in permutations(window, 2))
    found = Counter({(number, other): n for (kind, number), counts in sums.items() if kind != BUYERS for other, n in counts.items()})
    assert +found == wanted and min(found.values(), default=0) >= 0
    users = Counter(item for window in expected.values() for item in window)
    held = sum((counts for (kind, _), counts in sums.items() if kind == BUYERS), Counter[int]())
    assert +held == +(users + Counter({USERS: len(expected)}))


def test_a_window_of_a_larger_size_gives_up_its_oldest_items_with_the_next_event() -> None:
    windows = BoughtWindows(2)
    windows.load({"u": np.array([4, 5, 6, 7], "<u4").tobytes()})
    found = counted_rows(windows.enter(windows.slots(["u"]), np.array([1]), np.array([5], np.uint32), np.array([True])), 1)
    assert np.frombuffer(windows.pack("u"), "<u4").tolist() == [7, 5]
    sums: dict[tuple[str, int], Counter[int]] = {}
    start = 0
    for (kind, _, number), end in zip(found.rows, found.ends.tolist(), strict=True):
        sums[kind, number] = Counter({n: amount - 2**32 for n, amount in found.records[start:end].tolist()})
        start = end
    assert sums == {
        ("buyers", 0): {4: -1, 6: -1},
        ("bought", 4): {5: -1, 6: -1, 7: -1},
        ("bought", 5): {4: -1, 6: -1},
        ("bought", 6): {4: -1, 5: -1, 7: -1},
        ("bought", 7): {4: -1, 6: -1},
    }


def test_windows_that_are_forgotten_are_read_again() -> None:
    windows = BoughtWindows(3, n_slots=1)
    windows.load({f"{partition}:u": np.array([partition], "<u4").tobytes() for partition in range(5)})
    windows.forget_beginning(("1:", "3:"))
    assert len(windows) == 3 and "1:u" not in windows
    windows.shrink(1)
    assert len(windows) == 1 and windows.pack("4:u") == b"\4\0\0\0"
    windows.load({"3:u": None})
    assert windows.pack("3:u") == b""


def test_more_rows_join_those_of_their_group() -> None:
    rows = [("c", 0, 0), ("c", 0, 2), ("c", 0, 1)]
    records = np.arange(10, dtype=np.uint32).reshape(5, 2)
    numbers, span = np.array([0, 2, 1]), np.zeros(3, np.int64)
    delta = Delta(rows, np.array([0, 2, 3]), [("c", 0, -1)], span, numbers, np.array([2, 3, 5]), records)  # type: ignore[arg-type]
    more = CountedRows(np.array([0, 1]), [("bought", 0, 2), ("bought", 0, 1)], np.array([1, 3]), np.full((3, 2), 99, np.uint32))
    found = with_rows(delta, more)
    assert found.rows == [("c", 0, 0), ("c", 0, 2), ("bought", 0, 2), ("c", 0, 1), ("bought", 0, 1)]
    assert found.groups.tolist() == [0, 3, 5] and found.ends.tolist() == [2, 3, 4, 6, 8]
    assert found.records[:, 0].tolist() == [0, 2, 4, 99, 6, 8, 99, 99]
    assert [(epoch, of.tolist()) for epoch, of in found.by_epoch()] == [(0, [0, 1, 3])] and not len(found.count_rows())
    assert [with_rows(Delta.nothing(2), more).packed(group) for group in range(2)] == [
        (b"\x08\0\0\0", b"\x63\0\0\0" * 2), (b"\x10\0\0\0", b"\x63\0\0\0" * 4),
    ]  # fmt: skip


def test_pairs_of_few_users_and_pairs_by_chance_are_left_out() -> None:
    others, support, users = np.arange(1, 6), np.array([2, 3, 9, 9, 50]), np.array([2, 3, 10, 30, 900])
    found = bought_together(others, support, 100, users, 1_000, least_users=3, size=10)
    assert found.numbers.tolist() == [3, 2, 4], "1 has too few users, 5 is chosen with it less often than by chance"
    assert found.support.tolist() == [9, 3, 9]
    np.testing.assert_allclose(found.confidence, [0.09, 0.03, 0.09])
    np.testing.assert_allclose(found.lift, [9 * 1_000 / (100 * 10), 3 * 1_000 / (100 * 3), 9 * 1_000 / (100 * 30)])
    assert (np.diff(found.score) < 0).all()
    assert bought_together(others, support, 100, users, 1_000, least_users=3, size=1).numbers.tolist() == [3]
    assert not len(bought_together(others, support, 0, np.zeros(5, np.int64), 0, least_users=51, size=10).numbers)
