"""Rows of a page are those of the specification, in small and in large catalogues; none shows an item twice, or one that lists may not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.catalogue.items import ItemContent
from recsys.catalogue.labels import Labels
from recsys.engine import Engine, Lists
from recsys.lists import rows_kernel
from recsys.lists.filters import Filter
from recsys.lists.policies.options import NO_POLICY
from recsys.lists.registry import built_in
from recsys.lists.row_options import RowKind, RowSpec
from recsys.lists.shown import FrequencyCap
from recsys.lists.touch_policy import TouchPolicy
from recsys.rules.rule import Rule, RuleSet
from recsys.state.shown import ShownEvents
from tests.specification import rows as specification
from tests.unit.recsys.lists.policy_worlds import DAY_S, NOW_S, engine_of, slots_of
from workers.stream.warm_up import EVERY_ROW, compile_lists

KINDS: tuple[RowKind, ...] = ("for_you", "because", "popular_now", "new_in", "again", "category")
SPECS = (
    RowSpec("because", 4, 2),
    RowSpec("for_you", 6),
    RowSpec("because", 4, 3),
    RowSpec("popular_now", 5, 2),
    RowSpec("new_in", 4, 2),
    RowSpec("again", 3),
    RowSpec("category", 5, 2, "c3"),
    RowSpec("new_in", 3, 1, "d1"),
    RowSpec("category", 3, 1, "no such category"),
)
REPEATS = TouchPolicy([0])
"""Lets every touched item in again."""
NEW_S = 90.0 * DAY_S


def world(*, large: bool = False, **config: Any) -> Engine:
    return engine_of(large=large, **{"rows": SPECS, "policy": NO_POLICY, "new_s": NEW_S, "history_length": 24, **config})


def ranked_of(engine: Engine, user: int) -> list[int]:
    """Return all candidates of a user, the best first."""
    context, maker = engine.shared(NOW_S), engine._lists
    users = context.users(slots_of(engine)[[user]], {})
    found = maker.candidates(users, context)
    ranked = maker._ranked(found, users, context, found.numbers.shape[1]).numbers[0]
    return ranked[ranked >= 0].tolist()  # type: ignore[no-any-return]


def shown(lists: Lists, user: int) -> list[list[int]]:
    """Return the items of each row of a page."""
    assert lists.rows is not None
    ends = np.cumsum([spec.size for spec in lists.rows.specs])[:-1]
    return [row[row >= 0].tolist() for row in np.split(lists.rows.items[user], ends)]


def assert_specified(engine: Engine, *, allowed: Any = None, has_rules: bool = False) -> Lists:
    """Check the pages of all users against the specification."""
    slots = slots_of(engine)
    lists = engine.recommend(slots, {}, engine.shared(NOW_S))
    assert lists.rows is not None
    for user, slot in enumerate(slots.tolist()):
        ranked = [] if has_rules else ranked_of(engine, user)
        expected = specification.page(engine, slot, lists, user, ranked, NOW_S, allowed=allowed)
        for at, (row, found) in enumerate(zip(expected, shown(lists, user), strict=True)):
            spec = engine.config.rows[at]
            assert found == row.items, (user, spec)
            assert spec.kind != "because" or int(lists.rows.about[user, at]) == row.about, (user, spec)
            number = int(lists.rows.categories[user, at])
            assert (None if number < 0 else engine.category_names[number]) == (
                row.category if row.category != "no such category" else None
            )
    return lists


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("repeats", [False, True], ids=["", "with repeats"])
def test_rows_are_those_of_the_specification(large: bool, repeats: bool) -> None:
    engine = world(large=large, **({"touch_policy": REPEATS} if repeats else {}))
    lists = assert_specified(engine)
    kinds = [spec.kind for user in range(len(lists.items)) for spec, row in zip(SPECS, shown(lists, user), strict=True) if row]
    assert set(kinds) == set(KINDS) - ({"again"} if not repeats else set()), "all kinds are seen"


def test_rows_change_no_list() -> None:
    engine, bare = world(), world(rows=())
    lists, expected = (one.recommend(slots_of(one), {}, NOW_S) for one in (engine, bare))
    assert lists.rows is not None and expected.rows is None
    for name in ("items", "scores", "propensities", "because"):
        np.testing.assert_array_equal(getattr(lists, name), getattr(expected, name))


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_rules_and_availability_hold_in_every_row(large: bool) -> None:
    rules = (Rule("none of c1", '"c1" in item.categories', "deny"), Rule("c3 up", '"c3" in item.categories', "boost", 1.0))
    engine = world(large=large, rules=RuleSet(rules), rows=tuple(spec for spec in SPECS if spec.kind != "category"))
    for number in range(0, engine.n_items, 9):
        engine.describe_item(number, ItemContent(["c5"], available=number % 2 == 0, expires_s=NOW_S if number % 4 == 0 else None))
    allowed = np.array(["c1" not in specification.categories(engine, item) for item in range(engine.n_items)])
    lists = assert_specified(engine, allowed=allowed, has_rules=True)
    listed = [item for user in range(len(lists.items)) for row in shown(lists, user) for item in row]
    assert len(listed) > 50 and allowed[listed].all() and engine.catalogue.recommendable(NOW_S)[listed].all()


class OddOnly(Filter):
    """Shows odd items only."""

    def personal(self, numbers: Any, users: Any, context: Any) -> Any:
        return numbers % 2 == 1


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_filters_of_plugins_hold_in_every_row(large: bool) -> None:
    registry = built_in()
    registry.filters.add("odd", OddOnly)
    engine = world(large=large, registry=registry)
    lists = engine.recommend(slots_of(engine), {}, NOW_S)
    listed = [item for user in range(len(lists.items)) for row in shown(lists, user) for item in row]
    assert len(listed) > 100 and all(item % 2 for item in listed)


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_what_rests_is_in_no_row(large: bool) -> None:
    engine = world(large=large, shown_items=60, frequency_cap=FrequencyCap(1, 100), touch_policy=REPEATS)
    slots = slots_of(engine)
    before = engine.recommend(slots, {}, engine.shared(NOW_S))
    shown_to = [sorted({item for row in shown(before, user) for item in row}) for user in range(len(slots))]
    items, counts = np.concatenate(shown_to).astype(np.uint32), np.array([len(some) for some in shown_to])
    times_s, is_new = np.full(len(items), NOW_S - 10, np.uint32), np.ones(len(items), np.bool_)
    engine.learn_shown(ShownEvents(slots, counts, items, times_s, is_new))
    after = engine.recommend(slots, {}, engine.shared(NOW_S))
    for user in range(len(slots)):
        found = {item for row in shown(after, user) for item in row}
        assert found and not found & set(shown_to[user])


@cache
def shared_world() -> Engine:
    return world(touch_policy=REPEATS)


ROW = st.builds(RowSpec, st.sampled_from(KINDS), st.integers(1, 6), st.integers(1, 4), st.sampled_from([f"c{n}" for n in range(3)]))


@given(specs=st.lists(ROW, min_size=1, max_size=8), gone=st.sets(st.integers(0, 159), max_size=40))
def test_no_page_shows_an_item_twice_or_a_row_that_is_too_short(specs: list[RowSpec], gone: set[int]) -> None:
    engine = shared_world()
    available = engine.catalogue.available.copy()
    engine.catalogue.available[list(gone)] = False
    context = engine.shared(NOW_S)
    context = replace(context, options=replace(context.options, rows=tuple(specs)))
    lists = engine.recommend(slots_of(engine), {}, context)
    engine.catalogue.available[:] = available
    for user in range(len(lists.items)):
        rows = shown(lists, user)
        items = [item for row in rows for item in row]
        assert len(items) == len(set(items)) and not gone & set(items)
        assert all(len(row) == 0 or spec.least <= len(row) <= spec.size for spec, row in zip(specs, rows, strict=True))
        for spec, row in zip(specs, rows, strict=True):
            assert spec.kind not in ("category", "new_in") or all(spec.category in specification.categories(engine, item) for item in row)


def test_a_row_that_is_left_out_gives_its_items_back() -> None:
    engine = world(rows=(RowSpec("popular_now", 3, 4), RowSpec("popular_now", 5)))
    lists = engine.recommend(slots_of(engine), {}, NOW_S)
    alone = world(rows=(RowSpec("popular_now", 5),))
    expected = alone.recommend(slots_of(alone), {}, NOW_S)
    for user in range(len(lists.items)):
        assert shown(lists, user) == [[], shown(expected, user)[0]] and len(shown(expected, user)[0]) == 5


def test_a_visitor_has_rows_and_a_preferred_category_is_the_favourite() -> None:
    specs = (RowSpec("new_in", 4), RowSpec("because", 4), RowSpec("for_you", 4), RowSpec("popular_now", 4))
    engine = world(rows=specs)
    visitor = slots_of(engine)[-1:]
    lists = engine.recommend(visitor, {}, engine.shared(NOW_S), preferred={0: ["unknown", "c2"]})
    rows = dict(zip((spec.kind for spec in specs), shown(lists, 0), strict=True))
    assert not rows["because"] and rows["for_you"] and rows["popular_now"] and rows["new_in"]
    assert all("c2" in specification.categories(engine, item) for item in rows["new_in"])


def test_rows_follow_a_changed_category_and_a_later_time() -> None:
    engine = world(rows=(RowSpec("category", 10, 1, "c3"), RowSpec("new_in", 10, 1, "c3")))
    assert_specified(engine)
    moved = next(n for n in range(engine.n_items) if "c3" in specification.categories(engine, n))
    engine.describe_item(moved, ItemContent(["c0"]))
    engine.describe_item(100, ItemContent(["c3"], published_s=NOW_S - 5))
    lists = assert_specified(engine)
    assert all(moved not in row for user in range(len(lists.items)) for row in shown(lists, user))
    assert any(100 in row for user in range(len(lists.items)) for row in shown(lists, user))


def test_rows_of_many_users_in_blocks_and_threads_are_those_of_one() -> None:
    engine = world(touch_policy=REPEATS)
    slots, shared = slots_of(engine), engine.shared(NOW_S)
    together = engine.recommend(np.tile(slots, 60), {}, shared)
    with ThreadPoolExecutor(4) as threads:
        alone = list(threads.map(lambda slot: engine.recommend(np.array([slot]), {}, shared), slots.tolist()))
    for user in range(len(slots)):
        for at in (user, user + 59 * len(slots)):
            assert shown(together, at) == shown(alone[user], 0)


def test_rows_of_users_with_rules_of_their_own_stay_with_their_users() -> None:
    rules = RuleSet((Rule("not for u3", 'user.id == "u3" && "c3" in item.categories', "deny"),))
    engine, plain = world(rules=rules, rows=SPECS[:5]), world(rows=SPECS[:5])
    ids = [f"u{user}" for user in range(12)]
    lists = engine.recommend(slots_of(engine), {}, engine.shared(NOW_S), user_ids=ids)
    expected = plain.recommend(slots_of(plain), {}, plain.shared(NOW_S))
    for user in range(12):
        assert user == 3 or shown(lists, user) == shown(expected, user)
    items = [item for row in shown(lists, 3) for item in row]
    assert items and not [item for item in items if "c3" in specification.categories(engine, item)]


def test_kernels_are_compiled_before_a_worker_joins_its_group_and_once() -> None:
    compile_lists((NO_POLICY,), EVERY_ROW)
    engine = world()
    engine.recommend(slots_of(engine), {}, NOW_S)
    for kernel in (rows_kernel.place, rows_kernel.follow, rows_kernel.favourites):
        assert len(kernel.signatures) == 1  # type: ignore[attr-defined]


def test_labels_find_items_by_value() -> None:
    labels = Labels()
    labels.put(2, ["a", "b"])
    labels.put(5, ["b"])
    changes = labels.changes
    labels.put(5, ["b"])
    assert labels.changes == changes, "nothing changed"
    assert labels.items_with(labels.number_of("b"), 6).tolist() == [2, 5] and labels.items_with(labels.number_of("b"), 4).tolist() == [2]
    assert labels.number_of("z") == -1 and labels.texts[labels.number_of("a")] == "a"
