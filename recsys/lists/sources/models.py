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
from recsys.models.user_vectors import each_vector, has_vector, largest

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
    """A model's best items for U users: `numbers` (U, M), −1 for none; `asked` (U,), who have a vector; and `shift` (U,) of
    logits. `extended` are items that a map from content gives vectors. Users may have several vectors: each searches, and the best of what
    they find together count."""

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
        is_asked, each = has_vector(vectors), each_vector(vectors)
        rows = np.full((n_users, len(each) * size), -1, np.int64)
        scores, shift = np.full(rows.shape, -np.inf, np.float32), np.full(n_users, -np.inf, np.float32)
        for at, own in enumerate(each):
            asked, columns = np.flatnonzero(own.any(axis=1)), slice(at * size, (at + 1) * size)
            found = indexed.index.search(own[asked], size)
            rows[asked, columns], scores[asked, columns] = found.rows, found.scores
            shift[asked] = np.maximum(shift[asked], np.maximum(found.scores.max(axis=1), found.sampled.max(axis=1)))
        if len(each) > 1:
            rows = _best_distinct(rows, scores, size)
        numbers = np.where(rows >= 0, indexed.numbers[rows], -1)
        if extended is not None:
            also = np.where(is_asked[:, None], extended.nominated(vectors, size), -1)
            numbers = np.concatenate((numbers, also), axis=1)
        if indexed.model.link != "softmax":
            return cls(indexed, vectors, numbers, is_asked, None, extended)
        return cls(indexed, vectors, numbers, is_asked, np.where(is_asked, shift, np.float32(0)), extended)

    def scores(self, numbers: I64) -> F32:
        """Return raw scores of the items `numbers` (U, C); 0 of items that the model does not know, or numbered −1."""
        rows = np.where(numbers >= 0, self.indexed.rows[numbers], -1).astype(np.int64)
        found = largest(self.vectors, lambda own: self.indexed.index.scores(own, rows))
        if self.extended is not None:
            rows = np.where(self.extended.add_products(self.vectors, numbers, found), 0, rows)  # a row says that the item is known
        if self.shift is None:
            np.maximum(found, 0, out=found)
        else:
            models_kernel.softened(found, rows, self.shift)
            found[~self.asked] = 0  # nothing is known of these users
        return found


def _best_distinct(rows: I64, scores: F32, size: int) -> I64:
    """Return the `size` best rows of each user, best first, −1 for none: (U, `size`), from `rows` and their `scores` (U, V · size).

    A row that two vectors found is there once, by its largest score."""
    order = np.lexsort((-scores, rows), axis=1)  # by row, the largest score first
    rows, scores = np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)
    scores[:, 1:][rows[:, 1:] == rows[:, :-1]] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :size]
    return np.where(np.isneginf(np.take_along_axis(scores, best, 1)), -1, np.take_along_axis(rows, best, 1))
