"""Bayesian personalised ranking: item vectors that place what a user likes above what the user has not touched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ShapeError
from recsys.models.base import F32, I32, Model
from recsys.models.bpr import kernel
from recsys.models.bpr.config import BPRConfig
from recsys.models.checks import known_options
from recsys.models.factor_model import I64, FactorModel, Rows, check_converged, earlier_of, learnable, warmed
from recsys.models.random_kernel import aliases, first_state
from recsys.models.training import Progress, go_on
from recsys.models.training_set import TrainingSet

_SPREAD = 0.1
"""Standard deviation of the factors that training starts from, times the square root of their number."""


class BPRModel(FactorModel):
    """Item factors and biases (I, D + 1), and how many users like each item, by which negatives are drawn."""

    kind: ClassVar[str] = "bpr"
    options = BPRConfig

    def __init__(self, settings: BPRConfig, item_ids: list[str], item_vectors: F32, item_counts: I64) -> None:
        super().__init__(settings, item_ids, item_vectors)
        if item_counts.shape != (len(item_ids),):
            raise ShapeError(f"item counts have shape {item_counts.shape}, expected {(len(item_ids),)}")
        self.item_counts: I64 = np.ascontiguousarray(item_counts, np.int64)
        self._kept, self._others = negatives_of(self.item_counts, settings)

    @classmethod
    def dimensions(cls, settings: Any) -> int:
        """Return D: a bias beside the factors."""
        return int(settings.factors) + 1

    def tensors(self) -> dict[str, NDArray[Any]]:
        return {"item_vectors": self.item_vectors, "item_counts": self.item_counts}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], item_ids: list[str], tensors: Mapping[str, NDArray[Any]]) -> Self:
        settings = BPRConfig(**known_options(BPRConfig, config))
        vectors = np.asarray(tensors["item_vectors"], np.float32)
        return cls(settings, item_ids, vectors, np.asarray(tensors["item_counts"], np.int64))

    def fold_in(self, rows: Rows, out: F32) -> None:
        """Learn users' vectors by the steps of training against fixed items: as many for each history, from 0, with the same draws."""
        config = self.settings
        step, ridge = np.float32(config.learning_rate), np.float32(config.regularisation)
        counts, rates = (config.drawn, config.fold_in_passes), (step, ridge)
        kernel.fold_in(*rows, self._kept, self._others, *counts, *rates, first_state(config.seed), self.item_vectors, out)


def negatives_of(item_counts: I64, config: BPRConfig) -> tuple[F32, I32]:
    """Return the table by which negatives are drawn (`recsys.models.random_kernel.aliases`)."""
    return aliases(np.maximum(item_counts, 1).astype(np.float64) ** config.negative_exponent)


def fit(interactions: TrainingSet, config: BPRConfig, progress: Progress | None = None, warm_start: Model | None = None) -> BPRModel:
    """Maximise Σ ln σ(x_ui − x_uj) − λ/2 (‖p‖² + ‖q‖² + b²) over users u, what they like i and drawn items j that they have not touched,
    x_ui = p_u · q_i + b_i, by gradient steps.

    A preference counts as much as its weight. A dislike is a j that is compared with what its user likes. A warm start takes the earlier
    model's vectors of items that both know. `progress` may stop the training after any pass. The same seed gives the same model.
    Raises: TooFewInteractions without a preference; ModelError for weights that are not finite, and if the steps diverge.
    Source: Rendle, Freudenthaler, Gantner & Schmidt-Thieme 2009; the hardest of several negatives: Zhang, Chen, Wang & Yu 2013.
    """
    entries = learnable(interactions, config.history_length, "bpr")
    rows, chance = Rows.of_training(entries), np.random.default_rng(config.seed & 0xFFFFFFFF)
    item_vectors = chance.normal(0, _SPREAD / config.factors**0.5, (entries.n_items, config.factors + 1)).astype(np.float32)
    item_vectors[:, -1] = 0
    counts, epochs = rows.item_counts(entries.n_items), config.epochs
    user_vectors = np.zeros((entries.n_users, config.factors + 1), np.float32)
    if warmed(item_vectors, entries.item_ids, earlier_of(BPRModel, warm_start)) >= 0.5:
        epochs = -(-config.epochs // 3)
        BPRModel(config, entries.item_ids, item_vectors, counts).fold_in(rows, user_vectors)
    user_vectors[:, -1] = 1
    kept, others = negatives_of(counts, config)
    touched = entries.items[np.lexsort((entries.items, entries.users))]
    state, ridge = first_state(config.seed), np.float32(config.regularisation)
    for run in range(epochs):
        order, step = chance.permutation(len(entries)), np.float32(config.learning_rate * (1 - run / epochs))
        columns = order, entries.users, *rows, touched, kept, others
        rates = config.drawn, step, ridge
        state = np.uint64(kernel.epoch(*columns, *rates, state, user_vectors, item_vectors))  # compiled code returns a plain number
        if not go_on(progress, (run + 1) / epochs, f"bpr: pass {run + 1} of {epochs}"):
            break
    check_converged("bpr", item_vectors)
    return BPRModel(config, entries.item_ids, item_vectors, counts)
