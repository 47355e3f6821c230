"""Similarities of items by the users that they share.

Shapes: U users, I items, n pairs of items that share a user. x is the matrix of preferences (U, I), 0 where there is none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.cooccurrence import log_likelihood_ratio
from recsys.models.knn import similarity_kernel
from recsys.models.knn.config import KNNConfig
from recsys.models.neighbour_rows import NeighbourRows
from recsys.models.preferences import binary
from recsys.models.training import Progress, go_on

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_BLOCK_PAIRS = 10_000_000
"""Pairs of items, before equal ones are joined, whose similarities are computed at once: about 200 MB."""
_COUNTED = ("jaccard", "llr")


def nearest_items(preferences: sparse.csr_array, config: KNNConfig, progress: Progress | None = None) -> NeighbourRows:
    """Return for each item i the similarities above 0 to its nearest neighbours, as the rows j that add them to i: (I, I).

    `progress` may stop it after any block of items; those that are left have no neighbours.
    """
    matrix = binary(preferences) if config.similarity in _COUNTED else preferences
    by_item, n_items = matrix.T.tocsr(), matrix.shape[1]
    figures = _Figures(matrix, config)
    parts, start = [], 0
    for end in _ends(matrix, by_item):
        shared = (by_item[start:end] @ matrix).tocsr()
        items = np.repeat(np.arange(start, end), np.diff(shared.indptr))
        similar = figures.similarity(shared.data, items, shared.indices)
        similar[items == shared.indices] = 0
        kept = np.empty(len(similar), np.bool_)
        starts = shared.indptr.astype(np.int64)
        similarity_kernel.nearest(starts, similar, config.neighbours, kept)
        counts = np.concatenate(([0], np.cumsum(kept)))
        parts.append(NeighbourRows(counts[starts].astype(np.int64), shared.indices[kept].astype(np.int32), similar[kept]))
        start = end
        if not go_on(progress, end / n_items, f"knn: compared {end:,} of {n_items:,} items"):
            parts.append(NeighbourRows.empty(n_items - end))
            break
    return NeighbourRows.joined(parts).transposed(n_items)


def _ends(matrix: sparse.csr_array, by_item: sparse.csr_array) -> list[int]:
    """Return where blocks of items end that have about `_BLOCK_PAIRS` pairs."""
    lengths = np.diff(matrix.indptr).astype(np.float64)
    pairs = np.cumsum(binary(by_item) @ lengths)
    block = (pairs // _BLOCK_PAIRS).astype(np.int64)
    return [*(np.flatnonzero(np.diff(block)) + 1).tolist(), by_item.shape[0]]


class _Figures:
    """Sums by item that the similarities are made of."""

    def __init__(self, matrix: sparse.csr_array, config: KNNConfig) -> None:
        self._name, self._shrink, self._n_users = config.similarity, config.shrink, float(matrix.shape[0])
        values = matrix.astype(np.float64)
        self._sums: F64 = np.asarray(values.sum(axis=0)).ravel()
        self._squares: F64 = np.asarray(values.multiply(values).sum(axis=0)).ravel()
        means: F64 = np.asarray(values.sum(axis=1)).ravel() / matrix.shape[1]
        self._by_means: F64 = np.asarray(values.T @ means).ravel()
        self._of_means = float(means @ means)

    def similarity(self, shared: F32, one: I64, other: NDArray[np.integer]) -> F32:
        """Return the similarities of items `one` and `other` (n,), whose inner products are `shared` (n,)."""
        products = shared.astype(np.float64)
        if self._name == "llr":
            sums = self._sums.astype(np.float32)
            return log_likelihood_ratio(shared, sums[one], sums[other], self._n_users)
        if self._name == "jaccard":
            shares: F32 = (products / (self._sums[one] + self._sums[other] - products + self._shrink)).astype(np.float32)
            return shares
        squares = self._squares
        if self._name == "pearson":
            products = products - self._sums[one] * self._sums[other] / self._n_users
            squares = squares - self._sums**2 / self._n_users
        elif self._name == "adjusted_cosine":
            products = products - self._by_means[one] - self._by_means[other] + self._of_means
            squares = squares - 2 * self._by_means + self._of_means
        lengths = np.sqrt(np.maximum(squares, 0))
        norms = lengths[one] * lengths[other]
        usable = norms > 1e-9  # an item that everybody prefers alike says nothing
        return np.where(usable, products / np.where(usable, norms + self._shrink, 1.0), 0.0).astype(np.float32)
