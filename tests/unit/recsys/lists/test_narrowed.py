"""Lists of some items only: nothing else is on them, they are full where there are enough items, and rules and availability hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys.catalogue.items import ItemContent
from recsys.engine import Engine
from recsys.lists.policies.options import NO_POLICY, DiversityOptions, PolicyOptions
from recsys.rules.rule import Rule, RuleSet
from tests.unit.recsys.lists.policy_worlds import NOW_S, engine_of, slots_of

SIZE = 10


def within(engine: Engine, inside: Any, rows: Any = None) -> list[list[int]]:
    slots = slots_of(engine) if rows is None else slots_of(engine)[rows]
    lists = engine.recommend(slots, {}, engine.shared(NOW_S), within=inside)
    return [items[items >= 0].tolist() for items in lists.items]


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("policy", [NO_POLICY, PolicyOptions(30, diversity=DiversityOptions("dpp", 0.3))], ids=["", "diverse"])
def test_a_narrowed_list_holds_nothing_else_and_is_full(large: bool, policy: PolicyOptions) -> None:
    engine = engine_of(large=large, policy=policy)
    inside = np.arange(engine.n_items) % 9 == 4
    for items in within(engine, inside):
        assert inside[items].all() and len(items) == len(set(items)) == SIZE


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_rules_and_availability_hold_in_a_narrowed_list(large: bool) -> None:
    rules = RuleSet((Rule("none of b3", 'item.brand == "b3"', "deny"), Rule("for u1", 'user.id == "u1" && item.brand == "b1"', "boost")))
    engine = engine_of(large=large, policy=NO_POLICY, rules=rules)
    engine.describe_item(40, ItemContent(available=False))
    engine.describe_item(44, ItemContent(attributes={"brand": "b3"}))
    inside = np.isin(np.arange(engine.n_items), [40, 44, 48, 52])
    lists = engine.recommend(slots_of(engine), {}, engine.shared(NOW_S), user_ids=[f"u{n}" for n in range(12)], within=inside)
    for user, items in enumerate(lists.items):
        assert {item for item in items.tolist() if item >= 0} <= {48, 52}, user
    assert {item for item in lists.items[-1].tolist() if item >= 0} == {48, 52}, "the visitor gets all there is"


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_a_visitor_gets_what_is_popular_now_first(large: bool) -> None:
    engine = engine_of(large=large, policy=NO_POLICY)
    inside = np.arange(engine.n_items) >= 80
    (items,) = within(engine, inside, [-1])
    counts = np.where(inside, engine.popularity.trending()[: engine.n_items], -1)
    assert int(np.argmax(counts)) in items[:3]
    assert within(engine, np.ones(engine.n_items, np.bool_), [-1])[0][:5] == within(engine, None, [-1])[0][:5]


def test_nothing_inside_gives_an_empty_list() -> None:
    engine = engine_of(policy=NO_POLICY)
    assert within(engine, np.zeros(engine.n_items, np.bool_)) == [[]] * 12
