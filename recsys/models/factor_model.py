"""Parts of the models that store one vector for each item and solve a user's from the history.

Shapes: U users, L entries of a history, T interactions of all users one after another, I items, D dimensions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ModelError, ShapeError, TooFewInteractions
from recsys.models.base import F32, I32, Histories, Model
from recsys.models.checks import MAX_WEIGHT, known_options
from recsys.models.ials.ridge_kernel import collapse
from recsys.models.training import warm_rows
from recsys.models.training_set import TrainingSet

I64 = NDArray[np.int64]


class Rows(NamedTuple):
    """Known items of U users, oldest first, each at most once: user u owns `items` (T,) int32 and `weights` (T,) float32, none of them 0,
    from `starts[u]` to `starts[u + 1]`; `starts` is (U + 1,) int64."""

    items: I32
    weights: F32
    starts: I64

    @classmethod
    def of_histories(cls, histories: Histories, length: int) -> Rows:
        """Read the newest `length` entries of known items; an item counts once, as in training (`TrainingSet.entries`)."""
        weights = histories.weights.astype(np.float32)
        collapse(histories.items, weights)
        used = (histories.items >= 0) & (weights != 0)
        if used.shape[1] > length:
            used &= np.cumsum(used[:, ::-1], axis=1)[:, ::-1] <= length
        starts = np.concatenate(([0], np.cumsum(used.sum(axis=1)))).astype(np.int64)
        return cls(histories.items[used].astype(np.int32), weights[used], starts)

    @classmethod
    def of_training(cls, interactions: TrainingSet) -> Rows:
        """Read a training set with at most one interaction for each pair of user and item."""
        return cls(interactions.items.astype(np.int32), interactions.weights.astype(np.float32), interactions.user_starts())

    def item_counts(self, n_items: int) -> I64:
        """Return how many users like each item, (I,)."""
        return np.bincount(self.items[self.weights > 0], minlength=n_items).astype(np.int64)


class FactorModel(ABC):
    """Item vectors (I, D), and a fold-in of histories against them."""

    kind: ClassVar[str]
    link: ClassVar[Literal["identity", "softmax"]] = "identity"
    options: ClassVar[type[Any]]

    def __init__(self, settings: Any, item_ids: list[str], item_vectors: F32) -> None:
        expected = (len(item_ids), self.dimensions(settings))
        if item_vectors.shape != expected:
            raise ShapeError(f"item vectors have shape {item_vectors.shape}, expected {expected}")
        self.settings, self.item_ids = settings, item_ids
        self.item_vectors: F32 = np.ascontiguousarray(item_vectors, np.float32)
        self.history_length: int = settings.history_length

    @classmethod
    def dimensions(cls, settings: Any) -> int:
        """Return D."""
        return int(settings.factors)

    @property
    def config(self) -> dict[str, Any]:
        return asdict(self.settings)

    def tensors(self) -> dict[str, NDArray[Any]]:
        return {"item_vectors": self.item_vectors}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], item_ids: list[str], tensors: Mapping[str, NDArray[Any]]) -> Self:
        settings = cls.options(**known_options(cls.options, config))
        return cls(settings, item_ids, np.asarray(tensors["item_vectors"], np.float32))

    def encode(self, histories: Histories) -> F32:
        """Return user vectors (U, D), zero for a history without a known item that the model reads."""
        vectors = np.zeros((len(histories), self.item_vectors.shape[1]), np.float32)
        self.fold_in(Rows.of_histories(histories, self.history_length), vectors)
        return vectors

    @abstractmethod
    def fold_in(self, rows: Rows, out: F32) -> None:
        """Write the users' vectors into `out` (U, D), which is zero."""


def learnable(interactions: TrainingSet, length: int, kind: str) -> TrainingSet:
    """Return what a history of `length` entries holds of each user.

    Raises: ModelError for a weight that is not finite, TooFewInteractions without a preference.
    """
    if not np.isfinite(interactions.weights).all():
        raise ModelError(f"{kind}: the weights of interactions must be finite numbers; leave those out that are not")
    entries = interactions.entries(length)
    if not (entries.weights > 0).any():
        raise TooFewInteractions(f"{kind}: none of {len(interactions)} interactions is a preference")
    return entries


def warmed(vectors: F32, item_ids: list[str], earlier: FactorModel | None) -> float:
    """Replace the vectors (I, D) of items that an earlier model knows by its own; return the share of items that it knows, 0 without one
    of the same dimension."""
    if earlier is None or earlier.item_vectors.shape[1] != vectors.shape[1]:
        return 0.0
    here, there = warm_rows(item_ids, earlier.item_ids)
    vectors[here] = earlier.item_vectors[there]
    return len(here) / max(len(item_ids), 1)


def earlier_of(kind: type[FactorModel], warm_start: Model | None) -> Any:
    """Return the model of a warm start if it is of this kind, else None."""
    return warm_start if isinstance(warm_start, kind) else None


def check_converged(kind: str, vectors: F32) -> None:
    """Raises: ModelError if training by gradients has left the finite numbers."""
    if not np.isfinite(vectors).all() or float(np.abs(vectors).max(initial=0)) > MAX_WEIGHT:
        raise ModelError(f"{kind}: training diverged; lower learning_rate or raise regularisation in trainer.options")
