"""Touches take items off lists as the policy says, in small and large catalogues alike, and what is worth repeating comes first."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.catalogue.items import ItemContent
from recsys.engine import Engine, EngineConfig
from recsys.lists.sources.again import AgainSource
from recsys.lists.touch_policy import ALL_FOR_EVER, FOR_EVER, TouchPolicy
from tests.histories import Entry, hold

NOW_S = 1_700_000_000
DAY_S = 86_400
VIEW, PLAY, PURCHASE, DISLIKE, RATING = range(5)
BASE = (0, FOR_EVER, 30 * DAY_S, FOR_EVER, FOR_EVER)
GROCERIES = {"groceries": {PURCHASE: 3 * DAY_S}, "Tickets": {PURCHASE: FOR_EVER, VIEW: DAY_S}}
N_ITEMS = 60


def categories_of(item: int) -> list[str]:
    return [[], ["groceries"], ["Tickets"], ["Groceries", "tickets"]][item % 4]


def engine_with(policy: TouchPolicy, rows: list[list[Entry]], older: list[list[int]], *, is_large: bool = False, **config: Any) -> Engine:
    """An engine of items that all are new, and users with these entries and older items."""
    weights = {"new": 1.0, "again": 0.5}
    config = {"source_weights": weights, "list_size": N_ITEMS, "history_length": 20, "touch_policy": policy} | config
    engine = Engine(EngineConfig(**config, exact_items=1 if is_large else 10_000))
    engine.ensure_items(N_ITEMS)
    engine.neighbours.hold_all()
    for item in range(N_ITEMS):
        engine.describe_item(item, ItemContent(categories_of(item), published_s=NOW_S - 1_000 - item))
    engine.users.load({f"u{user}": None for user in range(len(rows))})
    slots = slots_of(engine, len(rows))
    hold(engine.users, slots, rows)
    for slot, items in zip(slots.tolist(), older, strict=True):
        engine.users.older[slot] = np.array(items, np.uint32)
    return engine


def slots_of(engine: Engine, n: int) -> Any:
    return np.array([engine.users.slot(f"u{user}") for user in range(n)], np.int64)


def off_by_rule(entry: Entry, changed: dict[str, dict[int, int]]) -> bool:
    """The policy in plain Python."""
    item, last_s, _, units, kind, _, _ = entry
    names = {category.casefold() for category in categories_of(item)}
    rules = [times for category, times in changed.items() if category.casefold() in names]

    def seconds(code: int) -> int:
        times = [one[code] for one in rules if code in one]
        return min(times) if times else (BASE[code] if code < len(BASE) else FOR_EVER)

    off_s = max(seconds(kind), seconds(DISLIKE)) if units < 0 else seconds(kind)
    return off_s > 0 and last_s + off_s > NOW_S


entries = st.builds(
    lambda item, age_s, life_s, units, kind, count: (item, NOW_S - age_s, NOW_S - age_s - life_s, units, kind, count, 1),
    st.integers(0, N_ITEMS - 1),
    st.sampled_from([0, 1, DAY_S - 1, DAY_S, 3 * DAY_S - 1, 3 * DAY_S, 29 * DAY_S, 30 * DAY_S, 400 * DAY_S]) | st.integers(0, 10**7),
    st.integers(0, 10**7),
    st.sampled_from([-32, -1, 1, 16, 48]),
    st.integers(0, 6),
    st.integers(1, 255),
)
histories = st.lists(entries, max_size=20, unique_by=lambda entry: entry[0]).map(lambda own: sorted(own, key=lambda entry: entry[1]))


@given(st.lists(histories, min_size=1, max_size=4), st.lists(st.integers(0, N_ITEMS - 1), max_size=5), st.booleans(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_list_holds_all_items_but_those_that_the_rule_keeps_off(
    rows: list[list[Entry]], older: list[int], has_categories: bool, is_large: bool
) -> None:
    changed = GROCERIES if has_categories else {}
    policy = TouchPolicy(BASE, changed, DISLIKE)
    engine = engine_with(policy, rows, [older] * len(rows), is_large=is_large)
    lists = engine.recommend(slots_of(engine, len(rows)), {}, NOW_S)
    for row, own in enumerate(rows):
        off = {entry[0] for entry in own if off_by_rule(entry, changed)} | set(older)
        listed = set(lists.items[row][lists.items[row] >= 0].tolist())
        assert not listed & off
        if is_large:  # candidates are the newest items and the user's own
            assert {entry[0] for entry in own if entry[3] > 0} - off <= listed
        else:
            assert listed == set(range(N_ITEMS)) - off


def test_by_default_every_touch_takes_its_item_off_for_ever() -> None:
    own = [(item, 10 + item, 10, units, kind, 1, 1) for item, (units, kind) in enumerate([(32, VIEW), (-32, PURCHASE), (1, 200)])]
    engine = engine_with(ALL_FOR_EVER, [own], [[50]])
    assert set(engine.recommend(slots_of(engine, 1), {}, NOW_S).items[0].tolist()) == {-1, *range(3, N_ITEMS)} - {50}
    assert ALL_FOR_EVER.kept_types() == 2**63 - 1


def test_a_time_passes_by_event_time_and_a_dislike_outlasts_the_purchase() -> None:
    then_s = NOW_S - 31 * DAY_S
    own = [(0, then_s, 5, 32, PURCHASE, 2, 1), (1, then_s, 5, -32, PURCHASE, 2, 1), (4, NOW_S, 5, 32, PURCHASE, 1, 1)]
    engine = engine_with(TouchPolicy(BASE, GROCERIES, DISLIKE), [own], [[]])
    slots = slots_of(engine, 1)
    for now_s, off in ((NOW_S - 2 * DAY_S, {0, 1, 4}), (NOW_S, {1, 4}), (NOW_S + 29 * DAY_S, {1, 4}), (NOW_S + 30 * DAY_S, {1})):
        assert set(range(N_ITEMS)) - set(engine.recommend(slots, {}, engine.shared(now_s, NOW_S)).items[0].tolist()) == off
        assert engine.recommend(slots, {}, engine.shared(now_s, NOW_S)).scores.shape == (1, N_ITEMS)


def test_an_item_that_is_described_again_follows_its_new_categories() -> None:
    own = [(0, NOW_S - 4 * DAY_S, 5, 32, PURCHASE, 1, 1)]
    engine = engine_with(TouchPolicy(BASE, GROCERIES, DISLIKE), [own], [[]])
    for categories, is_listed in ((["Groceries", "sale"], True), (["sale"], False), ([], False)):
        engine.describe_item(0, ItemContent(categories, published_s=NOW_S - 5))
        assert (0 in engine.recommend(slots_of(engine, 1), {}, NOW_S).items[0]) == is_listed


def test_the_mask_of_remembered_types_has_all_that_take_items_off() -> None:
    assert TouchPolicy(BASE, {}, DISLIKE).kept_types() & 31 == 0b11110
    assert TouchPolicy(BASE, GROCERIES, DISLIKE).kept_types() & 31 == 0b11111  # a view of a ticket
    assert TouchPolicy((0, 0, 0, FOR_EVER, 0), {}, DISLIKE).kept_types([RATING]) & 31 == 0b11000


def again_by_rule(own: list[Entry], now_s: int) -> dict[int, float]:
    """The score of the source in plain Python."""
    scores, place = {}, 0
    for item, last_s, first_s, units, _, count, _ in reversed(own):
        if units > 0:
            near = 0.0
            for at_s, hours in ((last_s, 4), (first_s, 3)):
                apart = (now_s - at_s) % DAY_S
                near += math.exp(-0.5 * (min(apart, DAY_S - apart) / (hours * 3_600)) ** 2)
            scores[item] = count * (1 + place) ** -0.7 * math.exp(near)
            place += 1
    return scores


@given(st.lists(histories, min_size=1, max_size=3), st.integers(-(10**6), 10**6))
@settings(max_examples=40, deadline=None)
def test_what_is_worth_repeating_is_scored_by_the_user_s_own_rhythm(rows: list[list[Entry]], moved_s: int) -> None:
    now_s, source = NOW_S + moved_s, AgainSource()
    engine = engine_with(TouchPolicy([0] * 256), rows, [[]] * len(rows))
    context = engine.shared(now_s, NOW_S)
    users = context.users(slots_of(engine, len(rows)), {})
    raw = source.score(users, np.broadcast_to(np.arange(N_ITEMS), (len(rows), N_ITEMS)), context)
    nominated = source.nominate(users, context, 5)
    for row, own in enumerate(rows):
        expected = again_by_rule(own, now_s)
        np.testing.assert_allclose(raw[row], [expected.get(item, 0) for item in range(N_ITEMS)], rtol=2e-5)
        best = [item for item in nominated[row].tolist() if item >= 0]
        assert len(best) == min(5, len(expected))
        np.testing.assert_allclose(raw[row][best], sorted(expected.values(), reverse=True)[: len(best)], rtol=2e-5)
    some = np.array([[3, -1, 7]] * len(rows))
    np.testing.assert_array_equal(source.score(users, some, context), np.where(some >= 0, raw[:, [3, 0, 7]], 0))


def test_a_list_says_that_an_item_is_there_to_be_repeated() -> None:
    own = [(0, NOW_S - 40 * DAY_S, 5, 32, PURCHASE, 9, 1), (1, NOW_S - 2 * DAY_S, 5, 32, PURCHASE, 9, 1), (2, NOW_S - 9, 5, 16, VIEW, 1, 1)]
    engine = engine_with(TouchPolicy(BASE, {}, DISLIKE), [own], [[]], source_weights={"new": 0.01, "again": 1.0})
    lists = engine.recommend(slots_of(engine, 1), {}, NOW_S)
    assert set(lists.items[0, :2].tolist()) == {0, 2} and 1 not in lists.items[0]
    assert lists.contributions["again"][0, 0] > 0 and (lists.contributions["again"][0, 2:N_ITEMS - 1] == 0).all()
    assert lists.because[0, 0, 0] == lists.items[0, 0]
