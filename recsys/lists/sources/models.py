"""Items that a trained model prefers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.lists.context import ListContext, Users
from recsys.lists.serving import IndexedModel
from recsys.lists.sources import models_kernel
from recsys.lists.sources.base import Product, Source, over_root

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


class ModelSource(Source):
    """Scores an item by the inner product of its vector and the user's, at least 0; or where the model says "softmax" by e to that power,
    up to a factor. It has the name of the model's kind."""

    def __init__(self, kind: str) -> None:
        self.name = kind

    def nominate(self, users: Users, context: ListContext, size: int) -> I64:
        return self._searched(users, context, size).numbers

    def score(self, users: Users, numbers: I64, context: ListContext) -> F32:
        if context.is_large:
            return self._searched(users, context, self.size).scores(numbers)
        return self.product(users, context).scores(numbers)

    def scale(self, users: Users, context: ListContext) -> F32:
        return self._searched(users, context, self.size).scale

    def product(self, users: Users, context: ListContext) -> Product:
        serving = context.models[self.name]
        return Product(users.vectors[self.name], serving.vectors, serving.model.link, serving.known)

    def _searched(self, users: Users, context: ListContext, size: int) -> Searched:
        indexed, vectors = context.models[self.name].indexed, users.vectors[self.name]
        assert indexed is not None, "a large catalogue's models are indexed"
        return users.once(f"{self.name}.searched", lambda: Searched.of(indexed, vectors, size, context.n_items))


@dataclass(frozen=True, slots=True)
class Searched:
    """A model's best items for U users: `numbers` (U, M); 1 / root mean square of its scores over all items, `scale` (U,), and `shift` (U,)
    of logits."""

    indexed: IndexedModel
    vectors: F32
    numbers: I64
    scale: F32
    shift: F32 | None

    @classmethod
    def of(cls, indexed: IndexedModel, vectors: F32, size: int, n_items: int) -> Searched:
        """Search the index. The scale of preferences is exact from the Gram matrix, times the share above 0 as seen in a sample; that of
        probabilities sums the best exactly and estimates the rest from a sample. A softmax's denominator goes out with the scale."""
        index, n_users = indexed.index, len(vectors)
        asked = np.flatnonzero(vectors.any(axis=1))
        found = index.search(vectors[asked], size)
        numbers = np.full((n_users, size), -1, np.int64)
        numbers[asked] = np.where(found.rows >= 0, indexed.numbers[found.rows], -1)
        scale = np.zeros(n_users, np.float32)
        if indexed.model.link == "softmax":
            shift, mean = np.zeros(n_users, np.float32), np.empty(len(asked), np.float32)
            shift[asked] = np.maximum(found.scores.max(axis=1), found.sampled.max(axis=1))
            best = np.exp(2 * (found.scores - shift[asked, None])).sum(axis=1)
            least = np.where(np.isfinite(found.scores), found.scores, np.inf).min(axis=1)
            models_kernel.mean_below(found.sampled, shift[asked], least, mean)
            squares = best + mean * (len(index) - np.isfinite(found.scores).sum(axis=1))
            scale[asked] = over_root((squares / n_items).astype(np.float32))
            return cls(indexed, vectors, numbers, scale, shift)
        own, share = vectors[asked], np.empty(len(asked), np.float32)
        models_kernel.share_above(found.sampled, share)
        squares = np.einsum("ud,ud->u", own @ index.gram, own) * share
        least_possible = (np.maximum(np.where(np.isfinite(found.scores), found.scores, 0), 0) ** 2).sum(axis=1)
        scale[asked] = over_root((np.maximum(squares, least_possible) / n_items).astype(np.float32))
        return cls(indexed, vectors, numbers, scale, None)

    def scores(self, numbers: I64) -> F32:
        """Return raw scores of the items `numbers` (U, C); 0 of items that the model does not know, or numbered −1."""
        rows = np.where(numbers >= 0, self.indexed.rows[numbers], -1).astype(np.int64)
        found = self.indexed.index.scores(self.vectors, rows)
        if self.shift is None:
            np.maximum(found, 0, out=found)
        else:
            models_kernel.softened(found, rows, self.shift)
            found[self.scale == 0] = 0  # nothing is known of these users
        return found
