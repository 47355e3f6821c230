"""Trees of LightGBM score as LightGBM does, and learn what was planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recsys.errors import ModelError
from recsys.lists.learned.forest import Forest
from recsys.lists.learned.forest_kernel import add_scores
from recsys.ranker.by_lightgbm import fit, tree_of
from recsys.ranker.cases import forest_scores, ranks_by
from recsys.ranker.rows import divided
from recsys.ranker.train import fit_ranker
from tests.unit.recsys.ranker.test_ranker_training import OPTIONS, planted

lightgbm = pytest.importorskip("lightgbm")


def test_scores_are_those_of_lightgbm_also_on_thresholds() -> None:
    random = np.random.default_rng(0)
    features = np.round(random.standard_normal((4_000, 9)), 2).astype(np.float32)
    target = (features[:, 2] > 0.31) + features[:, 5] * (features[:, 1] <= -0.2) + 0.1 * random.standard_normal(4_000)
    parameters = {"num_leaves": 31, "verbosity": -1, "use_missing": False, "seed": 0, "num_threads": 1, "boost_from_average": False}
    booster = lightgbm.train(parameters, lightgbm.Dataset(features, target), 60)
    forest = Forest.joined([tree_of(tree["tree_structure"]) for tree in booster.dump_model()["tree_info"]])
    later = np.concatenate([features, np.float32(forest.thresholds[:, None]) + np.zeros((1, 9), np.float32)])
    scores = np.zeros(len(later), np.float32)
    add_scores(forest.compiled(), np.ascontiguousarray(later.T), scores)
    np.testing.assert_allclose(scores, booster.predict(later), rtol=1e-5, atol=1e-5)


def test_a_ranker_of_lightgbm_learns_on_top_of_the_recipe_and_needs_no_lightgbm_to_serve() -> None:
    cases, later = planted(500), planted(200, seed=1)
    options = replace(OPTIONS, learner=1)
    ranker = fit_ranker(cases, options)
    assert ranker.learner == "lightgbm" and forest_scores(ranker, later.features).std() > 0.1
    off, on = (float((1 / np.log2(1 + ranks_by(later, one))).mean()) for one in (None, ranker))
    assert on > off + 0.15
    assert all(np.array_equal(one, fit_ranker(cases, options).tensors()[name]) for name, one in ranker.tensors().items())


def test_a_split_that_is_no_comparison_is_refused() -> None:
    leaf = {"leaf_value": 0.0}
    split = {"split_feature": 0, "threshold": 1.0, "decision_type": "==", "internal_value": 0.0, "left_child": leaf, "right_child": leaf}
    with pytest.raises(ModelError, match="no comparison"):
        tree_of(split)


def test_nothing_to_gain_gives_no_trees() -> None:
    cases = planted(300)
    noise = replace(cases, targets=np.random.default_rng(3).integers(0, 12, 300).astype(np.int32))
    found = fit(*divided(noise), OPTIONS)
    assert found is None or len(found) <= OPTIONS.trees
