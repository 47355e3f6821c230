"""Items that a trained model prefers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.lists.context import ListContext, Users
from recsys.lists.extended import ExtendedItems
from recsys.lists.reason_kinds import ReasonKind
from recsys.lists.serving import IndexedModel
from recsys.lists.sources import models_kernel
from recsys.lists.sources.base import Product, Source

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


class ModelSource(Source):
    """Scores an item by the inner product of its vector and the user's, at least 0; or where the model says "softmax" by e to that power,
    up to a factor. It has the name of the model's kind."""

    reason: ReasonKind | None = "people_like_you"

    def __init__(self, kind: str) -> None:
        self.name = kind

    def nominate(self, users: Users, context: ListContext, size: int) -> I64:
        return self._searched(users, context, size).numbers

    def score(self, users: Users, numbers: I64, context: ListContext) -> F32:
        if context.is_large:
            return self._searched(users, context, self.size).scores(numbers)
        return self.product(users, context).scores(numbers)

    def product(self, users: Users, context: ListContext) -> Product:
        serving = context.models[self.name]
        return Product(users.vectors[self.name], serving.vectors, serving.model.link, serving.known)

    def _searched(self, users: Users, context: ListContext, size: int) -> Searched:
        serving, vectors = context.models[self.name], users.vectors[self.name]
        indexed, extended = serving.indexed, serving.extended
        assert indexed is not None, "a large catalogue's models are indexed"
        return users.once(f"{self.name}.searched", lambda: Searched.of(indexed, vectors, size, extended))


@dataclass(frozen=True, slots=True)
class Searched:
    """A model's best items for U users: `numbers` (U, M), −1 for none; `asked` (U,), whose vectors are not zero; and `shift` (U,) of
    logits. `extended` are items that a map from content gives vectors."""

    indexed: IndexedModel
    vectors: F32
    numbers: I64
    asked: NDArray[np.bool_]
    shift: F32 | None
    extended: ExtendedItems | None = None

    @classmethod
    def of(cls, indexed: IndexedModel, vectors: F32, size: int, extended: ExtendedItems | None = None) -> Searched:
        """Search the index. Logits are shifted by the largest one, so that their exponentials are at most 1."""
        n_users = len(vectors)
        is_asked: NDArray[np.bool_] = np.any(vectors != 0, axis=1)
        asked = np.flatnonzero(is_asked)
        found = indexed.index.search(vectors[asked], size)
        numbers = np.full((n_users, size), -1, np.int64)
        numbers[asked] = np.where(found.rows >= 0, indexed.numbers[found.rows], -1)
        if extended is not None:
            also = np.where(is_asked[:, None], extended.nominated(vectors, size), -1)
            numbers = np.concatenate((numbers, also), axis=1)
        if indexed.model.link != "softmax":
            return cls(indexed, vectors, numbers, is_asked, None, extended)
        shift = np.zeros(n_users, np.float32)
        shift[asked] = np.maximum(found.scores.max(axis=1), found.sampled.max(axis=1))
        return cls(indexed, vectors, numbers, is_asked, shift, extended)

    def scores(self, numbers: I64) -> F32:
        """Return raw scores of the items `numbers` (U, C); 0 of items that the model does not know, or numbered −1."""
        rows = np.where(numbers >= 0, self.indexed.rows[numbers], -1).astype(np.int64)
        found = self.indexed.index.scores(self.vectors, rows)
        if self.extended is not None:
            rows = np.where(self.extended.add_products(self.vectors, numbers, found), 0, rows)  # a row says that the item is known
        if self.shift is None:
            np.maximum(found, 0, out=found)
        else:
            models_kernel.softened(found, rows, self.shift)
            found[~self.asked] = 0  # nothing is known of these users
        return found
