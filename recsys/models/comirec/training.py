"""Training of ComiRec: at random times of each user, the next preferences are predicted from what came before."""

from __future__ import annotations

import numpy as np
import torch

from recsys.models.adam import Adam
from recsys.models.base import Model
from recsys.models.checkpoint import Checkpoints, Tensors, fingerprint
from recsys.models.comirec.config import ComiRecConfig
from recsys.models.comirec.interests import Interests, Read, Sizes, loss_of
from recsys.models.comirec.model import ComiRecModel
from recsys.models.cuts import Batch, cut, newest
from recsys.models.epochs import copy_known, train_epochs
from recsys.models.held_back import HeldBack, hold_back
from recsys.models.lightgcn.training import preferences_of
from recsys.models.row_adam import RowAdam
from recsys.models.sampled_softmax import Competition
from recsys.models.training import Progress
from recsys.models.training_set import TrainingSet

_TABLES = ("items", "read")


def fit(
    interactions: TrainingSet,
    config: ComiRecConfig,
    progress: Progress | None = None,
    warm_start: Model | None = None,
    checkpoints: Checkpoints | None = None,
) -> ComiRecModel:
    """Train on the preferences (weight > 0) in order of time, each item of a user once; their weights are not used.

    In each epoch every user is cut at `cuts` random times, and the next `targets` preferences are predicted from the newest
    `history_length` before, or as `reads` says. A preference of some users is held back, and the numbers of the epoch with the best NDCG@10
    on these are the result; with `config.fixed_epochs` nothing is held back and the last epoch counts. A warm start takes what both know.
    `progress` may stop the training after any epoch. The same seed gives the same model on one machine.
    With `checkpoints` the training goes on from the newest one, and makes others.
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
        copy_known(trained._asdict(), entries.item_ids, warm_start.trained._asdict(), warm_start.item_ids, _TABLES)
    run, which = _Run(trained, training, held, config, chance), fingerprint("comirec", config, entries, [np.array([is_warm])])
    train_epochs("comirec", run, config.fixed_epochs or config.max_epochs, config.patience, which, progress, checkpoints)
    return ComiRecModel(config, entries.item_ids, trained.copied())


class _Run:
    """One training: its numbers, and what moves them."""

    def __init__(
        self, trained: Interests, training: TrainingSet, held: HeldBack | None, config: ComiRecConfig, chance: np.random.Generator
    ) -> None:
        self._trained, self._training, self._held, self._config, self.chance = trained, training, held, config, chance
        self._histories = None if held is None else newest(training, held.users, config.history_length)
        counts = np.bincount(training.items, minlength=training.n_items)
        self._competition = Competition(counts, config.compared_above, config.negatives)
        shrink, whole = config.learning_rate * config.regularisation, trained._asdict()
        self._tables: tuple[RowAdam, RowAdam] | None = None
        if not self._competition.is_whole:
            items, read = (RowAdam(whole.pop(name), config.learning_rate, shrink=shrink) for name in _TABLES)
            self._tables = items, read
        self._shrinking = [table for name, table in whole.items() if name in _TABLES]
        self._keep = 1 - shrink
        self._optimiser = Adam([tensor.requires_grad_() for tensor in whole.values()], config.learning_rate)
        tables = dict(zip(_TABLES, self._tables or (), strict=False))
        self.optimisers: dict[str, Adam | RowAdam] = {"adam": self._optimiser, **tables}
        self.weights: Tensors = {name: tensor.detach() for name, tensor in trained._asdict().items()}

    def epoch(self) -> tuple[float, int]:
        """Take the steps of an epoch; return the mean loss and the number of targets."""
        losses, n_targets = [], 0
        for batch in cut(self._training, self._config, self.chance):
            losses.append(self._step(batch))
            n_targets += len(batch.targets)
        return float(np.mean(losses)), n_targets

    def ndcg(self) -> float | None:
        """Return NDCG@10 of the held-back preferences; None without any."""
        if self._held is None or self._histories is None:
            return None
        model = ComiRecModel(self._config, self._training.item_ids, self._trained)
        return self._held.ndcg(model.encode(self._histories), model.item_vectors)

    def _step(self, batch: Batch) -> float:
        """Move the numbers by a batch; return the loss."""
        self._optimiser.clear()
        compared = self._competition.of(batch.targets, self.chance)
        read = Read.of(batch.items, batch.ts_ms, batch.lengths).thinned(self._config.dropout, self.chance)
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
