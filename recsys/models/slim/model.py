"""SLIM: few weights ≥ 0 of liked items, learnt for each item apart."""

from __future__ import annotations

from typing import ClassVar

from recsys.models.base import Model
from recsys.models.neighbour import ItemNeighbours
from recsys.models.neighbour_rows import check_learnt
from recsys.models.slim.config import SLIMConfig
from recsys.models.slim.fit import weights_of
from recsys.models.training import Progress
from recsys.models.training_set import TrainingSet


class SLIMModel(ItemNeighbours):
    """Rows of weights. A weight is never below 0, and most are 0."""

    kind: ClassVar[str] = "slim"
    options = SLIMConfig


def fit(interactions: TrainingSet, config: SLIMConfig, progress: Progress | None = None, warm_start: Model | None = None) -> SLIMModel:
    """Learn the weights from the newest `history_length` items of each user. `warm_start` is ignored.

    Raises: TooFewInteractions if no two items have a user in common, ModelError where they need more memory than `memory_mb`.
    """
    rows, item_ids = weights_of(interactions, config, progress)
    check_learnt("slim", rows)
    return SLIMModel(config, item_ids, rows)
