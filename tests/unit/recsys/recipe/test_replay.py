"""A replay knows nothing of what comes after a case, and its candidates and features are those of lists."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.engine import SOURCE_WEIGHTS, EngineConfig
from recsys.errors import ShapeError, TooFewInteractions
from recsys.lists.default_recipe import default_recipe
from recsys.lists.touch_policy import FOR_EVER, N_CODES, TouchPolicy
from recsys.models.base import Histories
from recsys.recipe.budget import TrainOptions
from recsys.recipe.fit import case_ranks
from recsys.recipe.judge import judge
from recsys.recipe.replay import Log, Serving, evenly, gather
from recsys.recipe.train import recent_half_life, train_recipe, with_model_weights
from tests.builders import recipe_of

START_S = 1_700_000_000


def log_of(n: int, seed: int = 0, n_users: int = 40, n_items: int = 120) -> Log:
    """Return a log whose users touch what others touched lately, three times of four."""
    random = np.random.default_rng(seed)
    users, items = random.integers(0, n_users, n), random.integers(0, n_items, n)
    for event in range(20, n):
        if random.random() < 0.75:
            items[event] = items[event - random.integers(1, 15)]
    return Log(users, items, START_S + np.arange(n) * 300, np.full(n, 32, np.int8))


def test_targets_are_first_touches_of_known_items_by_known_users() -> None:
    users, items = np.array([0, 1, 1, 0, 0, 2, 1]), np.array([5, 6, 5, 5, 6, 6, 5])
    log = Log(users, items, np.arange(7) + START_S, np.array([32, 32, 32, 32, 32, 32, 32], np.int8))
    assert log.targets().tolist() == [2, 4]
    disliked = replace(log, weights=np.array([32, 32, -32, 32, 32, 32, 32], np.int8))
    assert disliked.targets().tolist() == [4]
    with pytest.raises(ShapeError, match="items has 3 entries for 7 events"):
        replace(log, items=items[:3])


@pytest.mark.parametrize("exact_items", [10_000, 10], ids=["small", "large"])
def test_what_comes_later_changes_no_case(exact_items: int) -> None:
    log, config = log_of(700), EngineConfig(exact_items=exact_items)
    events = evenly(log.targets()[20:], 40)
    events = events[events < 500]
    (whole,), (cut,) = gather(config, log, events), gather(config, log.first(int(events[-1]) + 1), events)
    assert len(whole) == len(cut) == len(events) > 15
    for row in range(len(whole)):
        n = int(whole.counts[row])
        assert whole.targets[row] == cut.targets[row]
        np.testing.assert_allclose(whole.features[row, :n], cut.features[row, :n], atol=1e-5)


@pytest.mark.parametrize("exact_items", [10_000, 10], ids=["small", "large"])
def test_a_case_is_ranked_as_the_list_is(exact_items: int) -> None:
    log, config = log_of(600), EngineConfig(exact_items=exact_items)
    events = evenly(log.targets(), 60)
    recipes = {"default": None, "own": recipe_of(**{"popularity.2h": 1.0, "cooccurrence.log": 0.3})}
    listed = judge(config, log, events, recipes, 2).ranks
    for (name, recipe), cases in zip(recipes.items(), gather(config, log, events, list(recipes.values())), strict=True):
        ranks = case_ranks(recipe or default_recipe(), cases)
        found = np.isfinite(listed[name])
        assert found.any() and (ranks[~found] > 20).all()
        np.testing.assert_allclose(ranks[found], listed[name][found], atol=0.51)  # equal scores share their mean rank


def test_a_trained_recipe_finds_what_the_log_is_about_and_popularity_does_not() -> None:
    log, config = log_of(2_500), EngineConfig()
    targets = log.targets()
    train, newest = log.first(int(targets[int(0.7 * len(targets))])), evenly(targets[int(0.7 * len(targets)) :], 150)
    start = recipe_of(**{"popularity.all": 1.0})
    found = train_recipe(config, train, TrainOptions(cases=400, searched=100), start=start)
    (cases,) = gather(config, log, newest)
    judged = judge(config, log, newest, {"start": start, "found": found}, recent_half_life(cases))
    hits = {name: judged.hits(name).mean() for name in judged.ranks}
    assert hits["found"] > max(hits["start"], hits["popularity"]) + 0.1 and hits["found"] >= hits["recent_popularity"] > hits["popularity"]
    assert (judged.ndcg("found") <= judged.hits("found")).all() and judged.ndcg("found").mean() > judged.ndcg("start").mean()
    np.testing.assert_array_equal(judged.users, log.users[newest])


REPEATING = EngineConfig(
    touch_policy=TouchPolicy([0] * N_CODES), kept_types=0, source_weights={**EngineConfig().source_weights, "again": 0.02}
)


def habits(n: int) -> Log:
    """Return a log of users who repeat one of their own few items three times of four."""
    random = np.random.default_rng(2)
    users, items = random.integers(0, 30, n), random.integers(0, 150, n)
    habit = random.random(n) < 0.75
    items[habit] = users[habit] * 5 + random.integers(0, 5, int(habit.sum()))
    return Log(users, items, START_S + np.arange(n) * 300, np.full(n, 32, np.int8))


def test_repeats_are_targets_where_lists_repeat() -> None:
    users, items = np.array([0, 1, 1, 0, 0, 0, 1]), np.array([5, 6, 5, 6, 5, 5, 5])
    log = Log(users, items, np.arange(7) + START_S, np.full(7, 32, np.int8), types=np.array([2, 2, 2, 2, 2, 2, 9], np.int8))
    assert log.targets().tolist() == [2, 3] and log.targets(repeats=True).tolist() == [2, 3, 4]
    assert log.first(3).types is not None and not log.repeats(EngineConfig())
    assert log.repeats(REPEATING) and not log.repeats(replace(REPEATING, source_weights={"cooccurrence": 1.0}))
    kept_off = [FOR_EVER] * N_CODES
    assert not log.repeats(replace(REPEATING, touch_policy=TouchPolicy(kept_off)))
    kept_off[9] = 0
    assert log.repeats(replace(REPEATING, touch_policy=TouchPolicy(kept_off)))
    with pytest.raises(ShapeError, match="types has 2 entries for 7 events"):
        replace(log, types=np.zeros(2, np.int8))


def test_the_weight_of_repeats_is_learnt_from_a_log_of_habits() -> None:
    log = habits(2_500)
    targets = log.targets(repeats=True)
    train, newest = log.first(int(targets[int(0.7 * len(targets))])), evenly(targets[int(0.7 * len(targets)) :], 150)
    start = recipe_of(**{"popularity.all": 1.0})
    found = train_recipe(REPEATING, train, TrainOptions(cases=500, searched=0), start=start)
    judged = judge(REPEATING, log, newest, {"start": start, "found": found})
    assert found.extras.keys() == {"again"}, "weights of models stay those of the settings"
    assert max(found.extras["again"]) > 1.0 and judged.ndcg("found").mean() > judged.ndcg("start").mean() + 0.1


def test_a_case_with_repeats_is_ranked_as_the_list_is() -> None:
    log, recipe = habits(600), recipe_of({"again": (10.0, 20.0)}, **{"popularity.2h": 1.0})
    events = evenly(log.targets(repeats=True), 60)
    (cases,) = gather(REPEATING, log, events, [recipe])
    assert cases.extra_names == ("again",) and cases.extras.any()
    ranks, listed = case_ranks(recipe, cases), judge(REPEATING, log, events, {"own": recipe}).ranks["own"]
    found = np.isfinite(listed)
    assert found.sum() > 30 and (ranks[~found] > 20).all()
    np.testing.assert_allclose(ranks[found], listed[found], atol=0.51)


def test_a_log_with_too_little_to_learn_from_is_refused() -> None:
    for n_events in (1, 2, 60):
        with pytest.raises(TooFewInteractions, match="a recipe needs 100 cases"):
            train_recipe(EngineConfig(), log_of(n_events))


def test_a_replay_that_runs_out_of_time_keeps_its_cases() -> None:
    log = log_of(700)
    (cases,) = gather(EngineConfig(), log, evenly(log.targets(), 100), progress=lambda done, message: done < 0.5)
    assert 0 < len(cases) < 100


class Known:
    """A model of one dimension, in which every user likes items by their numbers, downwards or by chance."""

    link: ClassVar[Literal["identity", "softmax"]] = "identity"

    def __init__(self, kind: str, item_vectors: NDArray[np.float32]) -> None:
        self.kind, self.item_vectors = kind, item_vectors[:, None]  # type: ignore[misc]
        self.item_ids, self.history_length = [f"i{number}" for number in range(len(item_vectors))], 5

    def encode(self, histories: Histories) -> NDArray[np.float32]:
        self.asked = histories
        return np.ones((len(histories), 1), np.float32)


def test_models_know_how_long_ago_the_user_was_there() -> None:
    """Cases, and the lists that judge, are made at the moment of their events: here an hour after the user's newest."""
    log = Log(np.array([0, 1, 0]), np.array([1, 2, 3]), START_S + np.array([0, 60, 3_600]), np.full(3, 32, np.int8))
    model = Known("good", np.ones(5, np.float32))
    serving, config = Serving({"good": model}, {f"i{number}": number for number in range(5)}), EngineConfig(source_weights={"good": 1.0})
    for run in (gather, lambda *given, **named: judge(*given, {"default": None}, 2, **named)):
        run(config, log, np.array([2]), serving=serving)
        assert model.asked.gaps_s is not None and model.asked.gaps_s.tolist() == [3_600]


def test_weights_of_models_are_learnt_and_nothing_else_of_the_recipe_changes() -> None:
    n_items, random = 120, np.random.default_rng(4)
    liking = np.exp(-np.arange(n_items) / 12)
    n = 3_000
    items = random.choice(n_items, n, p=liking / liking.sum())
    log = Log(random.integers(0, 40, n), items, START_S + np.arange(n) * 300, np.full(n, 32, np.int8))
    good = Known("good", (1 - np.arange(n_items) / n_items).astype(np.float32))
    noise = Known("noise", random.random(n_items).astype(np.float32))
    serving = Serving({"good": good, "noise": noise}, {f"i{number}": number for number in range(n_items)})
    config = EngineConfig(source_weights=SOURCE_WEIGHTS | {"good": 0.2, "noise": 0.2})
    start = recipe_of(**{"cooccurrence.log": 0.05})
    targets = log.targets()
    events, newest = evenly(targets[:-200], 400), evenly(targets[-200:], 100)
    found = with_model_weights(config, log, events, start, serving)
    for name, array in start.tensors().items():
        np.testing.assert_array_equal(found.tensors()[name], array)
    assert sum(found.extras["good"]) > 3 * sum(found.extras["noise"])
    judged = judge(config, log, newest, {"start": start, "found": found}, 2, serving=serving)
    assert judged.hits("found").mean() > judged.hits("start").mean() + 0.1


@pytest.mark.parametrize("exact_items", [10_000, 10], ids=["small", "large"])
def test_a_case_with_a_model_is_ranked_as_the_list_is(exact_items: int) -> None:
    log = log_of(600)
    serving = Serving({"good": Known("good", np.linspace(1, 0.01, 120, dtype=np.float32))}, {f"i{number}": number for number in range(120)})
    config = EngineConfig(exact_items=exact_items, source_weights=SOURCE_WEIGHTS | {"good": 0.3})
    events, recipe = evenly(log.targets(), 60), replace(recipe_of(**{"cooccurrence.log": 0.3}), extras={"good": (1.5, 0.2)})
    listed = judge(config, log, events, {"own": recipe}, 2, serving=serving).ranks["own"]
    (cases,) = gather(config, log, events, [recipe], serving=serving)
    ranks, found = case_ranks(recipe, cases), np.isfinite(listed)
    assert "good" in cases.extra_names and found.any() and (ranks[~found] > 20).all()
    np.testing.assert_allclose(ranks[found], listed[found], atol=0.51)
