"""A list keeps the order of the one before where scores differ by less than the margin, and no further."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.catalogue.items import ItemContent
from recsys.engine import Engine, EngineConfig
from recsys.lists.policies.options import NO_POLICY, Cap, PolicyOptions
from recsys.lists.policies.stability_kernel import keep
from tests.builders import batch_of, learn

SCORES = st.lists(st.integers(0, 40), min_size=1, max_size=14)
MARGIN = 0.5


def kept(worth: list[float], previous: list[int], size: int, margin: float = MARGIN, n_none: int = 0) -> list[int]:
    """Return the order of items 0 … n − 1, whose worth falls, after the list `previous`."""
    n = len(worth)
    numbers = np.array([[*range(n), *[-1] * n_none]], np.int64)
    worths, order = np.array([worth + [-np.inf] * n_none], np.float32), np.empty(numbers.shape, np.int64)
    place_of = np.zeros(max(n, 20), np.int32)
    keep(numbers, worths, np.array([previous or [-1]], np.int64), size, margin, place_of, order)
    assert not place_of.any() and sorted(order[0].tolist()) == list(range(n + n_none))
    return [int(numbers[0, column]) for column in order[0] if numbers[0, column] >= 0]


def plain(worth: list[float], previous: list[int], size: int, margin: float = MARGIN) -> list[int]:
    """Do the same item by item."""
    before = [item for at, item in enumerate(previous[:size]) if 0 <= item < len(worth) and item not in previous[:at]]
    if not before:
        return list(range(len(worth)))
    order: list[int] = []
    for _ in range(8):
        order = []
        for item in [*before, *(item for item in range(len(worth)) if item not in before)]:
            at = len(order)
            while at and worth[item] > worth[order[at - 1]] + margin:
                at -= 1
            order.insert(at, item)
        if order[:size] == before:
            break
        before = order[:size]
    return order


@given(SCORES, st.lists(st.integers(-1, 18), max_size=12), st.integers(1, 10), st.integers(0, 3))
def test_the_compiled_order_is_the_plain_one_and_stands_still(scores: list[int], previous: list[int], size: int, n_none: int) -> None:
    worth = sorted((score / 10 for score in scores), reverse=True)
    order = kept(worth, previous, size, n_none=n_none)
    assert order == plain(np.array(worth, np.float32).tolist(), previous, size)
    assert kept(worth, order[:size], size)[:size] == order[:size], "made again with itself as the list before, it is the same"
    for before, after in pairwise(order[:size]):
        assert worth[after] <= worth[before] + MARGIN + 1e-6, "what is worth more than the margin more comes first"


def test_an_order_changes_only_where_the_margin_is_passed() -> None:
    worth = [3.0, 2.9, 2.8, 1.0, 0.2]
    assert kept(worth, [], 3) == [0, 1, 2, 3, 4]
    assert kept(worth, [2, 1, 0], 3) == [2, 1, 0, 3, 4]
    assert kept(worth, [3, 2, 1], 3) == [2, 1, 0, 3, 4], "3 is passed, and 0 comes in for it"
    assert kept(worth, [4, 3, 19], 3)[:3] == [0, 1, 2]
    assert kept(worth, [2, 1, 0], 3, margin=0.05) == [0, 1, 2, 3, 4]


N_ITEMS, N_USERS, SIZE, NOW_S = 120, 200, 10, 100_000


def engine_of(policy: PolicyOptions, exact_items: int = 10_000) -> Engine:
    """Return an engine whose users have chosen items of one category each; there are twelve categories."""
    engine = Engine(EngineConfig(list_size=SIZE, exact_items=exact_items, policy=policy))
    for number in range(N_ITEMS):
        engine.describe_item(number, ItemContent([f"c{number % 12}"]))
    engine.neighbours.hold_all()
    engine.users.load({f"u{user}": None for user in range(N_USERS)})
    chance = np.random.default_rng(3)
    chosen = np.array([user % 12 + 12 * chance.permutation(N_ITEMS // 12)[:3] for user in range(N_USERS)]).ravel()
    slots = slots_of(engine).tolist()
    learn(engine, batch_of(slots, [3] * N_USERS, chosen.tolist(), [NOW_S] * len(chosen), [32] * len(chosen)))
    return engine


def slots_of(engine: Engine) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([engine.users.slot(f"u{user}") for user in range(N_USERS)], np.int64)


def test_a_refreshed_list_is_the_one_before_unless_scores_passed_the_margin() -> None:
    for exact_items in (10_000, 10):
        engine, plain_engine = engine_of(PolicyOptions(stability_margin=100.0), exact_items), engine_of(NO_POLICY, exact_items)
        slots = slots_of(engine)
        before = engine.recommend(slots, {}, NOW_S).items
        np.testing.assert_array_equal(before, plain_engine.recommend(slots, {}, NOW_S).items, err_msg="without a list before")
        previous = before[:, ::-1].copy()
        np.testing.assert_array_equal(engine.recommend(slots, {}, NOW_S, previous=previous).items, previous)
        gone = int(previous[0, 0])
        engine.describe_item(gone, None)
        after = engine.recommend(slots, {}, NOW_S, previous=previous).items
        assert (after != gone).all() and after[0, :-1].tolist() == previous[0, 1:].tolist(), "others move up, and the next best comes in"


def test_lists_before_change_nothing_where_stability_is_off() -> None:
    engine = engine_of(NO_POLICY)
    slots = slots_of(engine)
    lists = engine.recommend(slots, {}, NOW_S)
    again = engine.recommend(slots, {}, NOW_S, previous=lists.items[:, ::-1].copy())
    np.testing.assert_array_equal(again.items, lists.items)
    np.testing.assert_array_equal(again.scores, lists.scores)


def most_of_a_category(engine: Engine) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return of each user how many of the first ten places have one category, at most."""
    items = engine.recommend(slots_of(engine), {}, NOW_S).items[:, :10]
    return np.array([np.bincount(row[row >= 0] % 12).max() for row in items])


def test_with_a_cap_of_three_no_list_of_two_hundred_users_has_more_of_a_category() -> None:
    cap = (Cap("category", 3, 10),)
    assert most_of_a_category(engine_of(NO_POLICY)).max() > 3, "the default asks for no variety"
    for exact_items in (10_000, 10):
        assert most_of_a_category(engine_of(PolicyOptions(caps=cap), exact_items)).max() <= 3
        stable = engine_of(PolicyOptions(caps=cap, stability_margin=100.0), exact_items)
        previous = engine_of(NO_POLICY, exact_items).recommend(slots_of(stable), {}, NOW_S).items
        items = stable.recommend(slots_of(stable), {}, NOW_S, previous=previous).items
        assert max(np.bincount(row[row >= 0] % 12).max() for row in items) <= 3, "whatever the list before"
