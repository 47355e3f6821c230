"""Items that a model prefers which scores pairs of users and items itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.lists.context import ListContext, Users
from recsys.lists.sources.models import ModelSource
from recsys.models.base import ScoresPairs
from recsys.models.user_vectors import has_vector

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


class PairSource(ModelSource):
    """Scores an item by e to the model's score, up to a factor of the user. In a large catalogue the inner products of the model's vectors
    nominate, and the model scores what all sources nominated."""

    def product(self, users: Users, context: ListContext) -> None:  # type: ignore[override]
        """Return None: the scores are no inner products."""

    def score(self, users: Users, numbers: I64, context: ListContext) -> F32:
        serving = context.models[self.name]
        model, vectors = serving.model, users.vectors[self.name]
        assert isinstance(model, ScoresPairs), "a source of pairs has a model that scores them"
        places = np.where(numbers >= 0, serving.positions[numbers], -1).astype(np.int64)
        found, known = model.pair_scores(vectors, places), (places >= 0) & has_vector(vectors)[:, None]
        logits = np.where(known, found, np.float32(-np.inf))
        highest = logits.max(axis=1, keepdims=True, initial=np.float32(-1e30))
        scores: F32 = np.exp(logits - highest)
        return scores
