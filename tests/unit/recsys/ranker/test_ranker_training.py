"""Rankers learn what a log is about, from what was known before each event, and give the same trees for the same input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recsys.engine import EngineConfig
from recsys.errors import ModelError, ShapeError, TooFewInteractions
from recsys.lists.learned.feature_names import FEATURES
from recsys.ranker import boosting
from recsys.ranker.budget import RankerOptions
from recsys.ranker.cases import RankerCases, forest_scores, gather, ranks_by, rejections
from recsys.ranker.rows import LEAST_CASES, divided, log_likelihood
from recsys.ranker.train import fit_ranker, train_ranker
from recsys.recipe.judge import judge
from recsys.recipe.replay import evenly
from tests.builders import recipe_of
from tests.unit.recsys.recipe.test_replay import log_of

N_FEATURES = len(FEATURES)
OPTIONS = RankerOptions(trees=40, leaves=6, learning_rate=0.2, least_rows=10, ridge=1.0, patience=10)


def planted(n_cases: int, weight: float = 1.0, seed: int = 0) -> RankerCases:
    """Return cases whose item is the one with feature 3 above 0.5 and feature 7 below 0, which no recipe says."""
    random = np.random.default_rng(seed)
    features = random.standard_normal((n_cases, 12, N_FEATURES)).astype(np.float32)
    wanted = np.where((features[:, :, 3] > 0.5) & (features[:, :, 7] < 0), 3.0, 0.0) + random.gumbel(size=(n_cases, 12))
    targets = wanted.argmax(axis=1).astype(np.int32)
    counts, users = np.full(n_cases, 12, np.int32), random.integers(0, 30, n_cases)
    scores = -0.01 * np.arange(12, dtype=np.float32) + np.zeros((n_cases, 1), np.float32)
    return RankerCases(features, scores, counts, targets, np.full(n_cases, weight, np.float32), users, np.arange(n_cases))


def test_trees_find_what_two_features_say_together_and_the_same_input_gives_the_same_trees() -> None:
    cases, later = planted(500), planted(200, seed=1)
    ranker = fit_ranker(cases, OPTIONS)
    gain = {name: float((1 / np.log2(1 + ranks_by(later, one))).mean()) for name, one in (("off", None), ("on", ranker))}
    assert gain["on"] > gain["off"] + 0.15
    used = {FEATURES[feature] for feature in ranker.forest.features[ranker.forest.left >= 0].tolist()}
    assert {FEATURES[3], FEATURES[7]} <= used
    again = fit_ranker(cases, OPTIONS)
    assert all(np.array_equal(again.tensors()[name], one) for name, one in ranker.tensors().items())


def test_the_trees_that_serve_are_those_that_were_grown() -> None:
    """Bins of training and thresholds of serving send every candidate the same way."""
    training, newest = divided(planted(400))
    forest = boosting.fit(training, newest, OPTIONS)
    assert forest is not None
    ranker = fit_ranker(planted(400), OPTIONS)
    cases = planted(400)
    last = cases.at(slice(320, 400))
    scores = (last.scores + forest_scores(ranker, last.features)).ravel()
    assert log_likelihood(newest, scores) > log_likelihood(newest, newest.scores) + 0.05


def test_what_users_rejected_ranks_lower() -> None:
    cases = planted(500)
    rows = divided(replace(cases, weights=np.where(np.arange(500) < 400, -cases.weights, cases.weights)))[0]
    slopes, curves = np.zeros((2, 24), np.float32)
    boosting.boosting_kernel.gradients(rows.scores[:24], rows.starts[:3], rows.targets[:2], rows.weights[:2], slopes, curves)
    assert (slopes[rows.targets[:2]] > 0).all() and (np.delete(slopes, rows.targets[:2]) < 0).all() and (curves >= 0).all()


def test_gradients_are_those_of_the_likelihood() -> None:
    rows, _ = divided(planted(150))
    slopes, curves = np.zeros((2, len(rows.scores)), np.float32)
    boosting.boosting_kernel.gradients(rows.scores, rows.starts, rows.targets, rows.weights, slopes, curves)
    for row in (0, int(rows.targets[0]), 17):
        step = np.zeros_like(rows.scores)
        step[row] = 0.05
        slope = (log_likelihood(rows, rows.scores - step) - log_likelihood(rows, rows.scores + step)) * len(rows) / 0.1
        assert slope == pytest.approx(float(slopes[row]), abs=0.02)


def test_noise_and_few_cases_make_no_ranker() -> None:
    cases = planted(400)
    noise = replace(cases, targets=np.random.default_rng(5).integers(0, 12, 400).astype(np.int32))
    with pytest.raises(TooFewInteractions, match="no tree"):
        fit_ranker(noise, replace(OPTIONS, trees=3, learning_rate=1.0, leaves=32, least_rows=1, ridge=0.0))
    with pytest.raises(TooFewInteractions, match=f"needs {LEAST_CASES} cases"):
        fit_ranker(planted(80))
    with pytest.raises(ShapeError, match="do not fit together"):
        replace(cases, counts=cases.counts[:3])


@pytest.mark.parametrize("exact_items", [10_000, 10], ids=["small", "large"])
def test_what_comes_later_changes_no_case_and_one_event_earlier_does(exact_items: int) -> None:
    log, config = log_of(600), EngineConfig(exact_items=exact_items)
    events = evenly(log.targets()[20:], 30)
    events = events[events < 450]
    whole, cut = gather(config, log, events, size=50), gather(config, log.first(int(events[-1]) + 1), events, size=50)
    assert len(whole) == len(cut) > 10
    np.testing.assert_array_equal(whole.targets, cut.targets)
    np.testing.assert_allclose(whole.features, cut.features, atol=1e-5)
    times_s, items = log.times_s.copy(), log.items.copy()
    items[events[-1] :], times_s[events[-1] + 1 :] = (items[events[-1] :] + 1) % 120, times_s[events[-1] + 1 :] + 9_999
    other = gather(config, replace(log, items=items, times_s=times_s), events, size=50)
    np.testing.assert_allclose(whole.features, other.features, atol=1e-5)  # the event itself and all after it
    earlier = gather(config, replace(log, users=log.users.copy()), events - 1, size=50)
    assert not np.allclose(whole.features, earlier.features, atol=1e-3)


def test_a_trained_ranker_lists_what_it_scores_and_beats_a_recipe_that_misses_the_point() -> None:
    log, config = log_of(2_500), EngineConfig()
    targets = log.targets()
    cut = int(0.75 * len(targets))
    start = recipe_of(**{"popularity.all": 1.0})
    ranker = train_ranker(config, log.first(int(targets[cut])), start, replace(OPTIONS, cases=500), among=targets[:cut])
    newest = evenly(targets[cut:], 120)
    judged = judge(config, log, newest, {"off": start, "on": start}, 2, rankers={"on": ranker})
    assert judged.ndcg("on").mean() > 1.3 * judged.ndcg("off").mean()
    cases = gather(config, log, newest, start)
    ranks, listed = ranks_by(cases, ranker), judged.ranks["on"]
    found = np.isfinite(listed)
    np.testing.assert_allclose(ranks[found], listed[found], atol=1.01)  # equal scores share their mean rank


def test_rejections_are_of_known_users_and_items_and_options_are_checked() -> None:
    log = log_of(500)
    weights = log.weights.copy()
    weights[[0, 1, 430, 440]] = -32
    assert rejections(replace(log, weights=weights)).tolist() == [430, 440]
    with pytest.raises(ModelError, match="did you mean leaves"):
        RankerOptions.of({"leafs": 3}, 0)
    with pytest.raises(ModelError, match="leaves"):
        RankerOptions(leaves=33)
