"""Training of ComiRec: at random times of each user, the next preferences are predicted from what came before."""

from __future__ import annotations

import numpy as np
import torch

from recsys.models.adam import Adam
from recsys.models.base import Model
from recsys.models.comirec.config import ComiRecConfig
from recsys.models.comirec.interests import Interests, Read, Sizes, loss_of
from recsys.models.comirec.model import ComiRecModel
from recsys.models.cuts import Batch, cut, newest
from recsys.models.held_back import HeldBack, hold_back
from recsys.models.lightgcn.training import preferences_of
from recsys.models.row_adam import RowAdam
from recsys.models.sampled_softmax import Competition
from recsys.models.training import Progress, go_on, warm_rows
from recsys.models.training_set import TrainingSet


def fit(
    interactions: TrainingSet, config: ComiRecConfig, progress: Progress | None = None, warm_start: Model | None = None
) -> ComiRecModel:
    """Train on the preferences (weight > 0) in order of time, each item of a user once; their weights are not used.

    In each epoch every user is cut at `cuts` random times, and the next `targets` preferences are predicted from the newest
    `history_length` before, or as `reads` says. A preference of some users is held back, and the numbers of the epoch with the best NDCG@10
    on these are the result; with `config.fixed_epochs` nothing is held back and the last epoch counts. A warm start takes what both know.
    `progress` may stop the training after any epoch. The same seed gives the same model on one machine.
    Raises: TooFewInteractions without a user with two preferences, ModelError for weights that are not finite.
    """
    entries = preferences_of(interactions, 1 << 30, "comirec")
    chance = np.random.default_rng(config.seed)
    is_warm = isinstance(warm_start, ComiRecModel)
    training, held = entries, None
    if not config.fixed_epochs:
        training, held = hold_back(entries, config.validation_users, chance, is_warm=is_warm, newest=config.reads == "before")
    if np.diff(training.user_starts()).max(initial=0) < 2:
        training, held = entries, None
    trained = Interests.random(Sizes(entries.n_items, config.factors, config.interests, config.hidden), config.seed)
    if isinstance(warm_start, ComiRecModel):
        _warm_start(trained, entries.item_ids, warm_start)
    return ComiRecModel(config, entries.item_ids, _Run(trained, training, config, chance).train(held, progress))


def _warm_start(trained: Interests, item_ids: list[str], earlier: ComiRecModel) -> None:
    """Copy from an earlier model the rows of items that both know, and every other tensor of the same shape."""
    here, there = warm_rows(item_ids, earlier.item_ids)
    for name, own in trained._asdict().items():
        theirs = earlier.trained._asdict()[name].detach()
        if name in ("items", "read"):
            if own.shape[1] == theirs.shape[1]:
                own[here] = theirs[there]
        elif own.shape == theirs.shape:
            own.copy_(theirs)


class _Run:
    """One training: its numbers, and the best so far."""

    def __init__(self, trained: Interests, training: TrainingSet, config: ComiRecConfig, chance: np.random.Generator) -> None:
        self._trained, self._training, self._config, self._chance = trained, training, config, chance
        counts = np.bincount(training.items, minlength=training.n_items)
        self._competition = Competition(counts, config.compared_above, config.negatives)
        shrink, whole = config.learning_rate * config.regularisation, trained._asdict()
        self._tables: tuple[RowAdam, RowAdam] | None = None
        if not self._competition.is_whole:
            items, read = (RowAdam(whole.pop(name), config.learning_rate, shrink=shrink) for name in ("items", "read"))
            self._tables = items, read
        self._shrinking = [table for name, table in whole.items() if name in ("items", "read")]
        self._keep = 1 - shrink
        self._optimiser = Adam([tensor.requires_grad_() for tensor in whole.values()], config.learning_rate)

    def train(self, held: HeldBack | None, progress: Progress | None) -> Interests:
        """Return the numbers of the best epoch."""
        config, training = self._config, self._training
        histories = None if held is None else newest(training, held.users, config.history_length)
        epochs = config.fixed_epochs or config.max_epochs
        best, best_ndcg, since_best = self._trained, -1.0, 0
        for epoch in range(epochs):
            losses = [self._step(batch) for batch in cut(training, config, self._chance)]
            for table in self._tables or ():
                table.settle()
            message = f"comirec: epoch {epoch + 1}, loss {np.mean(losses):.3f}"
            if held is not None and histories is not None:
                model = ComiRecModel(config, training.item_ids, self._trained)
                ndcg = held.ndcg(model.encode(histories), model.item_vectors)
                message += f", NDCG@10 {ndcg:.4f}"
                since_best += 1
                if ndcg > best_ndcg:
                    best, best_ndcg, since_best = self._trained.copied(), ndcg, 0
            if not go_on(progress, (epoch + 1) / epochs, message) or (held is not None and since_best >= config.patience):
                break
        return (self._trained if held is None else best).copied()

    def _step(self, batch: Batch) -> float:
        """Move the numbers by a batch; return the loss."""
        self._optimiser.clear()
        compared = self._competition.of(batch.targets, self._chance)
        read = Read.of(batch.items, batch.ts_ms, batch.lengths).thinned(self._config.dropout, self._chance)
        numbers, trained = torch.from_numpy(compared.items), self._trained
        if self._tables is None:
            items = trained.items[numbers]
        else:
            rows, places = torch.unique(read.items, return_inverse=True)
            trained, read = trained._replace(read=self._tables[1].read(rows)), read._replace(items=places)
            items = self._tables[0].read(numbers)
        of_batch, places = torch.from_numpy(batch.rows), compared.places(batch.targets)
        loss = loss_of(trained.users(read), items, of_batch, places, compared.log_shares)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        for table in self._tables or ():
            table.step()
        with torch.no_grad():
            for whole in self._shrinking:
                whole.mul_(self._keep)
        return float(loss.detach())
