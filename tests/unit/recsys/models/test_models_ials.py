from __future__ import annotations

import numpy as np
import pytest
import torch

from recsys.errors import ShapeError
from recsys.models.base import Histories
from recsys.models.ials import model as ials
from recsys.models.training_set import TrainingSet
from tests.unit.recsys.models.model_cases import clustered


def random_model(n_items: int = 40, factors: int = 8, **options: float) -> ials.IALSModel:
    vectors = np.random.default_rng(0).normal(size=(n_items, factors)).astype(np.float32)
    return ials.IALSModel(ials.IALSConfig(factors=factors, **options), [str(i) for i in range(n_items)], vectors)  # type: ignore[arg-type]


def test_fold_in_solves_the_ridge_system_of_the_paper() -> None:
    model = random_model(frequency_exponent=0.7)
    random = np.random.default_rng(1)
    items = np.stack([random.permutation(40)[:12] for _ in range(7)]).astype(np.int32)
    weights = random.uniform(-1, 2, (7, 12)).astype(np.float32)
    items[random.random(items.shape) < 0.3] = -1
    found = model.encode(Histories(items, weights, np.zeros_like(weights)))
    y, config = model.item_vectors.astype(np.float64), model.settings
    for row in range(7):
        known = items[row] >= 0
        chosen, w = y[items[row, known]], weights[row, known].astype(np.float64)
        ridge = config.ridge * (known.sum() + config.alpha * 40) ** config.frequency_exponent
        system = config.alpha * y.T @ y + (chosen * np.abs(w)[:, None]).T @ chosen + ridge * np.eye(8)
        expected = np.linalg.solve(system, chosen.T @ np.maximum(w, 0))
        np.testing.assert_allclose(found[row], expected, rtol=1e-3, atol=1e-4)


def test_a_dislike_lowers_the_score_of_its_item() -> None:
    model = random_model()
    items = np.array([[3, 5, 7], [3, 5, 7]], np.int32)
    weights = np.array([[1, 1, 1], [1, 1, -1]], np.float32)
    scores = model.encode(Histories(items, weights, np.zeros_like(weights))) @ model.item_vectors.T
    assert scores[1, 7] < scores[0, 7]


def plain_fit(interactions: TrainingSet, config: ials.IALSConfig) -> np.ndarray:
    """Train the same factorisation with each row's system formed and solved on its own in 64 bits."""
    weights = np.zeros((interactions.n_users, interactions.n_items))
    weights[interactions.users, interactions.items] = interactions.weights
    generator = torch.Generator().manual_seed(config.seed)
    items = torch.randn((interactions.n_items, config.factors), generator=generator).numpy() * 0.1 / config.factors**0.5
    for _ in range(config.epochs):
        items = plain_half_sweep(weights.T, plain_half_sweep(weights, items, config), config)
    return items


def plain_half_sweep(weights: np.ndarray, fixed: np.ndarray, config: ials.IALSConfig) -> np.ndarray:
    solved = np.zeros((len(weights), config.factors))
    for row, w in enumerate(weights):
        ridge = config.ridge * ((w != 0).sum() + config.alpha * len(fixed)) ** config.frequency_exponent
        system = fixed.T @ ((config.alpha + np.abs(w))[:, None] * fixed) + ridge * np.eye(config.factors)
        solved[row] = np.linalg.solve(system, fixed.T @ np.maximum(w, 0))
    return solved


def test_training_is_that_of_systems_solved_one_by_one() -> None:
    interactions = clustered(n_users=60)
    pairs = interactions.last_of_pairs()
    weights = np.random.default_rng(0).choice([1.0, 0.5, -1.0], len(pairs), p=[0.6, 0.3, 0.1]).astype(np.float32)
    pairs = TrainingSet(pairs.users, pairs.items, weights, pairs.ts_ms, pairs.item_ids, pairs.n_users)
    given = {"factors": 8, "epochs": 4, "unobserved_weight": 0.2, "regularisation": 0.006}
    config = ials.IALSConfig(**given, tolerance=1e-6)  # type: ignore[arg-type]
    expected = plain_fit(pairs, config)
    found = ials.fit(pairs, config).item_vectors
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()
    shipped = ials.fit(pairs, ials.IALSConfig(**given)).item_vectors  # type: ignore[arg-type]
    assert np.abs(shipped - expected).max() < 0.02 * np.abs(expected).max()


def test_training_ends_where_user_and_item_solves_agree() -> None:
    interactions = clustered(n_users=60)
    model = ials.fit(interactions, ials.IALSConfig(factors=8, epochs=60, search_share=0))
    weights = np.zeros((interactions.n_users, interactions.n_items))
    pairs = interactions.last_of_pairs()
    weights[pairs.users, pairs.items] = pairs.weights
    users = plain_half_sweep(weights, model.item_vectors.astype(np.float64), model.settings)
    items = plain_half_sweep(weights.T, users, model.settings)
    assert np.abs(items - model.item_vectors).max() < 0.05 * np.abs(items).max()


def test_only_the_newest_of_repeated_interactions_counts() -> None:
    repeated = TrainingSet.from_columns(
        np.array([0, 0, 1]), np.array([0, 0, 1]), ["a", "b"], np.array([1, -1, 1], np.float32), np.array([1, 2, 3])
    )
    newest = repeated.last_of_pairs()
    assert newest.items.tolist() == [0, 1]
    assert newest.weights.tolist() == [-1.0, 1.0]


def test_vectors_of_another_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match="item vectors"):
        ials.IALSModel(ials.IALSConfig(factors=8), ["a"], np.zeros((2, 8), np.float32))
