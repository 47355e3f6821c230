"""Trainings by epochs: the epoch with the best NDCG@10 of held-back preferences is the result, and a stopped training goes on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from recsys.models.adam import Adam
from recsys.models.checkpoint import Checkpoint, Checkpoints, Tensors, go_on_from, prefixed, set_state, state_of, under
from recsys.models.row_adam import RowAdam
from recsys.models.training import Epoch, Progress, go_on, warm_rows


class Epochs(Protocol):
    """One training: its weights, which steps change in place, what moves them, and its random numbers."""

    weights: Tensors
    optimisers: dict[str, Adam | RowAdam]
    chance: np.random.Generator

    def epoch(self) -> tuple[float, int]:
        """Take the steps of an epoch; return the mean loss and the number of examples."""
        ...

    def ndcg(self) -> float | None:
        """Return NDCG@10 of what is held back; None if nothing is."""
        ...


class _Progressed:
    """A training and the best so far, as a checkpoint holds them."""

    def __init__(self, run: Epochs) -> None:
        self.run = run
        self.best: Tensors = {}
        self.best_ndcg, self.since_best, self.done = -1.0, 0, 0

    def tensors(self) -> Tensors:
        found = prefixed("weights", self.run.weights)
        for name, optimiser in self.run.optimisers.items():
            found |= prefixed(name, optimiser.tensors())
        return found

    def values(self) -> dict[str, Any]:
        steps = {name: optimiser.steps for name, optimiser in self.run.optimisers.items()}
        best = {"best_ndcg": self.best_ndcg, "since_best": self.since_best, "done": self.done}
        return {"steps": steps, "random": state_of(self.run.chance), **best}

    def restore(self, checkpoint: Checkpoint) -> None:
        values = checkpoint.values
        copy_into(self.run.weights, under("weights", checkpoint.tensors))
        for name, optimiser in self.run.optimisers.items():
            optimiser.restore(under(name, checkpoint.tensors), values["steps"][name])
        set_state(self.run.chance, values["random"])
        self.best = under("best", checkpoint.tensors)
        self.best_ndcg, self.since_best, self.done = values["best_ndcg"], values["since_best"], values["done"]


def train_epochs(
    kind: str,
    run: Epochs,
    epochs: int,
    patience: int,
    training: str,
    progress: Progress | None = None,
    checkpoints: Checkpoints | None = None,
) -> None:
    """Train until `epochs` are over, or `patience` of them brought no better NDCG@10, or `progress` says so; the weights are then the best.

    Where nothing is held back, they are those of the last epoch. `training` is the fingerprint of what is trained.
    """
    at = _Progressed(run)
    go_on_from(checkpoints, training, at)
    n_examples = 0
    while at.done < epochs and at.since_best < patience:
        loss, n = run.epoch()
        for optimiser in run.optimisers.values():
            if isinstance(optimiser, RowAdam):
                optimiser.settle()
        at.done, n_examples = at.done + 1, n_examples + n
        message, ndcg = f"{kind}: epoch {at.done}, loss {loss:.3f}", run.ndcg()
        if ndcg is not None:
            message += f", NDCG@10 {ndcg:.4f}"
            at.since_best += 1
            if ndcg > at.best_ndcg:
                at.best = {name: tensor.detach().clone() for name, tensor in run.weights.items()}
                at.best_ndcg, at.since_best = ndcg, 0
        if not go_on(progress, at.done / epochs, message, Epoch(kind, at.done, epochs, loss, n_examples)):
            break
        if checkpoints is not None and checkpoints.due():
            checkpoints.save(Checkpoint(training, at.tensors() | prefixed("best", at.best), at.values()))
    if at.best:
        copy_into(run.weights, at.best)


@torch.no_grad()
def copy_into(living: Tensors, kept: Tensors) -> None:
    """Copy tensors into those of the same names."""
    for name, tensor in living.items():
        tensor.copy_(kept[name])


def copy_known(own: Tensors, item_ids: Sequence[str], earlier: Tensors, earlier_ids: Sequence[str], by_item: Collection[str]) -> None:
    """Copy from an earlier model's tensors the rows of items that both know, of the tables `by_item`, and every other tensor of the same
    shape."""
    here, there = warm_rows(item_ids, earlier_ids)
    for name, mine in own.items():
        theirs = earlier[name].detach()
        if name in by_item:
            if mine.shape[1] == theirs.shape[1]:
                mine[here] = theirs[there]
        elif mine.shape == theirs.shape:
            mine.copy_(theirs)
