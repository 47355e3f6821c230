"""EASE: how much each liked item says for each other, learnt together in one linear system."""

from __future__ import annotations

from typing import ClassVar

from recsys.models.base import Model
from recsys.models.ease.config import EASEConfig
from recsys.models.ease.fit import weights_of
from recsys.models.neighbour import ItemNeighbours
from recsys.models.neighbour_rows import check_learnt
from recsys.models.training import Progress
from recsys.models.training_set import TrainingSet


class EASEModel(ItemNeighbours):
    """Rows of weights. Every weight is the solution of one linear system, so it may be below 0: an item can speak against another."""

    kind: ClassVar[str] = "ease"
    options = EASEConfig


def fit(interactions: TrainingSet, config: EASEConfig, progress: Progress | None = None, warm_start: Model | None = None) -> EASEModel:
    """Learn the weights from the newest `history_length` items of each user. `warm_start` is ignored.

    Raises: TooFewInteractions if no two items have a user in common, ModelError where they need more memory than `memory_mb`.
    """
    rows, item_ids = weights_of(interactions, config, progress)
    check_learnt("ease", rows)
    return EASEModel(config, item_ids, rows)
