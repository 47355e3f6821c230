"""Training of EASE."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from recsys.errors import ModelError
from recsys.models.ease.config import EASEConfig
from recsys.models.neighbour_rows import NeighbourRows
from recsys.models.preferences import binary, check_memory, gram, most_popular, preferences
from recsys.models.training import Progress, go_on
from recsys.models.training_set import TrainingSet

BYTES_A_PAIR = 16
"""The Gram matrix in float64, and as much again for what is copied from it."""
_RIDGE = 4.0
"""λ in mean numbers of users of an item, where it is not set: what suits logs of 7 users an item and of 267 alike (docs/models.md)."""
_BLOCK = 256
"""Rows that are cut at once."""


def weights_of(interactions: TrainingSet, config: EASEConfig, progress: Progress | None = None) -> tuple[NeighbourRows, list[str]]:
    """Return the rows of B and the ids of its items. Raises: TooFewInteractions, ModelError beyond the memory.

    B minimises ‖X − XB‖² + λ‖B‖² with a zero diagonal: with P = (XᵀX + λE)⁻¹ it is B_ji = −P_ji / P_ii. X is binary.
    Source: Steck 2019, eq. 8.
    """
    matrix = binary(preferences(interactions, config.history_length, "ease"))
    kept = most_popular(matrix, config.max_items)
    check_memory("ease", len(kept), BYTES_A_PAIR, config.memory_mb)
    matrix = matrix[:, kept]
    inverse = gram(matrix, np.float64)
    go_on(progress, 0.3, f"ease: counted pairs of {len(kept):,} items")
    _invert(inverse, _RIDGE * float(np.trace(inverse)) / max(len(kept), 1) if config.regularisation is None else config.regularisation)
    go_on(progress, 0.9, "ease: inverted")
    return cut(inverse, config.neighbours), [interactions.item_ids[i] for i in kept.tolist()]


def _invert(matrix: NDArray[np.float64], ridge: float) -> None:
    """Replace a symmetric `matrix` (I, I) by the lower half of (matrix + ridge · E)⁻¹, in its own memory."""
    matrix.flat[:: len(matrix) + 1] += ridge
    by_column = matrix.T  # what LAPACK reads without a copy
    factor, failed = lapack.dpotrf(by_column, lower=0, clean=0, overwrite_a=1)
    if failed:
        raise ModelError("ease: the system cannot be solved; raise regularisation")
    found, failed = lapack.dpotri(factor, lower=0, overwrite_c=1)
    if failed:
        raise ModelError("ease: the system cannot be solved; raise regularisation")
    if found.base is not matrix and not np.shares_memory(found, matrix):
        matrix[:] = found.T


def cut(lower: NDArray[np.float64], size: int) -> NeighbourRows:
    """Return the rows of B with the `size` weights of largest magnitude in each of its columns, from the lower half of P (I, I).

    A cut of rows instead would leave items of few users without any weight.
    """
    diagonal, parts = lower.diagonal().copy(), []
    for start in range(0, len(lower), _BLOCK):
        end = min(start + _BLOCK, len(lower))
        rows = np.concatenate((lower[start:end, :end], lower[end:, start:end].T), axis=1)
        inner = np.tril(rows[:, start:end])
        rows[:, start:end] = inner + np.tril(inner, -1).T
        weights = (-rows / diagonal[start:end, None]).astype(np.float32)  # columns of B: P is symmetric
        weights[np.arange(end - start), np.arange(start, end)] = 0
        parts.append(NeighbourRows.of_dense(weights, size))
    return NeighbourRows.joined(parts).transposed(len(lower))
