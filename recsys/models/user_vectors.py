"""Users' vectors, of which a model may make several for each user: those of V > 1 are (U, V, D), all others (U, D).

A vector of zeros counts as none. An item's score is the largest inner product with one of the user's vectors; a user without any has none.

Shapes: U users, V vectors, D dimensions, I items, C candidates.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


def has_vector(vectors: F32) -> Bools:
    """Return which users have a vector, (U,)."""
    found: Bools = np.asarray(vectors.any(axis=tuple(range(1, vectors.ndim))), np.bool_)
    return found


def each_vector(vectors: F32) -> list[F32]:
    """Return the first vector of all users, the second and so on: V of (U, D)."""
    return [vectors] if vectors.ndim == 2 else [np.ascontiguousarray(vectors[:, v]) for v in range(vectors.shape[1])]


def largest(vectors: F32, score: Callable[[F32], F32]) -> F32:
    """Return the scores of some items, (U, C), by a function that scores them for one vector (U, D) of each; 0 for users without any."""
    if vectors.ndim == 2:
        return score(vectors)
    best: F32 | None = None
    for own in each_vector(vectors):
        scores = np.where(has_vector(own)[:, None], score(own), np.float32(-np.inf))
        best = scores if best is None else np.maximum(best, scores)
    assert best is not None, "a model makes at least one vector"
    best[~has_vector(vectors)] = 0
    return best


def best_products(vectors: F32, items: F32) -> F32:
    """Return the scores of all `items` (I, D), (U, I); 0 for users without a vector."""
    return largest(vectors, lambda own: own @ items.T)


def nearest(vectors: F32, rows: I64, items: F32) -> F32:
    """Return of the user in each of `rows` (P,) the vector (P, D) that gives the score of the item in the same row of `items` (P, D)."""
    if vectors.ndim == 2:
        return vectors[rows]
    own = vectors[rows]  # (P, V, D)
    products = np.where(own.any(axis=2), np.einsum("pvd,pd->pv", own, items), np.float32(-np.inf))
    found: F32 = own[np.arange(len(own)), products.argmax(axis=1)]
    return found
