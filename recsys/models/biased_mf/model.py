"""Matrix factorisation of ratings with biases: how much better or worse than usual a user finds an item."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from recsys.models.base import F32, Histories
from recsys.models.biased_mf import kernel
from recsys.models.biased_mf.config import BiasedMFConfig
from recsys.models.factor_model import FactorModel, Rows


class BiasedMFModel(FactorModel):
    """Item factors, and beside them the mean rating plus the item's bias, (I, D + 1). A score is the rating of a user without a bias."""

    kind: ClassVar[str] = "biased_mf"
    options = BiasedMFConfig

    def __init__(self, settings: BiasedMFConfig, item_ids: list[str], item_vectors: F32) -> None:
        super().__init__(settings, item_ids, item_vectors)
        self._system = System.of(self.item_vectors, settings)

    @classmethod
    def dimensions(cls, settings: Any) -> int:
        """Return D: a bias beside the factors."""
        return int(settings.factors) + 1

    def fold_in(self, rows: Rows, out: F32) -> None:
        """Solve each user's ridge system exactly against the fixed items; the last number of a user with ratings is 1."""
        self._system.solve(rows, out)
        out[:, -1] = np.diff(rows.starts) > 0

    def ratings(self, histories: Histories) -> F32:
        """Return the predicted ratings of all items, (U, I); of a user without a history those of nobody in particular."""
        solved = np.zeros((len(histories), self.item_vectors.shape[1]), np.float32)
        self._system.solve(Rows.of_histories(histories, self.history_length), solved)
        biases = solved[:, -1:].copy()
        solved[:, -1] = 1
        found: F32 = biases + solved @ self.item_vectors.T
        return found


class System:
    """Ridge systems of one side against the fixed vectors of the other, with what all pairs without a rating add.

    A row with n ratings over C columns has (Σ z zᵀ + α₀ ZᵀZ + λ (n + α₀ C) E) x = Σ z (r − o) − α₀ Σ_all z o, z = (factors, 1), o the
    offset of a column: the mean rating and its bias.
    """

    def __init__(self, factors: F32, offsets: F32, settings: BiasedMFConfig) -> None:
        """Shapes: factors (C, D), offsets (C,)."""
        ones = np.ones((len(factors), 1), np.float32)
        self._fixed: F32 = np.ascontiguousarray(np.concatenate((factors, ones), axis=1), np.float32)
        self._offsets: F32 = np.ascontiguousarray(offsets, np.float32)
        self._regularisation, self._unobserved = settings.ridge, settings.unobserved_weight or 0.0
        weight = np.float32(self._unobserved)
        self._shared: F32 = (self._fixed.T @ self._fixed) * weight
        self._shift: F32 = -(self._offsets @ self._fixed) * weight

    @classmethod
    def of(cls, vectors: F32, settings: BiasedMFConfig, mean: float = 0.0) -> System:
        """Return the system against vectors (C, D + 1), whose last numbers are the offsets less `mean`."""
        return cls(vectors[:, :-1], vectors[:, -1] + np.float32(mean), settings)

    def solve(self, rows: Rows, out: F32) -> None:
        """Write the solutions into `out` (R, D + 1): factors and bias. A row without ratings keeps what it has."""
        ridges = self._regularisation * (np.diff(rows.starts) + self._unobserved * len(self._fixed))
        floored: F32 = np.maximum(ridges, self._regularisation).astype(np.float32)
        kernel.solve_rows(*rows, self._fixed, self._offsets, self._shared, self._shift, floored, out)
