"""Training of NeuMF: some preferences of a user are predicted from the others."""

from __future__ import annotations

import numpy as np
import torch

from recsys.models.adam import Adam
from recsys.models.base import Histories, Model
from recsys.models.checkpoint import Checkpoints, Tensors, fingerprint
from recsys.models.cuts import Batch, cut, newest
from recsys.models.epochs import copy_known, train_epochs
from recsys.models.held_back import HeldBack, hold_back
from recsys.models.lightgcn.training import preferences_of
from recsys.models.neumf.config import NeuMFConfig
from recsys.models.neumf.model import NeuMFModel
from recsys.models.neumf.pairs import Pairs
from recsys.models.row_adam import RowAdam
from recsys.models.sampled_softmax import Competition, loss_of_logits
from recsys.models.training import Progress
from recsys.models.training_set import TrainingSet

_TABLES = ("items", "read", "wide_items", "wide_read")


def fit(
    interactions: TrainingSet,
    config: NeuMFConfig,
    progress: Progress | None = None,
    warm_start: Model | None = None,
    checkpoints: Checkpoints | None = None,
) -> NeuMFModel:
    """Train on the preferences (weight > 0), each item of a user once; their weights are not used.

    In each epoch every user is looked at `cuts` times, and `targets` preferences are predicted from others, as `reads` says. The loss is
    the cross-entropy of `recsys.models.sampled_softmax`, instead of the published one of single drawn items. A preference of some users is
    held back, and the numbers of the epoch with the best NDCG@10 on these are the result; with `config.fixed_epochs` nothing is held back
    and the last epoch counts. A warm start takes what both know. `progress` may stop the training after any epoch. The same seed gives the
    same model on one machine.
    With `checkpoints` the training goes on from the newest one, and makes others.
    Raises: TooFewInteractions without a user with two preferences, ModelError for weights that are not finite.
    """
    entries = preferences_of(interactions, 1 << 30, "neumf")
    chance = np.random.default_rng(config.seed)
    is_warm = isinstance(warm_start, NeuMFModel)
    training, held = entries, None
    if not config.fixed_epochs:
        training, held = hold_back(entries, config.validation_users, chance, is_warm=is_warm, newest=config.reads == "before")
    if np.diff(training.user_starts()).max(initial=0) < 2:
        training, held = entries, None
    trained = Pairs.random(entries.n_items, config.factors, config.hidden, config.seed)
    if isinstance(warm_start, NeuMFModel):
        copy_known(trained._asdict(), entries.item_ids, warm_start.trained._asdict(), warm_start.item_ids, _TABLES)
    run, which = _Run(trained, training, held, config, chance), fingerprint("neumf", config, entries, [np.array([is_warm])])
    train_epochs("neumf", run, config.fixed_epochs or config.max_epochs, config.patience, which, progress, checkpoints)
    return NeuMFModel(config, entries.item_ids, trained.copied())


class _Run:
    """One training: its numbers, and what moves them."""

    def __init__(
        self, trained: Pairs, training: TrainingSet, held: HeldBack | None, config: NeuMFConfig, chance: np.random.Generator
    ) -> None:
        self._trained, self._training, self._held, self._config, self.chance = trained, training, held, config, chance
        self._histories = None if held is None else newest(training, held.users, config.history_length)
        counts = np.bincount(training.items, minlength=training.n_items)
        self._competition = Competition(counts, config.compared_above, config.negatives)
        self._optimiser = Adam([tensor.requires_grad_() for tensor in trained], config.learning_rate)
        self.optimisers: dict[str, Adam | RowAdam] = {"adam": self._optimiser}
        self.weights: Tensors = {name: tensor.detach() for name, tensor in trained._asdict().items()}

    def epoch(self) -> tuple[float, int]:
        """Take the steps of an epoch; return the mean loss and the number of targets."""
        losses, n_targets = [], 0
        for batch in cut(self._training, self._config, self.chance):
            losses.append(_step(self._trained, self._optimiser, batch, self._competition, self._config, self.chance))
            n_targets += len(batch.targets)
        return float(np.mean(losses)), n_targets

    def ndcg(self) -> float | None:
        """Return NDCG@10 of the held-back preferences; None without any."""
        if self._held is None or self._histories is None:
            return None
        return _ndcg(NeuMFModel(self._config, self._training.item_ids, self._trained), self._held, self._histories)


def _ndcg(model: NeuMFModel, held: HeldBack, histories: Histories) -> float:
    vectors = model.encode(histories)
    return held.ndcg_by(lambda rows: model.scores_of(vectors[rows]), len(model.item_ids))


def _step(
    trained: Pairs, optimiser: Adam, batch: Batch, competition: Competition, config: NeuMFConfig, chance: np.random.Generator
) -> float:
    """Move the numbers by a batch; return the loss."""
    optimiser.clear()
    compared = competition.of(batch.targets, chance)
    logits = trained.logits(trained.users(batch.items.astype(np.int64), batch.lengths), compared.items)
    loss = loss_of_logits(logits, torch.from_numpy(batch.rows), compared.places(batch.targets), compared.log_shares)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    if config.regularisation:
        with torch.no_grad():
            for name in _TABLES:
                trained._asdict()[name].mul_(1 - config.learning_rate * config.regularisation)
    return float(loss.detach())
