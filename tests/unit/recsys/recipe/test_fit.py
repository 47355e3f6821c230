"""A fit finds what users prefer, stays near its start where there is little to learn from, and gains nothing where there is nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recsys.errors import ShapeError, TooFewInteractions
from recsys.lists.feature_names import FEATURES
from recsys.lists.recipe import RecipeSettings
from recsys.recipe.budget import FitOptions
from recsys.recipe.cases import Cases
from recsys.recipe.fit import blank, case_ranks, fit
from tests.builders import recipe_of

PLANTED = {"popularity.2h": 1.5, "cooccurrence.relative": 1.0, "popularity.all": -1.0}


def cases_of(n: int, seed: int = 0, *, shuffled: bool = False, n_candidates: int = 30) -> Cases:
    """Return cases whose users choose by the planted preferences, or by nothing at all."""
    random = np.random.default_rng(seed)
    features = random.standard_normal((n, n_candidates, len(FEATURES))).astype(np.float32)
    counts = random.integers(n_candidates // 2, n_candidates + 1, n).astype(np.int32)
    liking = (
        features @ recipe_of(**PLANTED).linear + random.gumbel(size=(n, n_candidates)) if not shuffled else random.random((n, n_candidates))
    )
    liking[np.arange(n_candidates) >= counts[:, None]] = -np.inf
    targets = liking.argmax(axis=1).astype(np.int32)
    targets[random.random(n) < 0.1] = -1
    none = np.zeros((n, n_candidates, 0), np.float32)
    return Cases(features, counts, targets, random.integers(0, 50, n), np.arange(n), np.arange(n), np.full((n, 9), np.inf), none)


def hits(recipe: object, cases: Cases) -> float:
    return float((case_ranks(recipe, cases) <= 3).mean())  # type: ignore[arg-type]


@pytest.mark.parametrize("n_hidden", [0, 8])
def test_a_planted_preference_is_found(n_hidden: int) -> None:
    train, newest = cases_of(900), cases_of(600, 1)
    start = blank(train, n_hidden, RecipeSettings())
    found = fit(train, start, FitOptions(prior_scale=1.0))
    best = hits(recipe_of(**PLANTED), newest)
    assert hits(start, newest) < 0.3 < 0.93 * best < hits(found, newest)


def test_all_choices_of_a_case_count_the_same() -> None:
    """The next choices are noise or no candidates, and those that follow are by the planted preferences."""
    train, newest = cases_of(900), cases_of(600, 1)
    start, random = blank(train, 0, RecipeSettings()), np.random.default_rng(2)
    noise = np.where(random.random(900) < 0.5, -1, random.integers(0, train.counts)).astype(np.int32)
    later = np.stack((np.full(900, -1, np.int32), train.targets), axis=1)
    options = FitOptions(prior_scale=1.0)
    of_noise, of_all = fit(replace(train, targets=noise), start, options), fit(replace(train, targets=noise, later=later), start, options)
    assert hits(of_noise, newest) < 0.5 < 0.8 * hits(recipe_of(**PLANTED), newest) < hits(of_all, newest)
    assert fit(replace(train, later=later[:, :1]), start, options).linear == pytest.approx(fit(train, start, options).linear, abs=1e-3)


def test_shuffled_labels_give_no_gain() -> None:
    gains = []
    for seed in range(4):
        train, newest = cases_of(600, seed, shuffled=True), cases_of(800, 100 + seed, shuffled=True)
        start = recipe_of(**{"popularity.all": 0.1})
        gains.append(hits(fit(train, start, FitOptions(seed=seed)), newest) - hits(start, newest))
    assert abs(np.mean(gains)) < 0.02


def test_few_cases_change_little_and_many_change_much() -> None:
    start = recipe_of(**PLANTED)
    moved = []
    for n in (150, 3_000):
        found = fit(cases_of(n, 5, shuffled=True), start, FitOptions(prior_scale=0.02, validation=0.3))
        moved.append(float(np.abs(found.linear - start.linear).max()))
    assert moved[0] < 0.5 * max(moved[1], 0.2)


def test_the_same_input_gives_the_same_recipe() -> None:
    train = cases_of(300)
    one, two = (fit(train, blank(train, 4, RecipeSettings()), FitOptions(epochs=3, seed=7)) for _ in range(2))
    for name, array in one.tensors().items():
        np.testing.assert_array_equal(array, two.tensors()[name])


def test_too_few_cases_are_refused() -> None:
    with pytest.raises(TooFewInteractions, match="needs 100 cases"):
        fit(cases_of(99), recipe_of())


def test_a_training_that_is_stopped_keeps_what_it_has_learnt() -> None:
    train = cases_of(400)
    stopped = fit(train, recipe_of(), FitOptions(), progress=lambda done, message: False)
    assert hits(stopped, train) > hits(recipe_of(), train)


def test_cases_that_do_not_fit_together_are_refused() -> None:
    good = cases_of(10)
    with pytest.raises(ShapeError):
        replace(good, counts=good.counts[:5])
    with pytest.raises(ShapeError):
        replace(good, targets=good.counts.copy())
    with pytest.raises(ShapeError):
        replace(good, later=np.full((9, 2), -1, np.int32))
    with pytest.raises(ShapeError):
        replace(good, later=good.counts[:, None])
    with pytest.raises(ShapeError, match="2 sources without features"):
        replace(good, extra_names=("again", "ials"))


def test_the_weight_of_a_source_without_features_is_learnt() -> None:
    """Whoever may repeat chooses by the source alone, or by the planted preferences alone."""
    cases, random = cases_of(1_500), np.random.default_rng(9)
    shares = (random.random((*cases.features.shape[:2], 1)) * (random.random((*cases.features.shape[:2], 1)) < 0.2)).astype(np.float32)
    start = recipe_of({"again": (0.1, 0.1)}, **PLANTED)
    with_source = replace(cases, extras=np.concatenate((shares, np.zeros_like(shares)), axis=2), extra_names=("again",))
    repeated = np.where(cases.valid, shares[:, :, 0] * 20 + cases.features @ start.linear, -np.inf).argmax(axis=1).astype(np.int32)
    found = fit(replace(with_source, targets=repeated), start)
    assert found.extras["again"][0] > 5.0
    assert hits(found, replace(with_source, targets=repeated)) > hits(start, replace(with_source, targets=repeated)) + 0.3
    assert fit(with_source, start).extras["again"][0] < 0.5


def test_joined_cases_are_those_of_the_blocks() -> None:
    one, two = cases_of(20, n_candidates=10), cases_of(15, 3, n_candidates=24)
    joined, recipe = Cases.joined([one, two]), recipe_of(**PLANTED)
    assert joined.at(slice(3)).of_next_choices().later.shape == (3, 0)
    np.testing.assert_array_equal(case_ranks(recipe, joined), np.concatenate((case_ranks(recipe, one), case_ranks(recipe, two))))


def test_only_the_weights_of_some_sources_are_learnt_where_that_is_asked() -> None:
    """Users follow the first source; of three sources without features two may be learnt, and the third is as strong as the first."""
    random = np.random.default_rng(3)
    train = cases_of(900, 3, shuffled=True)
    shares = random.random((*train.features.shape[:2], 3)).astype(np.float32)
    shares[:, :, 2] = shares[:, :, 0]
    liking = 6 * shares[:, :, 0] + random.gumbel(size=shares.shape[:2])
    liking[~train.valid] = -np.inf
    extras = np.stack((shares, np.log(shares + 1e-3)), axis=3).reshape(*shares.shape[:2], 6)
    names = ("good", "noise", "other")
    cases = replace(train, targets=liking.argmax(axis=1).astype(np.int32), extras=extras, extra_names=names)
    start = replace(recipe_of(**{"popularity.all": 0.1}), extras=dict.fromkeys(names, (0.5, 0.05)))
    found = fit(cases, start, FitOptions(), only=("good", "noise"))
    for name, array in start.tensors().items():
        np.testing.assert_array_equal(found.tensors()[name], array)
    np.testing.assert_allclose(found.extras["other"], start.extras["other"], rtol=1e-6)
    assert found.extras["good"][0] > 4 * found.extras["noise"][0] and found.extras["noise"][0] < 0.5
    assert hits(found, cases) > hits(start, cases) + 0.08
