"""Fold-in: solve each user's ridge system exactly against fixed item factors.

A user with n interactions has A = α₀ YᵀY + Σ |wᵢ| yᵢyᵢᵀ + r E over D factors, and the right side Σ_{wᵢ>0} wᵢ yᵢ. In the eigenbasis of
YᵀY all of A but the sum is diagonal, H. So where n is well below D the system is solved in its dual form over the n interactions,
x = H⁻¹ Yₙᵀ (|W|⁻¹ + Yₙ H⁻¹ Yₙᵀ)⁻¹ p with pᵢ = 1 where wᵢ > 0, else 0 (the matrix inversion lemma): n³ instead of D³ operations.
"""

from __future__ import annotations

import numpy as np
import torch

from recsys.models.base import F32, Histories
from recsys.models.ials import ridge_kernel

_DUAL_SHARE = 0.75
"""The dual form is faster for up to this share of D interactions."""


class FoldIn:
    """Item factors, rotated into the eigenbasis of their Gram matrix so that folding in is cheap."""

    def __init__(self, item_vectors: F32, *, unobserved_weight: float, regularisation: float, frequency_exponent: float) -> None:
        """Prepare the factors. Shape: item_vectors (I, D).

        The ridge of a user with n interactions is r = `regularisation` · (n + `unobserved_weight` · I)^`frequency_exponent`.
        """
        self._unobserved_weight, self._regularisation, self._exponent = unobserved_weight, regularisation, frequency_exponent
        vectors = torch.from_numpy(item_vectors).double()
        values, basis = torch.linalg.eigh(unobserved_weight * (vectors.T @ vectors))
        self._diagonal: F32 = values.clamp_min(0.0).float().numpy()
        self._back = basis.T.float().contiguous()
        self._factors: F32 = (vectors @ basis).float().numpy()

    def solve(self, histories: Histories) -> F32:
        """Return user vectors (U, D); zero for a history without a known item.

        A negative weight is confidence |w| in preference 0. Of an item that occurs more than once the newest place counts, with the newest
        sign and the largest magnitude since the sign last changed. Source: Hu, Koren & Volinsky 2008, eq. 4.
        """
        weights = histories.weights.astype(np.float32)
        ridge_kernel.collapse(histories.items, weights)
        used = (histories.items >= 0) & (weights != 0)
        counts = used.sum(axis=1)
        ridges = self._regularisation * (counts + self._unobserved_weight * len(self._factors)) ** self._exponent
        rotated = np.empty((len(histories), len(self._diagonal)), np.float32)
        ridge_kernel.ridge(
            self._factors,
            self._diagonal,
            histories.items[used].astype(np.int64),
            weights[used],
            np.concatenate(([0], np.cumsum(counts))),
            ridges.astype(np.float32),
            int(_DUAL_SHARE * len(self._diagonal)),
            rotated,
        )
        vectors: F32 = torch.mm(torch.from_numpy(rotated), self._back).numpy()
        return vectors
