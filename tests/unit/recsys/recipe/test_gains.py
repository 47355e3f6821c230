"""The gain of a model is what lists lose when all others are weighed without it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recsys.errors import ShapeError
from recsys.evaluation.user_scores import UserScores
from recsys.lists.recipe import RecipeSettings
from recsys.recipe import gains
from recsys.recipe.budget import FitOptions, TrainOptions
from recsys.recipe.cases import Cases
from recsys.recipe.fit import blank, case_ranks
from recsys.recipe.gains import ListGain, forgotten, least_useful, silenced, with_and_without_models
from tests.unit.recsys.recipe.test_fit import cases_of

CONFIG = SimpleNamespace(source_weights={"good": 1.0, "twin": 1.0, "idle": 1.0})


def signalled(kinds: tuple[str, ...], n: int = 160) -> Cases:
    """Return cases whose targets the models `good` and `twin` see alike, and `idle` does not."""
    plain, chance = cases_of(n, shuffled=True), np.random.default_rng(0)
    seen = (0.5 * chance.random((n, 30))).astype(np.float32)
    rows = np.flatnonzero(plain.targets >= 0)
    seen[rows, plain.targets[rows]] = 1.0
    of_kind = {"good": seen, "twin": seen, "idle": chance.random((n, 30)).astype(np.float32)}
    extras = np.stack([of_kind[kind] for kind in kinds for _ in range(2)], axis=2)
    return replace(plain, extras=extras, extra_names=kinds)


def found(monkeypatch: pytest.MonkeyPatch, *kinds: str) -> tuple[Cases, Any, dict[str, Any]]:
    cases = signalled(kinds)
    monkeypatch.setattr(gains, "gather", lambda *given: [cases])
    serving: Any = SimpleNamespace(models=dict.fromkeys(kinds))
    log: Any = None
    config: Any = CONFIG
    start = blank(cases, 0, RecipeSettings())
    options = TrainOptions(fit=FitOptions(epochs=8, batch_cases=64, extras_learning_rate=0.3))
    return cases, *with_and_without_models(config, log, np.arange(len(cases)), start, serving, options)


def places(recipe: Any, cases: Cases) -> float:
    ranks = case_ranks(recipe, cases)
    return float((1 / ranks[np.isfinite(ranks)]).mean())


def test_a_twin_stands_in_for_a_model_and_noise_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    cases, whole, without = found(monkeypatch, "good", "twin")
    assert set(without) == {"good", "twin"} and all(without[kind].extras[kind] == (0.0, 0.0) for kind in without)
    best = places(whole, cases)
    assert best > 0.9
    assert all(places(without[kind], cases) > 0.95 * best for kind in without), "the other one was weighed without it"
    _, alone, _ = found(monkeypatch, "twin")
    assert without["good"].extras["twin"] == pytest.approx(alone.extras["twin"], rel=1e-3), "as if there were no other"
    cases, whole, without = found(monkeypatch, "good", "idle")
    assert places(without["good"], cases) < 0.5 * places(whole, cases)
    assert places(without["idle"], cases) > 0.95 * places(whole, cases)


def test_nothing_stands_in_for_the_only_model(monkeypatch: pytest.MonkeyPatch) -> None:
    cases, whole, without = found(monkeypatch, "good")
    assert without["good"].extras["good"] == (0.0, 0.0)
    assert places(without["good"], cases) < 0.5 * places(whole, cases)


def test_a_forgotten_model_has_the_weight_of_the_settings_again() -> None:
    extras = {"good": (1.0, 2.0), "good@5": (1.0, 1.0), "twin": (3.0, 3.0)}
    recipe = replace(blank(signalled(("good",)), 0, RecipeSettings()), extras=extras)
    assert silenced(recipe, "good").extras == {"twin": (3.0, 3.0), "good": (0.0, 0.0)}
    assert forgotten(recipe, "good").extras == {"twin": (3.0, 3.0)}


def scores(ranks: list[float]) -> UserScores:
    return UserScores.of(np.arange(len(ranks)), np.array(ranks))


def test_a_gain_is_the_mean_difference_with_the_interval_of_users() -> None:
    first, none = scores([1.0] * 40), scores([np.inf] * 40)
    assert ListGain.of(first, none, 0) == ListGain(1.0, 1.0, 1.0)
    assert ListGain.of(none, first, 0).mean == -1.0
    half = ListGain.of(scores([1.0, np.inf] * 20), none, 0)
    assert half.mean == 0.5 and 0.25 < half.low < 0.45 < 0.55 < half.high < 0.75
    with pytest.raises(ShapeError):
        ListGain.of(first, scores([1.0]), 0)


def test_the_least_useful_kind_is_one_that_surely_adds_less_than_its_share() -> None:
    by_kind = {"good": ListGain(0.05, 0.04, 0.06), "unsure": ListGain(0.0, -0.02, 0.02), "idle": ListGain(0.0, -0.001, 0.001)}
    assert least_useful(by_kind, 0.2, 0.01) == "idle", "0.001 is less than a hundredth of 0.2"
    assert least_useful(by_kind, 0.2, 0.2) == "unsure" or least_useful(by_kind, 0.2, 0.2) == "idle"
    assert least_useful(by_kind | {"harm": ListGain(-0.03, -0.04, -0.02)}, 0.2, 1e-9) == "harm"
    assert least_useful(by_kind, 0.2, 1e-9) is None, "none of them surely does harm"
    assert least_useful({}, 0.2, 0.5) is None
