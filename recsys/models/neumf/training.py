"""Training of NeuMF: some preferences of a user are predicted from the others."""

from __future__ import annotations

import numpy as np
import torch

from recsys.models.adam import Adam
from recsys.models.base import Histories, Model
from recsys.models.cuts import Batch, cut, newest
from recsys.models.held_back import HeldBack, hold_back
from recsys.models.lightgcn.training import preferences_of
from recsys.models.neumf.config import NeuMFConfig
from recsys.models.neumf.model import NeuMFModel
from recsys.models.neumf.pairs import Pairs
from recsys.models.sampled_softmax import Competition, loss_of_logits
from recsys.models.training import Progress, go_on, warm_rows
from recsys.models.training_set import TrainingSet

_TABLES = ("items", "read", "wide_items", "wide_read")


def fit(interactions: TrainingSet, config: NeuMFConfig, progress: Progress | None = None, warm_start: Model | None = None) -> NeuMFModel:
    """Train on the preferences (weight > 0), each item of a user once; their weights are not used.

    In each epoch every user is looked at `cuts` times, and `targets` preferences are predicted from others, as `reads` says. The loss is
    the cross-entropy of `recsys.models.sampled_softmax`, instead of the published one of single drawn items. A preference of some users is
    held back, and the numbers of the epoch with the best NDCG@10 on these are the result; with `config.fixed_epochs` nothing is held back
    and the last epoch counts. A warm start takes what both know. `progress` may stop the training after any epoch. The same seed gives the
    same model on one machine.
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
        _warm_start(trained, entries.item_ids, warm_start)
    for tensor in trained:
        tensor.requires_grad_()
    return NeuMFModel(config, entries.item_ids, _train(trained, training, held, config, chance, progress))


def _warm_start(trained: Pairs, item_ids: list[str], earlier: NeuMFModel) -> None:
    """Copy from an earlier model the rows of items that both know, and every other tensor of the same shape."""
    here, there = warm_rows(item_ids, earlier.item_ids)
    for name, own in trained._asdict().items():
        theirs = earlier.trained._asdict()[name].detach()
        if name in _TABLES:
            if own.shape[1] == theirs.shape[1]:
                own[here] = theirs[there]
        elif own.shape == theirs.shape:
            own.copy_(theirs)


def _train(
    trained: Pairs,
    training: TrainingSet,
    held: HeldBack | None,
    config: NeuMFConfig,
    chance: np.random.Generator,
    progress: Progress | None,
) -> Pairs:
    """Return the numbers of the best epoch."""
    optimiser = Adam(trained, config.learning_rate)
    competition = Competition(np.bincount(training.items, minlength=training.n_items), config.compared_above, config.negatives)
    histories = None if held is None else newest(training, held.users, config.history_length)
    epochs = config.fixed_epochs or config.max_epochs
    best, best_ndcg, since_best = trained, -1.0, 0
    for epoch in range(epochs):
        losses = [_step(trained, optimiser, batch, competition, config, chance) for batch in cut(training, config, chance)]
        message = f"neumf: epoch {epoch + 1}, loss {np.mean(losses):.3f}"
        if held is not None and histories is not None:
            ndcg = _ndcg(NeuMFModel(config, training.item_ids, trained), held, histories)
            message += f", NDCG@10 {ndcg:.4f}"
            since_best += 1
            if ndcg > best_ndcg:
                best, best_ndcg, since_best = trained.copied(), ndcg, 0
        if not go_on(progress, (epoch + 1) / epochs, message) or (held is not None and since_best >= config.patience):
            break
    return (trained if held is None else best).copied()


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
