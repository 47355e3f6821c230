"""item2vec: items that stand near each other in users' histories have vectors that fit; a user is the mean of the newest items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ShapeError, TooFewInteractions
from recsys.models.base import F32, Model
from recsys.models.checks import known_options
from recsys.models.factor_model import FactorModel, Rows, check_converged, earlier_of, learnable
from recsys.models.item2vec import kernel
from recsys.models.item2vec.config import Item2VecConfig
from recsys.models.random_kernel import aliases, first_state
from recsys.models.training import Progress, go_on, warm_rows
from recsys.models.training_set import TrainingSet


class Item2VecModel(FactorModel):
    """Two vectors for each item, (I, D) each: as the centre of a context, and as a part of one."""

    kind: ClassVar[str] = "item2vec"
    options = Item2VecConfig

    def __init__(self, settings: Item2VecConfig, item_ids: list[str], centres: F32, contexts: F32) -> None:
        if centres.shape != contexts.shape:
            raise ShapeError(f"centres have shape {centres.shape}, contexts {contexts.shape}; they must be alike")
        is_cosine = settings.score == "cosine"
        self.centres: F32 = np.ascontiguousarray(centres, np.float32)
        self.contexts: F32 = np.ascontiguousarray(contexts, np.float32)
        super().__init__(settings, item_ids, _unit(self.centres) if is_cosine else self.contexts)
        self._read = self.item_vectors if is_cosine else self.centres

    def tensors(self) -> dict[str, NDArray[Any]]:
        return {"centres": self.centres, "contexts": self.contexts}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], item_ids: list[str], tensors: Mapping[str, NDArray[Any]]) -> Self:
        settings = Item2VecConfig(**known_options(Item2VecConfig, config))
        return cls(settings, item_ids, *(np.asarray(tensors[name], np.float32) for name in ("centres", "contexts")))

    def fold_in(self, rows: Rows, out: F32) -> None:
        """Take the mean of the liked items' vectors, by weight and by how many newer ones there are."""
        decay = np.float32(0.5 ** (1 / self.settings.half_life) if self.settings.half_life else 1.0)
        kernel.means(*rows, decay, self._read, out)


def _unit(vectors: F32) -> F32:
    """Return vectors (I, D) of length 1; those of length 0 stay."""
    lengths = np.sqrt(np.einsum("id,id->i", vectors, vectors))
    return (vectors / np.where(lengths > 0, lengths, 1)[:, None]).astype(np.float32)


def fit(
    interactions: TrainingSet, config: Item2VecConfig, progress: Progress | None = None, warm_start: Model | None = None
) -> Item2VecModel:
    """Maximise Σ ln σ(v_i · c_j) + Σ ln σ(−v_i · c_k) over items i and j that stand near each other in a history, and drawn items k.

    Preferences count alike; dislikes are left out. A warm start takes the earlier model's vectors of items that both know. `progress` may
    stop the training after any pass. The same seed gives the same model.
    Raises: TooFewInteractions if nobody likes two items; ModelError for weights that are not finite, and if the steps diverge.
    Source: Barkan & Koenigstein 2016; Mikolov, Sutskever, Chen, Corrado & Dean 2013; the exponent: Caselles-Dupré, Lesaint &
    Royo-Letelier 2018.
    """
    liked = learnable(interactions, config.history_length, "item2vec").positive()
    rows = Rows.of_training(liked)
    if (np.diff(rows.starts) < 2).all():
        raise TooFewInteractions("item2vec: no user likes two items")
    chance, shape = np.random.default_rng(config.seed & 0xFFFFFFFF), (liked.n_items, config.factors)
    centres = ((chance.random(shape) - 0.5) / config.factors).astype(np.float32)
    contexts, epochs = np.zeros(shape, np.float32), config.epochs
    earlier = earlier_of(Item2VecModel, warm_start)
    if earlier is not None and earlier.settings.factors == config.factors:
        here, there = warm_rows(liked.item_ids, earlier.item_ids)
        centres[here], contexts[here] = earlier.centres[there], earlier.contexts[there]
        epochs = -(-config.epochs // 3) if 2 * len(here) >= liked.n_items else epochs
    counts = rows.item_counts(liked.n_items)
    table = aliases(np.maximum(counts, 1).astype(np.float64) ** config.negative_exponent)
    tables, is_ordered, state = (_shares(counts, config.subsample), *table), config.order == "time", first_state(config.seed)
    for run in range(epochs):
        step, last_step = (np.float32(config.learning_rate * (1 - (run + done) / epochs)) for done in (0, 1))
        columns = chance.permutation(liked.n_users), rows.items, rows.starts, *tables
        options = config.window, is_ordered, config.negatives
        reached = kernel.epoch(*columns, *options, step, last_step, state, centres, contexts)
        state = np.uint64(reached)  # compiled code returns a plain number
        if not go_on(progress, (run + 1) / epochs, f"item2vec: pass {run + 1} of {epochs}"):
            break
    for vectors in (centres, contexts):
        check_converged("item2vec", vectors)
    return Item2VecModel(config, liked.item_ids, centres, contexts)


def _shares(counts: NDArray[np.int64], subsample: float) -> F32:
    """Return how likely each item is read in a pass, (I,): √(t/f) + t/f at most 1, of an item with the share f of all preferences."""
    if not subsample:
        return np.ones(len(counts), np.float32)
    ratio = subsample * counts.sum() / np.maximum(counts, 1)
    shares: F32 = np.minimum(np.sqrt(ratio) + ratio, 1).astype(np.float32)
    return shares
