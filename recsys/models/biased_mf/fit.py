"""Training of matrix factorisation with biases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from recsys.errors import ModelError
from recsys.models.base import F32, Model
from recsys.models.biased_mf import kernel
from recsys.models.biased_mf.config import IMPLICIT_RIDGE, IMPLICIT_WEIGHT, RATED_RIDGE, BiasedMFConfig
from recsys.models.biased_mf.model import BiasedMFModel, System
from recsys.models.factor_model import Rows, check_converged, earlier_of, learnable, warmed
from recsys.models.training import Progress, go_on
from recsys.models.training_set import TrainingSet

_SPREAD = 0.1
"""Standard deviation of the factors that training starts from, times the square root of their number."""


def fit(
    interactions: TrainingSet, config: BiasedMFConfig, progress: Progress | None = None, warm_start: Model | None = None
) -> BiasedMFModel:
    """Read weights of interactions as ratings r, and minimise Σ (r − r̂)² + α₀ Σ_all r̂² + λ (Σ_u (n_u + α₀ I) ‖x_u‖² + Σ_i (n_i + α₀ U)
    ‖y_i‖²) with r̂ = μ + b_u + b_i + p_u · q_i, x = (p, b_u) and y = (q, b_i).

    A dislike is a rating below 0. The newest rating of a pair counts. A warm start takes the earlier model's vectors of items that both
    know. `progress` may stop the training after any sweep. The same seed gives the same model on one machine.
    Raises: TooFewInteractions without a preference; ModelError for weights that are not finite, if the steps of `sgd` diverge, and if it
    finds only ratings of one value.
    Source: Koren, Bell & Volinsky 2009; ridge by the number of ratings as in Zhou, Wilkinson, Schreiber & Pan 2008; all other pairs as
    ratings of 0 as in Hu, Koren & Volinsky 2008.
    """
    entries = learnable(interactions, config.history_length, "biased_mf")
    config = _settled(entries, config)
    n_pairs = entries.n_users * entries.n_items
    mean = float(entries.weights.sum(dtype=np.float64) / (len(entries) + (config.unobserved_weight or 0.0) * n_pairs))
    chance = np.random.default_rng(config.seed & 0xFFFFFFFF)
    items = chance.normal(0, _SPREAD / config.factors**0.5, (entries.n_items, config.factors + 1)).astype(np.float32)
    items[:, -1] = mean
    earlier = earlier_of(BiasedMFModel, warm_start)
    epochs = config.epochs if warmed(items, entries.item_ids, earlier) < 0.5 else -(-config.epochs // 3)
    items[:, -1] -= np.float32(mean)
    if config.solver == "als":
        _alternate(entries, config, mean, epochs, progress, items)
    else:
        _descend(entries, config, mean, epochs, progress, items, chance)
    check_converged("biased_mf", items)
    items[:, -1] += np.float32(mean)
    return BiasedMFModel(config, entries.item_ids, items)


def _settled(entries: TrainingSet, config: BiasedMFConfig) -> BiasedMFConfig:
    """Return the configuration with α₀ and λ. Raises: ModelError for ratings of one value alone."""
    is_constant = bool(np.ptp(entries.weights) <= 1e-6 * np.abs(entries.weights).max())
    if config.unobserved_weight is None:
        config = replace(config, unobserved_weight=IMPLICIT_WEIGHT if is_constant and config.solver == "als" else 0.0)
    if config.regularisation is None:
        config = replace(config, regularisation=IMPLICIT_RIDGE if is_constant else RATED_RIDGE)
    if is_constant and not config.unobserved_weight:
        raise ModelError(
            "biased_mf: all ratings have one value, from which nothing can be learnt; set solver to als, and unobserved_weight above 0"
        )
    return config


def _alternate(
    entries: TrainingSet, config: BiasedMFConfig, mean: float, epochs: int, progress: Progress | None, items: F32
) -> None:
    """Solve users and items in turn; `items` (I, D + 1) are factors and biases, and are overwritten."""
    by_user = Rows.of_training(entries)
    matrix = sparse.csr_array((entries.weights, entries.items, by_user.starts), shape=(entries.n_users, entries.n_items)).tocsc()
    by_item = Rows(matrix.indices.astype(np.int32), matrix.data.astype(np.float32), matrix.indptr.astype(np.int64))
    users = np.zeros((entries.n_users, config.factors + 1), np.float32)
    for epoch in range(epochs):
        System.of(items, config, mean).solve(by_user, users)
        System.of(users, config, mean).solve(by_item, items)
        if not go_on(progress, (epoch + 1) / epochs, f"biased_mf: sweep {epoch + 1} of {epochs}"):
            break


def _descend(
    entries: TrainingSet,
    config: BiasedMFConfig,
    mean: float,
    epochs: int,
    progress: Progress | None,
    items: F32,
    chance: np.random.Generator,
) -> None:
    """Take one step for each rating, in a new order in each pass; users begin at their best for the items."""
    users = np.zeros((entries.n_users, config.factors + 1), np.float32)
    if epochs < config.epochs:
        System.of(items, config, mean).solve(Rows.of_training(entries), users)
    for epoch in range(epochs):
        order, step = chance.permutation(len(entries)), np.float32(config.learning_rate * (1 - epoch / epochs))
        ratings = entries.users, entries.items, entries.weights, np.float32(mean)
        kernel.descend(order, *ratings, step, np.float32(config.ridge), users, items)
        if not go_on(progress, (epoch + 1) / epochs, f"biased_mf: pass {epoch + 1} of {epochs}"):
            break
