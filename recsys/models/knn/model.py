"""Nearest neighbours of items, or of users: similarities that are computed, not learnt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ModelError, ShapeError, TooFewInteractions
from recsys.models import neighbour_kernel
from recsys.models.base import F32, I32, Histories, Model
from recsys.models.knn import similarity_kernel
from recsys.models.knn.config import KNNConfig
from recsys.models.knn.similarity import nearest_items
from recsys.models.neighbour import NeighbourModel, Reading, liked_once
from recsys.models.neighbour_rows import NeighbourRows, check_learnt
from recsys.models.preferences import binary, preferences
from recsys.models.training import Progress, go_on
from recsys.models.training_set import TrainingSet

I64 = NDArray[np.int64]


class KNNModel(NeighbourModel):
    """Rows of similar items (I, I); or, where users are compared, the rows of M stored users (M, I), all 1: a history reads those of the
    users nearest to it."""

    kind: ClassVar[str] = "knn"

    def __init__(self, settings: KNNConfig, item_ids: list[str], rows: NeighbourRows) -> None:
        """Raises: ShapeError unless there is a row for each item, ModelError for more users than `max_users` or for other values than 1."""
        super().__init__(item_ids, rows, settings.history_length)
        self.settings = settings
        if not settings.of_users:
            if len(rows) != len(item_ids):
                raise ShapeError(f"there are {len(rows)} rows of neighbours for {len(item_ids)} items")
            return
        if len(rows) > settings.max_users:
            raise ModelError(f"knn: {len(rows):,} users are stored, more than max_users ({settings.max_users:,})")
        if (rows.values != 1).any():
            raise ModelError("knn: the rows of users hold other values than 1")
        self._sizes: I32 = np.diff(rows.starts).astype(np.int32)
        self._users = rows.transposed(len(item_ids))

    @property
    def config(self) -> dict[str, Any]:
        return asdict(self.settings)

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], item_ids: list[str], tensors: Mapping[str, NDArray[Any]]) -> Self:
        settings = KNNConfig(**{name: value for name, value in config.items() if name in KNNConfig.__dataclass_fields__})
        return cls(settings, item_ids, NeighbourRows.from_tensors(tensors, len(item_ids)))

    @property
    def _is_centred(self) -> bool:
        return self.settings.similarity == "user_pearson"

    def read(self, histories: Histories) -> Reading:
        """Return the liked items, each with weight 1; or the nearest users with their similarities.

        Of users u and v with nᵤ and nᵥ items, c of them in common and I in all: c / (√(nᵤ nᵥ) + shrink) (cosine), or
        (c − nᵤ nᵥ / I) / (√(nᵤ (1 − nᵤ/I) nᵥ (1 − nᵥ/I)) + shrink) (Pearson).
        """
        liked = liked_once(histories)
        if not self.settings.of_users:
            return Reading(liked, (liked >= 0).astype(np.float32), np.zeros(len(liked), np.int32))
        shape = (len(liked), min(self.settings.neighbours, len(self.rows)))
        read = Reading(np.empty(shape, np.int32), np.empty(shape, np.float32), np.empty(len(liked), np.int32))
        own = self._users
        similarity_kernel.read_users(own.starts, own.columns, self._sizes, liked, self.settings.shrink, self._is_centred, *read)
        return read

    def explain(self, read: Reading, rows: NeighbourRows, places: I32, items: I64, sums: F32, scale: F32, added: F32) -> None:
        if not self.settings.of_users:
            neighbour_kernel.explain(*rows, places, items, sums, scale, added)
            return
        own, options = self.rows, self.settings
        similarity_kernel.explain_users(
            own.starts, own.columns, rows.starts, rows.columns, *read, len(self.item_ids), options.shrink, self._is_centred, places, items,
            sums, scale, added,
        )  # fmt: skip


def fit(interactions: TrainingSet, config: KNNConfig, progress: Progress | None = None, warm_start: Model | None = None) -> KNNModel:
    """Compare items by their users, or store the users to compare with. `warm_start` is ignored.

    Raises: TooFewInteractions if no two items have a user in common.
    """
    matrix = preferences(interactions, config.history_length, "knn")
    if not config.of_users:
        rows = nearest_items(matrix, config, progress)
        check_learnt("knn", rows)
        return KNNModel(config, interactions.item_ids, rows)
    newest = np.full(interactions.n_users, -1, np.int64)
    np.maximum.at(newest, interactions.users, interactions.ts_ms)
    chosen = np.flatnonzero(np.diff(matrix.indptr) >= 2)
    chosen = np.sort(chosen[np.argsort(-newest[chosen], kind="stable")[: config.max_users]])
    if not len(chosen):
        raise TooFewInteractions("knn: no user prefers two items")
    stored = binary(matrix[chosen])
    go_on(progress, 1.0, f"knn: stored {len(chosen):,} users")
    rows = NeighbourRows(stored.indptr.astype(np.int64), stored.indices.astype(np.int32), stored.data)
    return KNNModel(config, interactions.item_ids, rows)
