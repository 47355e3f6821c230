"""Touches change histories and rows of items as the plain fold says, and what one user can add is bounded."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.cooccurrence import PairWeights
from recsys.engine import PAIR_WEIGHTS
from recsys.state import touch_kernel
from recsys.state.half_lives import ALL_TIME, WINDOWS_S, span_amount
from recsys.state.touches import Touches, TouchRules
from recsys.state.user_table import UserTable
from tests.builders import batch_of, small_settings
from tests.fold import Fact, Folding
from tests.histories import RULES, Entry, apply

WINDOWS = (ALL_TIME, *WINDOWS_S)
HOUR_S, DAY_S, NOW_S = 3_600, 86_400, 1_700_006_400
LIKE, VIEW, DISLIKE = 4, 1, 9
Event = tuple[int, int, int]
"""Item, seconds after the start of an hour, and weight in units of 1/32."""
Sums = dict[tuple[int, int], int]


class One:
    """One user's table."""

    def __init__(self, *, history_length: int = 100, **rules: Any) -> None:
        self.table, self.rules = UserTable(history_length, 1_000), replace(RULES, **rules)
        self.table.load({"u": None})
        self.slot = self.table.slot("u") or 0
        self.pairs: Counter[tuple[int, int]] = Counter()
        self.popularity: dict[str, Counter[int]] = {window: Counter() for window in WINDOWS}
        self.added: list[tuple[str, int, int, int]] = []

    def does(self, *events: Event, types: list[int] | None = None) -> Touches:
        """Apply events in one batch; return what they changed."""
        items, times_s, weights = zip(*events, strict=True)
        batch = batch_of([self.slot], [len(events)], items, [NOW_S + at_s for at_s in times_s], weights, types)
        touches = apply(self.table, batch, self.rules)
        found = touches.pairs
        for row, neighbour, weight in zip(found.rows.tolist(), found.neighbours.tolist(), found.weights.tolist(), strict=True):
            self.pairs[row, neighbour] += weight
        for window, amounts in zip(WINDOWS, touches.popularity, strict=True):
            for item, at_s, amount in zip(items, times_s, amounts.tolist(), strict=True):
                self.popularity[window][item] += amount
                if amount:
                    self.added.append((window, NOW_S + at_s, item, amount))
        return touches

    def forward(self, *events: Event) -> Sums:
        """Return what events add to the rows of what came first, in pairs of weight 1 at distance 0."""
        before = self.pairs.copy()
        self.does(*events)
        return {pair: amount // 64 for pair, amount in (self.pairs - before).items() if amount >= 64}

    def entries(self) -> list[Entry]:
        first = self.table.history_length - int(self.table.lengths[self.slot])
        columns = self.table.histories.columns.arrays
        rows = list(zip(*(column[self.slot, first:].tolist() for column in columns), strict=True))
        return [(item, last_s - NOW_S, first_s - NOW_S, *rest) for item, last_s, first_s, *rest in rows]  # type: ignore[misc]


def test_a_repeated_event_moves_its_item_and_keeps_the_strongest_weight_and_both_times() -> None:
    user = One()
    user.does((1, 0, 16), (2, 10, 32), (1, 20, 48), (3, 30, 16), (1, 7_000, 16), types=[VIEW, LIKE, 7, VIEW, VIEW])
    assert user.entries() == [(2, 10, 10, 32, LIKE, 1, 1), (3, 30, 30, 16, VIEW, 1, 1), (1, 7_000, 0, 48, 7, 3, 2)]


def test_the_newest_sign_counts_by_event_time() -> None:
    user = One()
    user.does((1, 0, 32), (1, 100, -32), types=[LIKE, DISLIKE])
    assert user.entries() == [(1, 100, 0, -32, DISLIKE, 2, 1)]
    user.does((1, 50, 48), types=[7])
    assert user.entries() == [(1, 100, 0, -32, DISLIKE, 3, 2)], "it happened before the dislike"
    user.does((1, 200, 16), types=[VIEW])
    assert user.entries() == [(1, 200, 0, 16, VIEW, 4, 3)], "what was before the change of mind is forgotten"
    user.does((1, 150, -32), types=[DISLIKE])
    assert user.entries() == [(1, 200, 0, 16, VIEW, 5, 3)], "it arrived late"
    user.does((1, 200, -16), types=[10])
    assert user.entries() == [(1, 200, 0, -16, 10, 6, 3)], "of one second the later one by arrival counts"


def test_a_disliked_item_pairs_with_nothing() -> None:
    user = One()
    user.does((1, 0, 32), (1, 10, -32))
    assert user.forward((2, 20, 32)) == {}
    assert user.forward((3, 30, 32)) == {(2, 3): 1}


def test_two_items_pair_once_in_a_session_whichever_is_repeated() -> None:
    user = One()
    assert user.forward((1, 0, 32), (2, 10, 32)) == {(1, 2): 1}
    assert user.forward(*[(1 + n % 2, 20 + 60 * n, 32) for n in range(3_000)]) == {}
    assert user.table.counts[user.slot, -1] == 255


def test_a_pair_counts_again_in_later_sessions_as_often_as_an_epoch_allows() -> None:
    user = One(pairings_per_epoch=2)
    found = [user.forward((1, at_s, 32), (2, at_s + 5, 32)) for at_s in range(0, 6 * DAY_S, DAY_S)]
    assert found == [{(1, 2): 1}, {(2, 1): 1, (1, 2): 1}, {}, {}, {}, {}]
    assert user.forward((1, 200 * DAY_S, 32)) == {(2, 1): 1}, "another epoch"


def test_a_session_that_runs_into_the_next_epoch_is_its_first_visit() -> None:
    user = One(epoch_s=HOUR_S, pairings_per_epoch=1)
    user.does((1, HOUR_S - 20, 32), (2, HOUR_S - 10, 32))
    assert user.forward((1, HOUR_S + 10, 32)) == {}
    assert user.forward((1, HOUR_S + 2_000, 32)) == {}, "one a epoch"
    assert user.forward((1, 2 * HOUR_S + 600, 32)) == {(2, 1): 1}


def test_the_window_counts_other_items_that_the_user_likes() -> None:
    user = One()
    likes = [(n, n, 32) for n in range(25)]
    user.does(*likes, *[(100 + n, 30 + n, -32) for n in range(30)], *[(24, 70 + n, 16) for n in range(19)])
    before = user.pairs.copy()
    user.does((50, 200, 32))
    assert {row for row, neighbour in (user.pairs - before) if neighbour == 50} == set(range(5, 25))
    added = user.pairs - before
    assert [added[24 - distance, 50] for distance in range(20)] == list(PAIR_WEIGHTS.forward)


def test_a_late_event_pairs_with_its_neighbours_in_time_on_both_sides() -> None:
    user = One()
    user.does((1, 0, 32), (2, 100, 32), (3, 300, 32), (4, 400, 32), (5, 300 + 1_801, 32))
    before = user.pairs.copy()
    user.does((9, 300, 32))
    added = user.pairs - before
    forward, backward = PAIR_WEIGHTS.forward, PAIR_WEIGHTS.backward
    assert [added[item, 9] for item in (3, 2, 1)] == list(forward[:3]), "of one second what arrived first came first"
    assert (added[9, 4], added[4, 9], added[9, 3]) == (forward[0], backward[0], backward[0])
    assert not added[9, 5] and not added[5, 9], "it follows in another session"
    assert [entry[0] for entry in user.entries()] == [1, 2, 3, 9, 4, 5]


def test_events_of_one_session_make_the_same_pairs_in_any_order() -> None:
    in_order, shuffled = One(), One()
    events = [(n, 60 * n, 32) for n in range(6)]
    in_order.does(*events)
    shuffled.does(*(events[at] for at in (3, 0, 5, 1, 4, 2)))
    assert in_order.pairs.keys() == shuffled.pairs.keys()
    assert [entry[:3] for entry in in_order.entries()] == [entry[:3] for entry in shuffled.entries()]


def test_popularity_counts_a_user_and_an_item_once_a_half_life_or_day_and_three_sessions_an_epoch() -> None:
    user = One()
    user.does(*[(1, 60 * n, 32) for n in range(60)])
    assert [user.popularity[window][1] for window in ("all", "10m", "2h", "1d")] == [32, 32, 32, 32], "not once in 10 minutes"
    user.does(*[(1, 60 * n, 32) for n in range(60, 6_000)])
    days = len({(NOW_S + 60 * n) // DAY_S for n in range(6_000)})
    assert [user.popularity[window][1] for window in ("all", "10m", "2h", "1d")] == [32, 32 * days, 32 * days, 32 * days]
    user.does(*[(1, (200 + 2 * n) * HOUR_S, 32) for n in range(9)])
    assert user.popularity["all"][1] == 3 * 32


def test_a_stronger_event_adds_what_it_weighs_more() -> None:
    user = One()
    user.does((1, 0, 16), (1, 10, 48), (1, 20, 32))
    assert {window: amounts[1] for window, amounts in user.popularity.items()} == dict.fromkeys(WINDOWS, 48)


def test_a_stronger_event_adds_the_difference_to_the_pairs_that_its_item_has() -> None:
    """View, cart and purchase in one session count as the purchase alone would have."""
    funnel, at_once = One(), One()
    around = [(1, 0, 32), (2, 10, 32)], [(3, 30, 32), (4, 40, 32)]
    funnel.does(*around[0], (9, 20, 16), (9, 22, 32), (9, 25, 64), *around[1])
    at_once.does(*around[0], (9, 20, 64), *around[1])
    assert funnel.pairs == at_once.pairs
    funnel.does((9, 70, 64), (9, 80, 16), (9, 4_000, 64), (9, 9_000, 64), (9, 19_000, 64))
    before = funnel.pairs.copy()
    funnel.does((9, 30_000, 96))
    assert (funnel.pairs - before)[1, 9] > 0, "however late"
    before = funnel.pairs.copy()
    funnel.does(*[(9, 31_000 + n, (-32, 16, 96)[n % 3]) for n in range(300)])
    assert funnel.pairs == before, "but not after each change of mind"


def test_an_item_that_is_touched_again_and_again_pairs_with_few_that_follow() -> None:
    user = One(partner_touches=5)
    for n in range(300):
        user.does((1_000, 30 * n, 32), (n, 30 * n + 15, 32))
    assert {row for row, neighbour in user.pairs if neighbour == 1_000} == set(range(5))
    assert {neighbour for row, neighbour in user.pairs if row == 1_000} == set(range(5))


def test_going_to_and_fro_between_like_and_dislike_adds_no_more_than_three_sessions() -> None:
    user = One()
    user.does((2, 0, 32), *[(1, n, 32 - 64 * (n % 2)) for n in range(1, 2_000)])
    assert all(user.popularity[window][1] == 3 * 32 for window in WINDOWS)
    assert user.pairs[2, 1] == 3 * 64
    user.does(*[(1, 3_000 + n, (-32, 1, 32)[n % 3]) for n in range(300)])
    assert user.popularity["all"][1] == 3 * 32, "nor by little likes that grow"


def test_going_to_and_fro_in_time_adds_no_more_than_three_sessions() -> None:
    user = One()
    user.does((1, 100 * HOUR_S, 32))
    user.does(*[(1, HOUR_S * (n % 50), 32) for n in range(1_000)])
    assert user.popularity["10m"][1] == user.popularity["all"][1] == 3 * 32


def test_an_event_older_than_all_of_a_full_history_adds_nothing() -> None:
    user = One(history_length=20)
    user.does(*[(n, 60 * n, 32) for n in range(20)])
    held, pairs = user.entries(), user.pairs.copy()
    touches = user.does(*[(99, -1 - n, 32) for n in range(50)])
    assert user.entries() == held and user.pairs == pairs and not touches.popularity.any()
    assert user.table.older[user.slot].tolist() == [99] and user.table.spent[user.slot] == 20


def test_what_a_user_adds_at_once_is_bounded_and_comes_back_day_by_day() -> None:
    """An account that cycles over more items than a history holds."""
    user = One(history_length=20, budget=100)
    bot = [(n % 40, 7 * n, 32) for n in range(5_000)]
    user.does(*bot)
    assert sum(user.popularity["all"].values()) == 32 * 100
    assert max(user.pairs.values()) <= 64 * 100 / 40 + 64
    history = user.entries()
    assert [entry[0] for entry in history] == [n % 40 for n in range(4_980, 5_000)], "its own history is as it is"
    user.does(*[(100 + n, DAY_S * 4 + n, 32) for n in range(80)])
    assert sum(user.popularity["all"].values()) == 32 * (100 + 10 * 4)


def test_one_account_with_many_events_adds_little_to_others_lists() -> None:
    """Alternating between a target and the hundred most popular items: a few sessions of one user."""
    user = One()
    for n in range(5_000):
        user.does((1_000, 30 * n, 32), (n % 100, 30 * n + 15, 32))
    assert max(user.pairs[item, 1_000] for item in range(100)) <= 64 * 2 * 3
    assert user.popularity["all"][1_000] <= 3 * 32


# The plain fold

SECONDS = st.one_of(st.integers(0, 7_200), st.sampled_from([n * 1_800 for n in range(8)]), st.integers(0, 400_000))
EVENTS = st.lists(st.tuples(st.integers(0, 25), SECONDS, st.integers(-32, 32).filter(bool)), min_size=1, max_size=60)


BOUNDS = st.fixed_dictionaries(
    {
        "pairings_per_epoch": st.integers(1, 3),
        "touches_per_epoch": st.integers(1, 3),
        "partner_touches": st.sampled_from([1, 2, 20]),
        "user_budget": st.sampled_from([4, 1_000]),
    }
)


@given(EVENTS, BOUNDS, st.lists(st.integers(1, 60), max_size=3))
def test_touches_are_those_of_the_plain_fold(events: list[Event], state: dict[str, int], cuts: list[int]) -> None:
    config = small_settings(state=state, topics={"partitions": 1})
    folding = Folding(config)
    for number, (item, at_s, units) in enumerate(events):
        folding.add(0, Fact("u", str(item), f"e{number}", "rating", 2.5 + 2.5 * units / 32, (NOW_S + at_s) * 1_000))
    expected = folding.state()
    user = One(history_length=20, epoch_s=DAY_S, budget=state["user_budget"], **{k: n for k, n in state.items() if k != "user_budget"})
    edges = sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})
    for start, end in itertools.pairwise(edges):
        user.does(*events[start:end], types=[5] * (end - start))
    theirs = [(int(e.item_id), e.last_s - NOW_S, e.first_s - NOW_S, e.units, 5, e.touches, e.visits) for e in expected.histories[0, "u"]]
    assert user.entries() == theirs
    assert user.table.spent[user.slot] == expected.spent[0, "u"]
    pairs: Counter[tuple[int, int]] = Counter()
    for (_, row), sums in expected.cooccurrence.items():
        for neighbour, amount in sums.items():
            pairs[int(row), int(neighbour)] += amount
    assert user.pairs == pairs
    sums: dict[tuple[str, int], dict[str, int]] = {}
    for window, at_s, item, amount in user.added:
        span, grown = span_amount(2 * amount, at_s, window)
        own = sums.setdefault((window, span), {})
        own[str(item)] = own.get(str(item), 0) + grown
    assert sums == expected.popularity


def test_the_loops_are_compiled_for_one_kind_of_arguments() -> None:
    user = One()
    user.does((1, 0, 32), (2, 1, 32), types=[VIEW, LIKE])
    user.rules = TouchRules(PairWeights.decaying(window=3, step=0.5, backward=0.5), DAY_S)
    user.does((1, 5_000, 32))
    for kernel in (touch_kernel.touch, touch_kernel.put_back):
        assert len(kernel.signatures) == 1, "compiled once, before the group is joined"  # type: ignore[attr-defined]


@pytest.mark.parametrize("budget", [1, 9, 10, 1_000])
def test_a_budget_comes_back_in_ten_days_or_one_event_a_day(budget: int) -> None:
    assert replace(RULES, budget=budget).refill == max(1, budget // 10)
