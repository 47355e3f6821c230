"""Preferences as a sparse matrix of users and items, and how many users items share: input of neighbour models.

Shapes: U users, I items.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.errors import ModelError, TooFewInteractions
from recsys.models.training_set import TrainingSet

I32 = NDArray[np.int32]
_BLOCK = 512
"""Columns of a Gram matrix that are computed at once."""


def preferences(interactions: TrainingSet, history_length: int, kind: str) -> sparse.csr_array:
    """Return the preferences (weight > 0) in what a history of `history_length` entries holds of each user: weights (U, I), float32.

    Raises: TooFewInteractions without any, ModelError for a weight that is not finite.
    """
    if not np.isfinite(interactions.weights).all():
        raise ModelError(f"{kind}: the weights of interactions must be finite numbers; leave those out that are not")
    entries = interactions.entries(history_length).positive()
    if not len(entries):
        raise TooFewInteractions(f"{kind}: none of {len(interactions)} interactions is a preference")
    matrix = sparse.csr_array((entries.weights, entries.items, entries.user_starts()), shape=(entries.n_users, entries.n_items))
    matrix.sort_indices()
    return matrix


def binary(matrix: sparse.csr_array) -> sparse.csr_array:
    """Return 1 for each preference."""
    return sparse.csr_array((np.ones_like(matrix.data), matrix.indices, matrix.indptr), shape=matrix.shape)


def most_popular(matrix: sparse.csr_array, max_items: int) -> NDArray[np.int64]:
    """Return the positions of the `max_items` items of most users, ascending; 0: of all items."""
    n_items = matrix.shape[1]
    if not max_items or max_items >= n_items:
        return np.arange(n_items)
    counts = np.bincount(matrix.indices, minlength=n_items)
    return np.sort(np.argsort(-counts, kind="stable")[:max_items])


def check_memory(kind: str, n_items: int, bytes_a_pair: int, memory_mb: int) -> None:
    """Raises: ModelError if `n_items`² pairs of items of `bytes_a_pair` need more than `memory_mb`."""
    needed_mb = n_items**2 * bytes_a_pair / 1e6
    if needed_mb > memory_mb:
        most = int((memory_mb * 1e6 / bytes_a_pair) ** 0.5)
        raise ModelError(
            f"{kind}: {n_items:,} items need {needed_mb:,.0f} MB, more than memory_mb ({memory_mb:,}); set max_items to at most {most:,} "
            f"in trainer.options (those of most users are learnt), or raise memory_mb"
        )


def gram(matrix: sparse.csr_array, dtype: Any) -> NDArray[Any]:
    """Return XᵀX of `matrix` (U, I) as a dense (I, I) array."""
    by_item = matrix.astype(dtype).tocsc()
    transposed, n_items = by_item.T.tocsr(), matrix.shape[1]
    found = np.empty((n_items, n_items), dtype)
    for start in range(0, n_items, _BLOCK):
        found[:, start : start + _BLOCK] = (transposed @ by_item[:, start : start + _BLOCK]).toarray()
    return found
