"""Freshness, calibration, diversity and caps are those of the specification, in small and in large catalogues, and keep a list's size."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recsys.catalogue import sparse_rows
from recsys.catalogue.content_rows import ContentRows
from recsys.engine import Engine
from recsys.lists import reasons
from recsys.lists.candidates import Candidates
from recsys.lists.context import ListContext, Users
from recsys.lists.policies import calibration_kernel, caps_kernel, diversity_kernel, freshness
from recsys.lists.policies.options import (
    NO_POLICY,
    CalibrationOptions,
    Cap,
    DiversityOptions,
    FreshnessOptions,
    PolicyOptions,
)
from recsys.lists.registry import built_in
from tests.specification import policies as specification
from tests.unit.recsys.lists.policy_worlds import DAY_S, NOW_S, engine_of, features_of, listed, lists_with, pool_of, slots_of
from workers.stream.warm_up import EVERY_POLICY, compile_lists

SIZE = 10
WORLDS = [(False, False), (False, True), (True, False), (True, True)]
IDS = ["small", "small with embeddings", "large", "large with embeddings"]
STAGES = {
    "freshness": PolicyOptions(40, freshness=FreshnessOptions(3.0, 30.0 * DAY_S)),
    "calibration": PolicyOptions(40, calibration=CalibrationOptions(0.5)),
    "mmr": PolicyOptions(40, diversity=DiversityOptions("mmr", 0.4)),
    "dpp": PolicyOptions(40, diversity=DiversityOptions("dpp", 0.4)),
    "caps": PolicyOptions(40, caps=(Cap("category", 2, SIZE), Cap("attribute.brand", 1, 6))),
}
ALL = PolicyOptions(
    40, STAGES["freshness"].freshness, STAGES["calibration"].calibration, STAGES["dpp"].diversity, STAGES["caps"].caps
)


@pytest.fixture(scope="module", params=WORLDS, ids=IDS)
def engine(request: pytest.FixtureRequest) -> Engine:
    large, embedded = request.param
    return engine_of(large=large, embedded=embedded)


def assert_same(found: Any, expected: Any) -> None:
    np.testing.assert_array_equal(found.items, expected.items)
    for name in ("scores", "propensities", "because"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert list(found.contributions) == list(expected.contributions)
    for name, part in found.contributions.items():
        np.testing.assert_array_equal(part, expected.contributions[name])


def places_in(pool: Any, lists: Any, row: int) -> list[int]:
    """Where the items of a list are among the candidates."""
    where = {item: at for at, item in enumerate(listed(pool, row))}
    return [where[item] for item in listed(lists, row)]


def order_of(pool: Any, lists: Any, row: int) -> list[int]:
    """The listed candidates, then the others as they were."""
    placed = places_in(pool, lists, row)
    return placed + [at for at in range(len(listed(pool, row))) if at not in placed]


def boosts_of(engine: Engine, numbers: Any) -> Any:
    """The boosts of `STAGES["freshness"]`; none for items without a time of publication."""
    published_s = engine.catalogue.published_s[numbers]
    ages_s = np.where(published_s > 0, NOW_S - published_s, 1e9)
    return np.where(published_s > 0, 3.0 * 2.0 ** (-ages_s / (30.0 * DAY_S)), 0)


@pytest.mark.parametrize("kind", ["mmr", "dpp"])
def test_diversity_is_greedy_by_its_gain(engine: Engine, kind: str) -> None:
    gain_of = {"mmr": specification.mmr_gain, "dpp": specification.dpp_gain}[kind]
    pool, changed = pool_of(engine, STAGES[kind]), 0
    for strength in (0.05, 0.3, 0.8):
        options = DiversityOptions(kind, strength)  # type: ignore[arg-type]
        lists = lists_with(engine, PolicyOptions(40, diversity=options))
        for row in range(len(lists.items)):
            numbers = np.array(listed(pool, row))
            worth = specification.relevance(pool.scores[row, : len(numbers)])
            order = order_of(pool, lists, row)
            specification.assert_greedy(order, gain_of(worth, features_of(engine, numbers), strength), SIZE)
            changed += order[:SIZE] != list(range(SIZE))
    assert changed > 10


def test_calibration_is_greedy_by_its_gain_and_leaves_users_without_history_alone(engine: Engine) -> None:
    labels, table, changed = engine.catalogue.labels["category"], engine.users, 0
    pool, slots = pool_of(engine, STAGES["calibration"]), slots_of(engine)
    for strength in (0.1, 0.6):
        lists = lists_with(engine, PolicyOptions(40, calibration=CalibrationOptions(strength)))
        for row, slot in enumerate(slots.tolist()):
            first = table.history_length - int(table.lengths[slot])
            own = [(labels.values(int(table.items[slot, at])), float(table.weights[slot, at])) for at in range(first, table.history_length)]
            wanted = specification.mix([(values, weight) for values, weight in own if weight > 0 and values])
            order, numbers = order_of(pool, lists, row), listed(pool, row)
            if not wanted:
                assert order == list(range(len(order)))
                continue
            worth = specification.relevance(pool.scores[row, : len(numbers)])
            gain = specification.calibration_gain(worth, [labels.values(item) for item in numbers], wanted, strength)
            specification.assert_greedy(order, gain, SIZE)
            changed += order[:SIZE] != list(range(SIZE))
    assert changed > 10


def test_calibration_brings_the_mix_of_every_user_nearer() -> None:
    engine = engine_of(400, 40)
    labels, table = engine.catalogue.labels["category"], engine.users
    off, on = (lists_with(engine, policy) for policy in (NO_POLICY, PolicyOptions(100, calibration=CalibrationOptions(0.9))))
    before, after = [], []
    for row, slot in enumerate(slots_of(engine).tolist()):
        own = range(table.history_length - int(table.lengths[slot]), table.history_length)
        liked = [(labels.values(int(table.items[slot, at])), float(table.weights[slot, at])) for at in own if table.weights[slot, at] > 0]
        wanted = specification.mix(liked)
        for lists, found in ((off, before), (on, after)):
            mix = specification.mix([(labels.values(item), 1.0) for item in listed(lists, row)])
            found.append(specification.divergence(wanted, mix))
    assert np.mean(after) < 0.6 * np.mean(before) and max(np.array(after) - np.array(before)) < 1e-6


def test_freshness_adds_its_boost_as_a_part_and_orders_by_the_sum(engine: Engine) -> None:
    pool, lists = pool_of(engine, STAGES["freshness"]), lists_with(engine, STAGES["freshness"])
    for row in range(len(lists.items)):
        numbers = np.array(listed(pool, row))
        boosts = boosts_of(engine, numbers)
        sums = pool.scores[row, : len(numbers)] + boosts
        expected = np.argsort(-sums, kind="stable")[:SIZE]
        np.testing.assert_allclose(lists.scores[row], sums[expected], atol=1e-4)
        np.testing.assert_allclose(lists.contributions["freshness"][row], boosts[[places_in(pool, lists, row)]][0], atol=1e-5)
        parts = np.sum([part[row] for part in lists.contributions.values()], axis=0)
        np.testing.assert_allclose(parts, lists.scores[row], atol=1e-4)
    assert (lists.items != lists_with(engine, NO_POLICY).items).any()


def test_caps_are_placed_as_the_specification_says(engine: Engine) -> None:
    caps = STAGES["caps"].caps
    pool, lists = pool_of(engine, STAGES["caps"]), lists_with(engine, STAGES["caps"])
    for row in range(len(lists.items)):
        values = [[engine.catalogue.labels[cap.field].values(item) for cap in caps] for item in listed(pool, row)]
        assert places_in(pool, lists, row) == specification.capped(values, [(cap.most, cap.first) for cap in caps], SIZE)[:SIZE]
    assert (lists.items != lists_with(engine, NO_POLICY).items).any()


@pytest.mark.parametrize(
    "policy",
    [
        PolicyOptions(40),
        PolicyOptions(40, FreshnessOptions(0.0, 1.0), CalibrationOptions(0.0), DiversityOptions("mmr", 0.0)),
        PolicyOptions(40, diversity=DiversityOptions("dpp", 0.0)),
    ],
)
@pytest.mark.parametrize("exploration_slots", [0, 3])
def test_a_strength_of_0_changes_nothing(engine: Engine, policy: PolicyOptions, exploration_slots: int) -> None:
    expected = lists_with(engine, NO_POLICY, exploration_slots=exploration_slots)
    assert_same(lists_with(engine, policy, exploration_slots=exploration_slots), expected)


@pytest.mark.parametrize("name", [*STAGES, "all"])
@pytest.mark.parametrize("exploration_slots", [0, 4])
@pytest.mark.parametrize("spare", [0, 7, 500])
def test_a_list_keeps_its_size_and_explains_itself(engine: Engine, name: str, exploration_slots: int, spare: int) -> None:
    policy = replace(STAGES.get(name, ALL), spare=spare)
    lists = lists_with(engine, policy, exploration_slots=exploration_slots)
    for row in range(len(lists.items)):
        shown = listed(lists, row)
        assert len(shown) == len(set(shown)) == SIZE and np.isfinite(lists.scores[row]).all()
        parts = np.sum([part[row] for part in lists.contributions.values()], axis=0)
        np.testing.assert_allclose(parts, lists.scores[row], atol=1e-4)
        assert (lists.propensities[row, : SIZE - exploration_slots] == 1).all()
    again = lists_with(engine, policy, exploration_slots=exploration_slots)
    assert_same(again, lists)


def test_stages_follow_one_another_in_the_stated_order(engine: Engine) -> None:
    """Made by hand, one stage at a time: each chooses from what the one before it ordered."""
    pool, everything = pool_of(engine, ALL), lists_with(engine, ALL)
    labels, table, checked = engine.catalogue.labels, engine.users, 0
    for row, slot in enumerate(slots_of(engine).tolist()):
        numbers = np.array(listed(pool, row))
        boosts = boosts_of(engine, numbers)
        sums = pool.scores[row, : len(numbers)] + boosts
        worth, order = specification.relevance(sums), np.argsort(-sums, kind="stable")
        numbers = numbers[order]
        own = range(table.history_length - int(table.lengths[slot]), table.history_length)
        liked = [(labels["category"].values(int(table.items[slot, at])), float(table.weights[slot, at])) for at in own]
        wanted = specification.mix([(values, weight) for values, weight in liked if weight > 0 and values])
        if wanted:
            values = [labels["category"].values(item) for item in numbers.tolist()]
            numbers = numbers[greedy(specification.calibration_gain(worth, values, wanted, 0.5), len(numbers))]
        numbers = numbers[greedy(specification.dpp_gain(worth, features_of(engine, numbers), 0.4), len(numbers))]
        capped = [[labels[cap.field].values(item) for cap in ALL.caps] for item in numbers.tolist()]
        placed = specification.capped(capped, [(cap.most, cap.first) for cap in ALL.caps], SIZE)[:SIZE]
        checked += numbers[placed].tolist() == listed(everything, row)
    assert checked >= 0.8 * len(everything.items)  # rounding decides between equal gains


def greedy(gain: specification.Gain, n: int) -> list[int]:
    """The order in which a gain chooses, then the others."""
    chosen: list[int] = []
    for _ in range(min(SIZE, n)):
        chosen.append(max((i for i in range(n) if i not in chosen), key=lambda i: (round(gain(chosen, i), 6), -i)))
    return chosen + [i for i in range(n) if i not in chosen]


FEATURES = st.integers(1, 14).flatmap(
    lambda n: st.tuples(
        st.lists(st.lists(st.sampled_from([0.0, 0.0, 0.5, 1.0, 2.0]), min_size=5, max_size=5), min_size=n, max_size=n),
        st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3) | st.none(), min_size=n, max_size=n),
        st.lists(st.floats(0, 1, width=32), min_size=n, max_size=n),
    )
)


EQUALLY_RELEVANT = ([[0.5] * 5, [0.5] * 5, [0.0] * 5], [[0, 0, 0]] * 3, [1.0] * 3)
"""Without the determinant the first is chosen, then the second, which is like it."""


@example(EQUALLY_RELEVANT, 0.0, 2, 0)
@given(FEATURES, st.sampled_from([0.0, 0.01, 0.3, 0.7, 1.0]), st.integers(1, 9), st.integers(0, 4))
@settings(max_examples=120, deadline=None)
def test_any_features_give_the_greedy_order(drawn: tuple[Any, Any, Any], strength: float, size: int, n_none: int) -> None:
    said, dense, worths = drawn
    n = len(said)
    worth = np.sort(np.array(worths, np.float32))[::-1]
    columns = np.tile(np.arange(5, dtype=np.int32), (n, 1))
    embeddings = np.array([[0, 0, 0] if row is None else row for row in dense], np.float32)
    rows = np.arange(n, dtype=np.int64)
    dense_rows = np.array([-1 if row is None else at for at, row in enumerate(dense)], np.int64)
    pad = [(0, 0), (0, n_none)]
    numbers = np.pad(np.arange(n)[None], pad, constant_values=-1)
    features = ContentRows(
        np.pad(rows[None], pad), columns, np.array(said, np.float32), 5, np.pad(dense_rows[None], pad), embeddings
    )
    whole = np.concatenate((np.array(said), embeddings), axis=1).astype(np.float64)
    for choose, gain_of in ((diversity_kernel.mmr, specification.mmr_gain), (diversity_kernel.dpp, specification.dpp_gain)):
        order = np.full(numbers.shape, -9, np.int64)
        choose(numbers, np.pad(worth[None], pad), features, size, strength, order)
        assert order[0, n:].tolist() == list(range(n, n + n_none))
        specification.assert_greedy(order[0, :n].tolist(), gain_of(worth.astype(np.float64), whole, strength), size, 1e-4)
        if strength == 0:
            assert order[0].tolist() == list(range(n + n_none))


VALUES = st.lists(st.tuples(st.lists(st.integers(0, 3), max_size=3, unique=True), st.lists(st.integers(4, 9), max_size=1)), max_size=14)


@given(st.lists(VALUES, min_size=1, max_size=3), st.tuples(st.integers(1, 4), st.integers(1, 8)), st.integers(1, 3), st.integers(1, 10))
@settings(max_examples=150, deadline=None)
def test_caps_hold_for_every_list(users: list[Any], by_category: tuple[int, int], most_of_brand: int, size: int) -> None:
    """A cap is broken only at a place that none of the candidates left would fit."""
    caps = (by_category, (most_of_brand, size))
    width = max(len(values) for values in users)
    numbers, values = np.full((len(users), width), -1, np.int64), np.full((len(users), width, 2, 3), -1, np.int32)
    for user, own in enumerate(users):
        numbers[user, : len(own)] = np.arange(len(own))
        for at, fields in enumerate(own):
            for cap, some in enumerate(fields):
                values[user, at, cap, : len(some)] = some
    order, kept, counts = np.full(numbers.shape, -9, np.int64), np.empty(len(users), np.int64), np.zeros(10, np.int32)
    most, first = (np.array(column, np.int64) for column in zip(*caps, strict=True))
    caps_kernel.place(numbers, values, most, first, size, size, counts, order, kept)
    assert not counts.any()
    for user, own in enumerate(users):
        placed = order[user, : len(own)].tolist()
        assert sorted(order[user].tolist()) == list(range(width)) and kept[user] == min(size, len(own))
        as_texts = [[[str(value) for value in some] for some in fields] for fields in own]
        assert placed == specification.capped(as_texts, caps, size)
        for at in range(int(kept[user])):
            if breaks(own, placed[:at], placed[at], caps):
                assert all(breaks(own, placed[:at], other, caps) for other in range(len(own)) if other not in placed[:at])


def breaks(own: Any, before: list[int], candidate: int, caps: tuple[tuple[int, int], ...]) -> bool:
    """Whether a candidate breaks a cap behind those before it."""
    for cap, (most, first) in enumerate(caps):
        if len(before) < first:
            for value in own[candidate][cap]:
                if sum(value in own[other][cap] for other in before) >= most:
                    return True
    return False


@pytest.mark.parametrize("first", [4, SIZE, 200])
def test_exploration_keeps_within_caps(engine: Engine, first: int) -> None:
    policy = PolicyOptions(120, caps=(Cap("attribute.brand", 2, first),))
    brands, drawn = engine.catalogue.labels["attribute.brand"], 0
    for seed in range(5):
        lists = lists_with(engine, policy, exploration_slots=4, seeds=np.arange(len(engine.users)) + 100 * seed)
        for row in range(len(lists.items)):
            shown = [value for item in listed(lists, row)[:first] for value in brands.values(item)]
            assert max(map(shown.count, shown)) <= 2 and len(listed(lists, row)) == SIZE
            drawn += int((lists.propensities[row] < 1).sum())
    assert drawn


def test_a_cap_of_an_attribute_that_no_item_has_changes_no_order(engine: Engine) -> None:
    lists = lists_with(engine, PolicyOptions(0, caps=(Cap("attribute.none", 1, SIZE),)))
    assert_same(lists, lists_with(engine, NO_POLICY))


def test_every_stage_is_compiled_before_a_worker_joins_its_group_and_once(engine: Engine) -> None:
    compile_lists(EVERY_POLICY)
    called: list[Any] = [calibration_kernel.calibrate, caps_kernel.place, diversity_kernel.mmr, diversity_kernel.dpp, freshness.boost]
    called += [sparse_rows._count, sparse_rows._fill, reasons._strongest]
    for policy in (ALL, replace(ALL, diversity=STAGES["mmr"].diversity)):
        for exploration_slots in (0, 2):
            lists_with(engine, policy, exploration_slots=exploration_slots)
    several = {kernel.__name__: kernel.signatures for kernel in called if len(kernel.signatures) != 1}
    assert several == {}


class KeepsFirst:
    """A plugin's stage that leaves out every other candidate and keeps few."""

    def __call__(self, candidates: Candidates, size: int, users: Users, context: ListContext) -> Candidates:
        return candidates.only(np.arange(candidates.numbers.shape[1])[None] % 2 == 0).first(4 * size)


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_caps_hold_for_what_a_plugin_s_stage_leaves(large: bool) -> None:
    registry = built_in()
    registry.policies.add("keeps_first", KeepsFirst)
    engine = engine_of(large=large, registry=registry)
    policy = replace(ALL, caps=(Cap("attribute.brand", 1, SIZE),))
    for exploration_slots in (0, 3):
        lists = lists_with(engine, policy, exploration_slots=exploration_slots)
        for row in range(len(lists.items)):
            brands = [value for item in listed(lists, row) for value in engine.catalogue.labels["attribute.brand"].values(item)]
            assert len(listed(lists, row)) == SIZE and len(brands) == len(set(brands))


def test_lists_made_in_threads_are_those_made_at_once(engine: Engine) -> None:
    slots = slots_of(engine)
    context = engine.shared(NOW_S)
    context = replace(context, options=replace(context.options, policy=ALL), _made={})
    together = engine.recommend(slots, {}, context)
    with ThreadPoolExecutor(4) as threads:
        apart = list(threads.map(lambda slot: engine.recommend(np.array([slot]), {}, context), slots.tolist() * 4))
    alike = [listed(lists, 0) == listed(together, row % len(slots)) for row, lists in enumerate(apart)]
    assert np.mean(alike) > (0.9 if engine.is_large else 0.999)  # the index may name other candidates for other users beside one
