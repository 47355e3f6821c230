"""No category takes all of the first ten places, where the user's candidates have another and no setting allows it."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.catalogue.items import ItemContent
from recsys.engine import Engine, EngineConfig, Lists
from recsys.lists.policies.options import NO_POLICY, Cap, PolicyOptions
from tests.builders import batch_of, learn
from tests.unit.recsys.lists.policy_worlds import NOW_S, listed, slots_of

N_ITEMS, N_USERS = 400, 16


def shop(
    size: int, most: int, *, n_categories: int = 2, n_other: int = 40, policy: PolicyOptions = NO_POLICY, large: bool = False
) -> Engine:
    """Return an engine whose users buy shoes, and hardly anything else."""
    options = EngineConfig(list_size=size, most_of_category=most, policy=policy, exact_items=20 if large else 16_000)
    engine = Engine(options)
    engine.ensure_items(N_ITEMS)
    engine.neighbours.hold_all()
    for number in range(N_ITEMS):
        is_shoe = number < N_ITEMS - n_other or n_categories == 1
        engine.describe_item(number, ItemContent(["shoes", "sport"] if is_shoe else ["hats", "sport"], {"brand": f"b{number % 5}"}))
    engine.users.load({f"u{user}": None for user in range(N_USERS)})
    random = np.random.default_rng(0)
    for user in range(N_USERS):
        items = random.choice(120, 8, replace=False).tolist() + ([N_ITEMS - 1 - user] if user % 2 else [])
        times_s = [NOW_S - 60 + at for at in range(len(items))]
        learn(engine, batch_of([engine.users.slot(f"u{user}") or 0], [len(items)], items, times_s, [32] * len(items)))
    return engine


def lists_of(engine: Engine) -> Lists:
    return engine.recommend(slots_of(engine), {}, engine.shared(NOW_S))


def most_of_one(engine: Engine, items: list[int]) -> int:
    """Return how many of the first ten items have the most frequent first category."""
    labels = engine.catalogue.labels["first category"]
    values = [value for item in items[:10] for value in labels.values(item)]
    return max(values.count(value) for value in set(values))


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("size", [5, 10, 20])
def test_one_category_takes_all_of_the_first_places_only_where_a_setting_allows_it(size: int, large: bool) -> None:
    most = min(9, size - 1)
    alone, mixed = shop(size, 10, large=large), shop(size, most, large=large)
    before, after = lists_of(alone), lists_of(mixed)
    n_changed = 0
    for row in range(N_USERS):
        old, new = listed(before, row), listed(after, row)
        assert most_of_one(mixed, new) <= most and len(new) == len(old) == size
        if most_of_one(mixed, old) <= most:
            assert new == old, "a list that is mixed stays as it is"
        else:
            n_changed += 1
            places = min(size, 10)
            assert new[: places - 1] == old[: places - 1], "the last of the places gives way"
    assert n_changed > N_USERS / 2


def test_a_catalogue_of_one_category_has_the_lists_that_it_had() -> None:
    before, after = lists_of(shop(20, 10, n_categories=1)), lists_of(shop(20, 9, n_categories=1))
    np.testing.assert_array_equal(before.items, after.items)
    np.testing.assert_array_equal(before.scores, after.scores)


def test_what_cannot_be_listed_takes_no_place() -> None:
    engine = shop(10, 9)
    for number in range(N_ITEMS - 40, N_ITEMS):
        engine.describe_item(number, ItemContent(["hats"], available=False))
    lists = lists_of(engine)
    assert {most_of_one(engine, listed(lists, row)) for row in range(N_USERS)} == {10}
    assert all(len(listed(lists, row)) == 10 for row in range(N_USERS))


def test_fewer_places_of_a_category_may_be_asked_for() -> None:
    pool, lists = lists_of(shop(110, 10)), lists_of(shop(10, 6))
    n_hats = [[sum(item >= N_ITEMS - 40 for item in listed(one, row)) for row in range(N_USERS)] for one in (pool, lists)]
    assert n_hats[1] == [min(4, n) for n in n_hats[0]] and max(n_hats[1]) == 4


def test_caps_hold_as_well() -> None:
    engine = shop(10, 9, policy=PolicyOptions(100, caps=(Cap("attribute.brand", 3, 10),)))
    lists = lists_of(engine)
    for row in range(N_USERS):
        items = listed(lists, row)
        brands = [item % 5 for item in items]
        assert most_of_one(engine, items) <= 9 and max(brands.count(brand) for brand in brands) <= 3


def test_a_list_does_not_depend_on_who_else_is_listed_and_its_trace_ends_in_it() -> None:
    engine = shop(10, 9)
    lists, slots = lists_of(engine), slots_of(engine)
    for row in range(N_USERS):
        alone = engine.recommend(slots[row : row + 1], {}, engine.shared(NOW_S))
        np.testing.assert_array_equal(alone.items[0], lists.items[row])
        np.testing.assert_array_equal(alone.scores[0], lists.scores[row])
        np.testing.assert_array_equal(alone.because[0], lists.because[row])
        trace = engine.trace(slots[row : row + 1], {}, engine.shared(NOW_S))
        np.testing.assert_array_equal(trace.lists.items[0], lists.items[row])
        np.testing.assert_array_equal(trace.steps[-1][1].numbers[0, :10], lists.items[row])


def test_lists_of_one_category_are_of_one() -> None:
    engine = shop(10, 9)
    within = np.arange(N_ITEMS) < N_ITEMS - 40
    lists = engine.recommend(slots_of(engine), {}, engine.shared(NOW_S), within=within)
    assert {most_of_one(engine, listed(lists, row)) for row in range(N_USERS)} == {10}


def test_contributions_add_up_in_lists_that_were_made_again() -> None:
    engine = shop(10, 9)
    lists = lists_of(engine)
    np.testing.assert_allclose(sum(lists.contributions.values()), lists.scores, rtol=1e-5)
