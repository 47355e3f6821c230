"""Incremental SGD: the online baseline, which reads every preference once, in the order of time."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from recsys.errors import ModelError, TooFewInteractions
from recsys.models.base import F32, I32, Model
from recsys.models.factor_model import FactorModel, Rows, check_converged, earlier_of, warmed
from recsys.models.isgd import kernel
from recsys.models.isgd.config import ISGDConfig
from recsys.models.training import Progress, go_on
from recsys.models.training_set import TrainingSet

_SPREAD = 0.1
"""Standard deviation of the vectors of items that nobody has touched."""
_PARTS = 20
"""Reports of progress in one pass."""


class ISGDModel(FactorModel):
    """Item vectors (I, D), after the newest preference."""

    kind: ClassVar[str] = "isgd"
    options = ISGDConfig

    def fold_in(self, rows: Rows, out: F32) -> None:
        """Move users' vectors from 0 by the steps of training over their histories, against fixed items."""
        config = self.settings
        kernel.fold_in(*rows, config.steps, np.float32(config.learning_rate), np.float32(config.regularisation), self.item_vectors, out)


def fit(interactions: TrainingSet, config: ISGDConfig, progress: Progress | None = None, warm_start: Model | None = None) -> ISGDModel:
    """Read the preferences once in the order of time, and move both vectors of each by η (err · other − λ own), err = w (1 − p_u · q_i).

    A warm start goes on: it takes the earlier model's vectors, folds in what that model was trained on, and learns only from the
    interactions that are `unseen`, all if they are not marked. `progress` may stop the pass. The same seed gives the same model.
    Raises: TooFewInteractions without a preference; ModelError for weights that are not finite, and if the steps diverge.
    Source: Vinagre, Jorge & Gama 2014, algorithm 2; negatives that have waited longest, for the user alone: Vinagre, Jorge & Gama 2015.
    """
    if not np.isfinite(interactions.weights).all():
        raise ModelError("isgd: the weights of interactions must be finite numbers; leave those out that are not")
    liked = interactions.positive()
    if not len(liked):
        raise TooFewInteractions(f"isgd: none of {len(interactions)} interactions is a preference")
    chance, n_items = np.random.default_rng(config.seed & 0xFFFFFFFF), liked.n_items
    item_vectors = chance.normal(0, _SPREAD, (n_items, config.factors)).astype(np.float32)
    user_vectors = np.zeros((liked.n_users, config.factors), np.float32)
    before, after = _empty_queue(n_items)
    news = np.ones(len(liked), bool)
    if warmed(item_vectors, liked.item_ids, earlier_of(ISGDModel, warm_start)) and liked.unseen is not None:
        news = liked.unseen
        known = TrainingSet(
            liked.users[~news], liked.items[~news], liked.weights[~news], liked.ts_ms[~news], liked.item_ids, liked.n_users
        )
        ISGDModel(config, liked.item_ids, item_vectors).fold_in(Rows.of_training(known.entries(config.history_length)), user_vectors)
    order = np.flatnonzero(news)[np.argsort(liked.ts_ms[news], kind="stable")]
    step, ridge = np.float32(config.learning_rate), np.float32(config.regularisation)
    for at, part in enumerate(np.array_split(order, _PARTS)):
        columns = liked.users[part], liked.items[part], liked.weights[part], config.steps, config.negatives
        kernel.learn(*columns, step, ridge, before, after, user_vectors, item_vectors)
        if not go_on(progress, (at + 1) / _PARTS, f"isgd: read {100 * (at + 1) // _PARTS} % of {len(order):,} preferences"):
            break
    check_converged("isgd", item_vectors)
    return ISGDModel(config, liked.item_ids, item_vectors)


def _empty_queue(n_items: int) -> tuple[I32, I32]:
    """Return a queue without items, as `kernel.learn` reads it: two (I + 1,)."""
    before, after = np.full(n_items + 1, -1, np.int32), np.full(n_items + 1, -1, np.int32)
    before[-1] = after[-1] = n_items
    return before, after
