"""Items of a large catalogue that a model has no vector of, with the one that its map from content gives them.

Shapes: U users, N items, M extended items, C candidates, D dimensions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.models.user_vectors import best_products, nearest

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

SEARCHED = 4_096
"""Newest extended items that a user's vector is compared with, 0.5 million products. Others are scored where another source names them."""


class ExtendedItems:
    """Vectors of items by number. The newest `SEARCHED` can be nominated, all can be scored."""

    def __init__(self, n_dimensions: int, n_items: int) -> None:
        self._rows: I32 = np.full(n_items, -1, np.int32)
        self._vectors: F32 = np.zeros((64, n_dimensions), np.float32)
        self._numbers: I64 = np.full(64, -1, np.int64)
        self._count = 0

    def grow(self, n_items: int) -> None:
        """Make room for item numbers below `n_items`."""
        if n_items > len(self._rows):
            self._rows = np.pad(self._rows, (0, n_items - len(self._rows)), constant_values=-1)

    def put(self, numbers: I64, vectors: F32, known: NDArray[np.bool_]) -> None:
        """Replace the vectors (n, D) of the items `numbers` (n,). Those that are not `known` (n,) keep a row of zeros, or get none."""
        self.grow(int(numbers.max(initial=-1)) + 1)
        new = numbers[(self._rows[numbers] < 0) & known]
        if self._count + len(new) > len(self._numbers):
            more = max(self._count + len(new), 2 * len(self._numbers)) - len(self._numbers)
            self._vectors, self._numbers = np.pad(self._vectors, ((0, more), (0, 0))), np.pad(self._numbers, (0, more), constant_values=-1)
        rows = np.arange(self._count, self._count + len(new))
        self._rows[new], self._numbers[rows] = rows, new
        self._count += len(new)
        held = self._rows[numbers] >= 0
        self._vectors[self._rows[numbers[held]]] = vectors[held]

    def nominated(self, users: F32, size: int) -> I64:
        """Return each user's best of the newest items, (U, at most `size`), for user vectors (U, D) or (U, V, D)."""
        start = max(0, self._count - SEARCHED)
        scores = best_products(users, self._vectors[start : self._count])
        n_best = min(size, scores.shape[1])
        if not n_best:
            return np.zeros((len(users), 0), np.int64)
        best = np.argpartition(-scores, n_best - 1, axis=1)[:, :n_best]
        found: I64 = self._numbers[start + best]
        return found

    def add_products(self, users: F32, numbers: I64, scores: F32) -> NDArray[np.bool_]:
        """Write the inner products of user vectors (U, D), or the largest ones of (U, V, D), and the extended items among `numbers` (U, C),
        −1 for none, into `scores` (U, C). Return where there are some, (U, C)."""
        rows = np.where(numbers >= 0, self._rows[numbers], -1)
        found: NDArray[np.bool_] = rows >= 0
        user, column = np.nonzero(found)
        items = self._vectors[rows[user, column]]
        scores[user, column] = np.einsum("md,md->m", nearest(users, user, items), items)
        return found
