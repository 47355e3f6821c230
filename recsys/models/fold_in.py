"""Histories to user vectors of a factorisation: each user's ridge system, solved exactly against fixed item factors.

A user with n interactions has A = α₀ YᵀY + Σ |wᵢ| yᵢyᵢᵀ + r E over D factors, and the right side Σ_{wᵢ>0} wᵢ yᵢ. In the eigenbasis of
YᵀY all of A but the sum is diagonal, H. So where n is well below D the system is solved in its dual form over the n interactions,
x = H⁻¹ Yₙᵀ (|W|⁻¹ + Yₙ H⁻¹ Yₙᵀ)⁻¹ p with pᵢ = 1 where wᵢ > 0, else 0 (the matrix inversion lemma): n³ instead of D³ operations.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from recsys.models.base import F32, Histories

_BLOCK_ENTRIES = 4_096
"""Interactions of systems solved at once: 1 MB of gathered factors at 64 dimensions."""
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
        self._diagonal = values.clamp_min(0.0).float()
        self._back = basis.T.float().contiguous()
        # One more row of zeros: where padding points to.
        self._factors = torch.cat([vectors @ basis, vectors.new_zeros((1, vectors.shape[1]))]).float()

    @torch.inference_mode()
    def solve(self, histories: Histories) -> F32:
        """User vectors (U, D); zero for a history without a known item. A negative weight is confidence |w| in preference 0."""
        n_users, width = len(histories), self._factors.shape[1]
        turned = torch.zeros((n_users, width))
        items, weights, counts = _compressed(histories, len(self._factors) - 1)
        ridge = torch.from_numpy(counts) + self._unobserved_weight * (len(self._factors) - 1)
        ridge = self._regularisation * ridge.float() ** self._exponent
        order = np.argsort(counts, kind="stable")
        end = int(np.searchsorted(counts[order], 0, side="right"))
        while end < n_users:
            start = end
            longest = _rounded(int(counts[order[start]]))
            end = min(int(np.searchsorted(counts[order], longest, side="right")), start + max(1, _BLOCK_ENTRIES // longest))
            users = order[start:end]
            longest = int(counts[users[-1]])
            solve = self._dual if longest <= _DUAL_SHARE * width else self._primal
            block = torch.from_numpy(users)
            turned[block] = solve(torch.from_numpy(items[users, :longest]), torch.from_numpy(weights[users, :longest]), ridge[block])
        vectors: F32 = (turned @ self._back).numpy()
        return vectors

    def _dual(self, items: torch.Tensor, weights: torch.Tensor, ridge: torch.Tensor) -> torch.Tensor:
        """Shapes: items and weights (B, n), padding of weight 0 pointing to the row of zeros; ridge (B,). Returns (B, D), turned."""
        gathered = functional.embedding(items, self._factors)
        divided = gathered / (self._diagonal + ridge.unsqueeze(1)).unsqueeze(1)  # Yₙ H⁻¹
        systems = torch.bmm(divided, gathered.transpose(1, 2))  # (B, n, n)
        systems.diagonal(dim1=1, dim2=2).add_(torch.where(weights != 0, weights.abs().reciprocal(), 1.0))
        shares = torch.cholesky_solve((weights > 0).float().unsqueeze(-1), torch.linalg.cholesky(systems))
        return torch.bmm(shares.transpose(1, 2), divided).squeeze(1)

    def _primal(self, items: torch.Tensor, weights: torch.Tensor, ridge: torch.Tensor) -> torch.Tensor:
        """The same by the system over the factors."""
        gathered = functional.embedding(items, self._factors)
        systems = torch.bmm((gathered * weights.abs().unsqueeze(-1)).transpose(1, 2), gathered)  # (B, D, D)
        systems.diagonal(dim1=1, dim2=2).add_(self._diagonal + ridge.unsqueeze(1))
        right = torch.bmm(weights.clamp_min(0.0).unsqueeze(1), gathered)  # (B, 1, D)
        return torch.cholesky_solve(right.transpose(1, 2), torch.linalg.cholesky(systems)).squeeze(-1)


def _rounded(count: int) -> int:
    """Systems of up to so many interactions are solved together with those of `count`: an eighth more, at least two."""
    step = max(2, 1 << max(count.bit_length() - 3, 0))
    return -(-count // step) * step


def _compressed(histories: Histories, padding: int) -> tuple[NDArray[np.int64], F32, NDArray[np.int64]]:
    """Known items with a weight from column 0 on, padded by `padding` and weight 0: items and weights (U, n), and how many (U,)."""
    used = (histories.items >= 0) & (histories.weights != 0)
    counts = used.sum(axis=1)
    row, column = np.nonzero(used)
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    items = np.full((len(histories), int(counts.max(initial=0))), padding, np.int64)
    weights = np.zeros(items.shape, np.float32)
    items[row, place] = histories.items[row, column]
    weights[row, place] = histories.weights[row, column]
    return items, weights, counts
