"""Lists of users with a profile and no history come from their segments, and the more history, the less."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.engine import SOURCE_WEIGHTS, Engine, EngineConfig
from recsys.lists.fading import columns_of, factor, half_of, source_of, untrained, weights_of
from recsys.models.segments.config import SegmentsConfig
from recsys.models.segments.model import SegmentsModel
from recsys.models.segments.segment import Segment
from recsys.recipe.budget import FitOptions, TrainOptions
from recsys.recipe.fit import case_ranks
from recsys.recipe.judge import judge
from recsys.recipe.replay import Log, Serving, evenly, gather, with_beginnings
from recsys.recipe.train import with_model_weights
from recsys.state.profiles import Attribute, Profile, ProfileColumns
from tests.builders import recipe_of

N_ITEMS, N_GROUPS = 60, 3
IDS = [f"i{number}" for number in range(N_ITEMS)]
START_S = 1_700_000_000


def group_model() -> SegmentsModel:
    """Return a model in which users of group g choose items of which the number is g modulo 3, e² times as often as others."""
    segments = [Segment(Attribute("categorical", "group", str(group))) for group in range(N_GROUPS)]
    vectors = np.full((N_ITEMS, 1 + N_GROUPS), -4.0, np.float32)
    vectors[:, 1:] = 2.0 * (np.arange(N_ITEMS)[:, None] % N_GROUPS == np.arange(N_GROUPS))
    vectors[:, 1:] += np.linspace(0.5, 0, N_ITEMS)[:, None]
    return SegmentsModel(SegmentsConfig(), segments, IDS, vectors)


def profile_of(group: int) -> Profile:
    return Profile({"group": str(group)}, {}, ())


def engine_of(exact_items: int, *, serves: bool = True) -> Engine:
    """Return an engine with users u0 to u2 of the three groups and u3 without a profile, none with a history."""
    engine = Engine(EngineConfig(exact_items=exact_items))
    engine.ensure_items(N_ITEMS)
    for number in range(N_ITEMS):
        engine.catalogue.available[number] = True
    if serves:
        engine.serve("segments", "segments-000001", group_model(), {item: number for number, item in enumerate(IDS)})
    engine.users.load({f"u{user}": None for user in range(4)})
    if serves:
        for user in range(N_GROUPS):
            engine.users.hold_profiles().put(engine.users.slot(f"u{user}") or 0, profile_of(user), 1)
    return engine


@pytest.mark.parametrize("exact_items", [10_000, 10], ids=["small", "large"])
def test_a_first_list_holds_what_people_like_the_user_choose(exact_items: int) -> None:
    engine = engine_of(exact_items)
    slots = np.array([engine.users.slot(f"u{user}") for user in range(4)])
    lists = engine.recommend(slots, engine.encode(slots), START_S)
    for group in range(N_GROUPS):
        assert (lists.items[group, :15] % N_GROUPS == group).all()
        assert lists.contributions["segments"][group, 0] > 0
    assert not lists.contributions["segments"][3].any(), "nothing is known of this user"
    plain = engine_of(exact_items, serves=False)
    alone = plain.recommend(slots[3:], plain.encode(slots[3:]), START_S)
    np.testing.assert_array_equal(lists.items[3], alone.items[0])


def test_a_retired_model_leaves_nothing_behind() -> None:
    engine = engine_of(10_000)
    slots = np.array([engine.users.slot(f"u{user}") for user in range(4)])
    assert "segments" not in engine.encode(slots), "rows of users hold no vectors of profiles"
    assert engine.retire("segments") and not engine.retire("segments") and engine.users.profiles is None
    lists, plain = engine.recommend(slots, {}, START_S), engine_of(10_000, serves=False).recommend(slots, {}, START_S)
    np.testing.assert_array_equal(lists.items, plain.items)
    np.testing.assert_array_equal(lists.scores, plain.scores)


def test_the_scores_of_a_segment_are_by_item_number() -> None:
    engine = engine_of(10_000)
    scores = engine.segment_scores("group", "1")
    assert scores is not None and scores.shape == (N_ITEMS,) and scores.sum() == pytest.approx(1.0, abs=1e-5)
    assert (np.argsort(-scores)[: N_ITEMS // 3] % N_GROUPS == 1).all()
    engine.ensure_items(N_ITEMS + 5)
    wider = engine.segment_scores("group", "1")
    assert wider is not None and wider.shape == (N_ITEMS + 5,) and not wider[N_ITEMS:].any()
    assert engine.segment_scores("group", "9") is None and Engine().segment_scores("group", "1") is None


@given(pairs=st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=3, max_size=3))
def test_a_weight_never_rises_with_the_history(pairs: list[tuple[float, float]]) -> None:
    columns, lengths = columns_of("s", {"s": (1, 10)}), np.arange(120, dtype=np.int32)
    (weights,) = weights_of([dict(zip(columns, pairs, strict=True))], lengths)
    assert (np.diff(weights, axis=0) <= 1e-6).all()
    np.testing.assert_allclose(weights[0], np.sum(pairs, axis=0), rtol=1e-5, atol=1e-6)


def test_columns_name_their_source_and_length() -> None:
    assert columns_of("s", {"s": (1, 10)}) == ("s", "s@1", "s@10") and columns_of("s", {}) == ("s",)
    assert [source_of(name) for name in ("s", "s@10", "a@b", "@1")] == ["s", "s", "a@b", "@1"]
    assert [half_of(name) for name in ("s", "s@10", "a@b", "s@0")] == [None, 10, None, 1]
    np.testing.assert_allclose(factor("s@10", np.array([0, 10, 90], np.int32)), [1, 0.5, 0.1])
    assert untrained("s", {"s": (1, 10)}, (2.0, 3.0)) == {"s": (0, 0), "s@1": (2.0, 3.0), "s@10": (0, 0)}
    assert untrained("s", {}, (2.0, 3.0)) == {"s": (2.0, 3.0)}


def grouped_log(n_users: int = 240, seed: int = 0) -> Log:
    """Return users one after another: what they choose first is of their group, and what they choose later goes on from the item before."""
    random = np.random.default_rng(seed)
    users, items = list[int](), list[int]()
    for user in range(n_users):
        first = int(random.integers(N_ITEMS // N_GROUPS)) * N_GROUPS + user % N_GROUPS
        users += [user] * 4
        items += [(first + 7 * step) % N_ITEMS for step in range(4)]
    profiles = ProfileColumns.of([profile_of(user % N_GROUPS) for user in range(n_users)])
    n = len(users)
    return Log(np.array(users), np.array(items), START_S + np.arange(n) * 60, np.full(n, 32, np.int8), profiles=profiles)


SERVING = Serving({"segments": group_model()}, {item: number for number, item in enumerate(IDS)})


def test_first_touches_of_users_with_a_profile_are_targets() -> None:
    log = grouped_log(6)
    assert log.targets().tolist() == np.flatnonzero(~np.isin(np.arange(24), np.unique(log.items, return_index=True)[1])).tolist()
    without = replace(log, profiles=None)
    assert not set(without.targets().tolist()) & set(range(0, 24, 4)) and log.first(8).profiles is log.profiles


def test_cases_of_new_users_are_more_than_their_share_where_profiles_count() -> None:
    n_users, n_events = 40, 100
    users = np.repeat(np.arange(n_users), n_events)
    profiles = ProfileColumns.of([profile_of(user % N_GROUPS) for user in range(n_users)])
    log = Log(users, np.tile(np.arange(n_events), n_users), np.arange(len(users)), np.full(len(users), 32, np.int8), profiles=profiles)
    places = np.arange(len(users))
    chosen = with_beginnings(log, places, 400)
    earlier = chosen % n_events
    assert (np.diff(chosen) > 0).all() and 500 < len(chosen) <= 600
    by_stratum = [((earlier >= first) & (earlier < first * 2 + 1)).sum() for first in (0, 1, 3, 7, 15)]
    assert min(by_stratum) >= 40 and (earlier > 50).sum() >= 150
    np.testing.assert_array_equal(with_beginnings(replace(log, profiles=None), places, 400), evenly(places, 400))


@pytest.mark.parametrize("exact_items", [10_000, 10], ids=["small", "large"])
def test_a_case_of_a_profile_is_ranked_as_the_list_is(exact_items: int) -> None:
    log, config = grouped_log(60), EngineConfig(exact_items=exact_items)
    recipe = recipe_of({"segments": (0.5, 0.5), "segments@1": (3.0, 2.0), "segments@10": (0.0, 1.0)}, **{"popularity.all": 0.3})
    events = log.targets()[-80:]
    (cases,) = gather(config, log, events, [recipe], serving=SERVING)
    assert {"segments", "segments@1", "segments@10"} <= set(cases.extra_names)
    ranks, listed = case_ranks(recipe, cases), judge(config, log, events, {"own": recipe}, 2, serving=SERVING).ranks["own"]
    found = np.isfinite(listed)
    assert found.sum() > 30 and (ranks[~found] > 19).all()
    np.testing.assert_allclose(ranks[found], listed[found], atol=0.51)


def test_a_recipe_learns_that_the_history_outweighs_the_profile() -> None:
    log, config = grouped_log(), EngineConfig(source_weights={**SOURCE_WEIGHTS, "segments": 0.4})
    events = log.targets()[-220:]
    options = TrainOptions(fit=FitOptions(epochs=20, extras_learning_rate=0.1))
    start = recipe_of(**{"cooccurrence.share": 3.0, "popularity.all": 0.1})
    found = with_model_weights(config, log, events, start, SERVING, options)
    by_column = {column: found.extras[column] for column in columns_of("segments", {"segments": (1, 10)})}
    weights = weights_of([by_column], np.array([0, 3], np.int32))
    at_first, later = weights[0].sum(axis=1)
    assert at_first > 2.0, "of users without a history the profile says nearly all"
    assert later < 0.75 * at_first
