"""Scores of all items that a model knows, by the interface that it has.

Shapes: B histories, I items of the model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.models.base import F32, Histories, Model, ScoresPairs
from recsys.models.content_map import ReadsContent
from recsys.models.descriptions import Descriptions
from recsys.models.neighbour import NeighbourModel
from recsys.models.user_vectors import best_products, has_vector

_DESCRIBED_AT_ONCE = 4_096
"""Items whose features a map reads at once: 40 MB for 2,560 features."""


def laid_over(
    model: Model, item_ids: list[str], to_model: NDArray[np.int32], descriptions: Descriptions | None
) -> tuple[F32, NDArray[np.bool_]]:
    """Return the vectors of a log's items (I, D), and which of them the model can list (I,), as workers hold them: by positions on the
    model's axis `to_model` (I,), and where that is −1 by what they say, if the model has a map from content of its own."""
    known: NDArray[np.bool_] = to_model >= 0
    vectors = np.zeros((len(item_ids), model.item_vectors.shape[1]), np.float32)
    vectors[known] = model.item_vectors[to_model[known]]
    if descriptions is None or not isinstance(model, ReadsContent) or model.content_map is None:
        return vectors, known
    others = np.flatnonzero(~known)
    for part in np.array_split(others, -(-len(others) // _DESCRIBED_AT_ONCE)) if len(others) else ():
        vectors[part], known[part] = model.content_map.vectors(descriptions.words([item_ids[at] for at in part.tolist()]))
    return vectors, known


def scores_of(model: Model, histories: Histories) -> tuple[F32, NDArray[np.bool_]]:
    """Return the scores of all items on the model's axis, (B, I), and which histories it can read, (B,)."""
    if isinstance(model, NeighbourModel):
        return model.scores(histories), np.asarray(model.read(histories).weights.any(axis=1), bool)
    vectors = model.encode(histories)  # (B, D) or (B, V, D)
    if isinstance(model, ScoresPairs):
        return model.scores(histories), has_vector(vectors)
    return best_products(vectors, model.item_vectors), has_vector(vectors)
