"""Histories to user vectors of a factorisation: each user's ridge system, solved exactly against fixed item factors.

A user with n interactions has A = α₀ YᵀY + Σ |wᵢ| yᵢyᵢᵀ + r E over D factors, and the right side Σ_{wᵢ>0} wᵢ yᵢ. In the eigenbasis of
YᵀY all of A but the sum is diagonal, H. So where n is well below D the system is solved in its dual form over the n interactions,
x = H⁻¹ Yₙᵀ (|W|⁻¹ + Yₙ H⁻¹ Yₙᵀ)⁻¹ p with pᵢ = 1 where wᵢ > 0, else 0 (the matrix inversion lemma): n³ instead of D³ operations.
"""

from __future__ import annotations

import numpy as np
import torch

from recsys.models import encoding_kernel
from recsys.models.base import F32, Histories

_DUAL_SHARE = 0.75
"""Up to this share of D interactions the dual form is the faster one."""


class FoldIn:
    """Item factors prepared for solving: turned into the eigenbasis of their Gram matrix."""

    def __init__(self, item_vectors: F32, *, unobserved_weight: float, regularisation: float, frequency_exponent: float) -> None:
        """`item_vectors` (I, D). A user with n interactions has the ridge `regularisation` · (n + `unobserved_weight` · I)^
        `frequency_exponent`."""
        self._unobserved_weight, self._regularisation, self._exponent = unobserved_weight, regularisation, frequency_exponent
        vectors = torch.from_numpy(item_vectors).double()
        values, basis = torch.linalg.eigh(unobserved_weight * (vectors.T @ vectors))
        self._diagonal: F32 = values.clamp_min(0.0).float().numpy()
        self._back = basis.T.float().contiguous()
        self._factors: F32 = (vectors @ basis).float().numpy()

    def solve(self, histories: Histories) -> F32:
        """User vectors (U, D); zero for a history without a known item. A negative weight is confidence |w| in preference 0."""
        used = (histories.items >= 0) & (histories.weights != 0)
        counts = used.sum(axis=1)
        ridges = self._regularisation * (counts + self._unobserved_weight * len(self._factors)) ** self._exponent
        turned = np.empty((len(histories), len(self._diagonal)), np.float32)
        encoding_kernel.ridge(
            self._factors,
            self._diagonal,
            histories.items[used].astype(np.int64),
            histories.weights[used],
            np.concatenate(([0], np.cumsum(counts))),
            ridges.astype(np.float32),
            int(_DUAL_SHARE * len(self._diagonal)),
            turned,
        )
        vectors: F32 = torch.mm(torch.from_numpy(turned), self._back).numpy()
        return vectors
