"""Popularity as a model: every user with a history gets the same scores. The baseline for every other model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ShapeError
from recsys.models.base import F32, Histories, Model
from recsys.models.checks import MAX_COUNT, check_options, known_options
from recsys.models.training import Progress, go_on
from recsys.models.training_set import TrainingSet


@dataclass(frozen=True, slots=True)
class PopularConfig:
    """Options of every kind: the seed, which this kind does not use. Raises: ModelError for an option out of its bounds."""

    seed: int = 0

    def __post_init__(self) -> None:
        check_options("popular", self, {"seed": (-MAX_COUNT, MAX_COUNT)})


class PopularModel:
    """A model of one dimension: the logarithm of one plus an item's number of preferences."""

    kind: ClassVar[str] = "popular"
    link: ClassVar[Literal["identity", "softmax"]] = "identity"

    def __init__(self, settings: PopularConfig, item_ids: list[str], item_vectors: F32) -> None:
        if item_vectors.shape != (len(item_ids), 1):
            raise ShapeError(f"item vectors have shape {item_vectors.shape}, expected {(len(item_ids), 1)}")
        self.settings, self.item_ids, self.item_vectors, self.history_length = settings, item_ids, item_vectors, 1

    @property
    def config(self) -> dict[str, Any]:
        return asdict(self.settings)

    def tensors(self) -> dict[str, NDArray[Any]]:
        return {"item_vectors": self.item_vectors}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], item_ids: list[str], tensors: Mapping[str, NDArray[Any]]) -> Self:
        settings = PopularConfig(**known_options(PopularConfig, config))
        return cls(settings, item_ids, np.asarray(tensors["item_vectors"], np.float32))

    def encode(self, histories: Histories) -> F32:
        """Return (U, 1): one where the history has a known item, else zero."""
        read: F32 = ((histories.items >= 0) & (histories.weights != 0)).any(axis=1, keepdims=True).astype(np.float32)
        return read


def fit(
    interactions: TrainingSet, config: PopularConfig, progress: Progress | None = None, warm_start: Model | None = None
) -> PopularModel:
    """Count the preferences (weight > 0) of each item. `progress` is called once; `warm_start` is ignored."""
    counts = np.bincount(interactions.positive().items, minlength=interactions.n_items)
    go_on(progress, 1.0, "popular: counted")
    return PopularModel(config, interactions.item_ids, np.log1p(counts).astype(np.float32)[:, None])
