"""Scores of all items that a model knows, by the interface that it has.

Shapes: B histories, I items of the model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.models.base import F32, Histories, Model, ScoresPairs
from recsys.models.neighbour import NeighbourModel
from recsys.models.user_vectors import best_products, has_vector


def scores_of(model: Model, histories: Histories) -> tuple[F32, NDArray[np.bool_]]:
    """Return the scores of all items on the model's axis, (B, I), and which histories it can read, (B,)."""
    if isinstance(model, NeighbourModel):
        return model.scores(histories), np.asarray(model.read(histories).weights.any(axis=1), bool)
    vectors = model.encode(histories)  # (B, D) or (B, V, D)
    if isinstance(model, ScoresPairs):
        return model.scores(histories), has_vector(vectors)
    return best_products(vectors, model.item_vectors), has_vector(vectors)
