"""The alternating solves of iALS: one side's factors against the other's."""

from __future__ import annotations

import torch
from scipy import sparse

from recsys.models.ials.config import IALSConfig
from recsys.models.ials.ridge import SparseRows, solve_rows
from recsys.models.training_set import TrainingSet


def random_factors(n_rows: int, config: IALSConfig) -> torch.Tensor:
    """Return the factors that a training starts from, (n_rows, D); the seed decides them."""
    generator = torch.Generator().manual_seed(config.seed)
    spread: float = 0.1 / config.factors**0.5
    return torch.randn((n_rows, config.factors), generator=generator) * spread


def both_sides(pairs: TrainingSet, device: torch.device | None = None) -> tuple[SparseRows, SparseRows]:
    """Return the interactions as rows of users over items, and of items over users, on the device. Each pair occurs at most once."""
    by_user = sparse.csr_array((pairs.weights, pairs.items, pairs.user_starts()), shape=(pairs.n_users, pairs.n_items))
    by_item = by_user.tocsc()
    by_user = by_item.tocsr()  # there and back: columns ascend within a row
    return (
        SparseRows(by_user.indptr, by_user.indices, by_user.data, pairs.n_items, device),
        SparseRows(by_item.indptr, by_item.indices, by_item.data, pairs.n_users, device),
    )


def half_sweep(rows: SparseRows, fixed: torch.Tensor, start: torch.Tensor, config: IALSConfig) -> torch.Tensor:
    """Solve every row of one side against the other side's factors `fixed` (C, D), starting from `start` (R, D). Returns (R, D).

    A row of n interactions has the ridge λ (n + α₀ C)^ν.
    """
    ridge = config.ridge * (rows.counts.float() + config.alpha * rows.n_columns) ** config.frequency_exponent
    return solve_rows(rows, fixed, start, ridge, unobserved_weight=config.alpha, tolerance=config.tolerance)
