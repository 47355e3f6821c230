"""Lists on request: what a request says of its situation reaches the learned ranker and the parts that plugins bring."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.items import ItemContent
from recsys.engine import Engine, EngineConfig
from recsys.lists.context import ListContext, Situation, Users
from recsys.lists.filters import Filter
from recsys.lists.registry import built_in
from recsys.recipe.replay import Log, Replay
from tests.rankers import evening_ranker
from tests.unit.recsys.lists.test_learned_lists import SIZES
from tests.unit.recsys.recipe.test_replay import START_S, log_of

N_USERS = 12
EVENING: Situation = {"hour": 20, "device": "tv"}
MORNING: Situation = {"hour": 8}


class OnlyOddOnTv(Filter):
    """Lets items with odd numbers on the lists of televisions, and all on others."""

    def personal(self, numbers: NDArray[np.int64], users: Users, context: ListContext) -> NDArray[np.bool_]:
        on_tv = np.array([one.get("device") == "tv" for one in users.situations or [{}] * len(users)])
        return ~on_tv[:, None] | (numbers % 2 == 1)


def world(exact_items: int, **config: Any) -> tuple[Engine, NDArray[np.int64]]:
    log = log_of(500)
    contents = {number: ItemContent([f"c{number % 7}"], published_s=START_S - 3_600 * number) for number in range(120)}
    replay = Replay(EngineConfig(exact_items=exact_items, **config), Log(log.users, log.items, log.times_s, log.weights, contents))
    replay.learn_until(500)
    return replay.engine, np.array([replay.slot(user) for user in range(N_USERS)])


def lists_of(engine: Engine, slots: NDArray[np.int64], situations: list[Situation] | None = None) -> NDArray[np.int64]:
    return engine.recommend(slots, {}, engine.popularity.newest_s, situations=situations).items


@SIZES
def test_the_hour_of_a_request_changes_the_order_of_its_own_list_alone(exact_items: int) -> None:
    engine, slots = world(exact_items)
    engine.use_ranker(evening_ranker(6.8))  # published 110.4 hours ago or earlier
    now_s = engine.popularity.newest_s
    mixed = lists_of(engine, slots, [EVENING if row % 2 else MORNING for row in range(N_USERS)])
    evening, morning = (lists_of(engine, slots, [one] * N_USERS) for one in (EVENING, MORNING))
    assert (evening != morning).any(axis=1).all()
    np.testing.assert_array_equal(mixed, np.where(np.arange(N_USERS)[:, None] % 2, evening, morning))
    hours = (now_s - engine.catalogue.published_s[evening]) / 3_600
    assert (np.diff((hours >= 110.4).astype(int), axis=1) <= 0).all(), "old items come first in the evening"
    own = lists_of(engine, slots)
    np.testing.assert_array_equal(own, evening if now_s // 3_600 % 24 > 12 else morning)
    np.testing.assert_array_equal(lists_of(engine, slots, [{"device": "tv"}] * N_USERS), own)


@SIZES
def test_a_plugin_s_filter_reads_each_user_s_situation_under_rules_too(exact_items: int) -> None:
    registry = built_in()
    registry.filters.add("only odd on tv", OnlyOddOnTv)
    engine, slots = world(exact_items, registry=registry)
    situations = [EVENING if row % 2 else MORNING for row in range(N_USERS)]
    made = lists_of(engine, slots, situations)
    on_tv = np.arange(N_USERS) % 2 == 1
    assert (made[on_tv] % 2 == 1)[made[on_tv] >= 0].all() and (made[~on_tv] % 2 == 0).any(axis=1).all()
    users = engine.shared(engine.popularity.newest_s).users(slots, {}, situations=situations)
    assert users.chosen(np.array([1, 4])).situations == [EVENING, MORNING]
    assert list(users.part(slice(1, 3)).situations or ()) == [EVENING, MORNING]
    assert replace(users, situations=None).part(slice(1, 3)).situations is None
