"""Implicit alternating least squares: a matrix factorisation whose user vectors are solved exactly from a history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from recsys.errors import ShapeError
from recsys.models.base import F32, Histories, Model
from recsys.models.checks import MAX_COUNT, MAX_FACTORS, MAX_HISTORY, check_options, known_options
from recsys.models.ials.fold_in import FoldIn
from recsys.models.ials.ridge import SparseRows, solve_rows
from recsys.models.training import Progress, go_on, warm_rows
from recsys.models.training_set import TrainingSet


@dataclass(frozen=True, slots=True)
class IALSConfig:
    """Options of iALS. Raises: ModelError for an option out of its bounds."""

    factors: int = 64
    epochs: int = 12
    """Sweeps over users and items; a warm start runs a third of them."""
    unobserved_weight: float = 0.2
    """α₀: confidence in every pair without an interaction."""
    regularisation: float = 0.006
    """λ, before scaling by frequency."""
    frequency_exponent: float = 1.0
    """ν: λ is multiplied by (number of interactions + α₀ · size of the other axis)^ν; 0 regularises all rows alike."""
    history_length: int = 100
    """Number of newest interactions that serving folds in."""
    tolerance: float = 0.001
    """Residual relative to the right sides at which a sweep's solves stop; each starts from the previous sweep. Folding in is exact."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_options("ials", self, _BOUNDS)


_BOUNDS = {
    "factors": (1, MAX_FACTORS),
    "epochs": (1, 10_000),
    "unobserved_weight": (0, 1e6),
    "regularisation": (0, 1e9),
    "frequency_exponent": (0, 4),
    "history_length": (1, MAX_HISTORY),
    "tolerance": (0, 1),
    "seed": (-MAX_COUNT, MAX_COUNT),
}


class IALSModel:
    """Item factors (I, D), and the ridge solve that turns histories into user vectors."""

    kind: ClassVar[str] = "ials"
    link: ClassVar[Literal["identity", "softmax"]] = "identity"

    def __init__(self, settings: IALSConfig, item_ids: list[str], item_vectors: F32) -> None:
        if item_vectors.shape != (len(item_ids), settings.factors):
            raise ShapeError(f"item vectors have shape {item_vectors.shape}, expected {(len(item_ids), settings.factors)}")
        self.settings = settings
        self.item_ids = item_ids
        self.item_vectors: F32 = np.ascontiguousarray(item_vectors, np.float32)
        self.history_length = settings.history_length
        self._fold_in = FoldIn(
            self.item_vectors,
            unobserved_weight=settings.unobserved_weight,
            regularisation=settings.regularisation,
            frequency_exponent=settings.frequency_exponent,
        )

    @property
    def config(self) -> dict[str, Any]:
        return asdict(self.settings)

    def tensors(self) -> dict[str, NDArray[Any]]:
        return {"item_vectors": self.item_vectors}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], item_ids: list[str], tensors: Mapping[str, NDArray[Any]]) -> Self:
        settings = IALSConfig(**known_options(IALSConfig, config))
        return cls(settings, item_ids, np.asarray(tensors["item_vectors"], np.float32))

    def encode(self, histories: Histories) -> F32:
        """Solve each user's ridge system exactly against the fixed item factors Y; return user vectors (U, D).

        (α₀ YᵀY + Σ |wᵢ| yᵢyᵢᵀ + λ (n + α₀ I)^ν E) x = Σ_{wᵢ>0} wᵢ yᵢ over the n known items of the history, I items in all. A negative
        weight is confidence |w| in preference 0. An empty history gives a zero vector. Source: Hu, Koren & Volinsky 2008, eq. 4;
        regularisation of Rendle, Krichene, Zhang & Koren 2022, eq. 6.
        """
        return self._fold_in.solve(histories)


def _ridge(config: IALSConfig, counts: torch.Tensor, other_axis: int) -> torch.Tensor:
    return config.regularisation * (counts.float() + config.unobserved_weight * other_axis) ** config.frequency_exponent


def fit(interactions: TrainingSet, config: IALSConfig, progress: Progress | None = None, warm_start: Model | None = None) -> IALSModel:
    """Train factors by alternating solves. Of several interactions of one user with one item the newest counts.

    A warm start takes the earlier model's factors of the items that both know, if the dimension is the same. `progress` may stop the
    training after any sweep. The same seed gives the same factors on one machine with the same number of threads.
    Source: Hu, Koren & Volinsky 2008; confidences and scaled regularisation as in Rendle, Krichene, Zhang & Koren 2022.
    """
    pairs = interactions.last_of_pairs()
    generator = torch.Generator().manual_seed(config.seed)
    spread = 0.1 / config.factors**0.5
    item_factors = torch.randn((pairs.n_items, config.factors), generator=generator) * spread
    epochs = config.epochs
    if warm_start is not None and isinstance(warm_start, IALSModel) and warm_start.settings.factors == config.factors:
        here, there = warm_rows(pairs.item_ids, warm_start.item_ids)
        item_factors[here] = torch.from_numpy(warm_start.item_vectors)[there]
        if 2 * len(here) >= pairs.n_items:
            epochs = -(-config.epochs // 3)
    with torch.inference_mode():
        by_user, by_item = both_sides(pairs)
        user_factors = torch.zeros((pairs.n_users, config.factors))
        for epoch in range(epochs):
            user_factors = _half_sweep(by_user, item_factors, user_factors, config)
            item_factors = _half_sweep(by_item, user_factors, item_factors, config)
            if not go_on(progress, (epoch + 1) / epochs, f"ials: sweep {epoch + 1} of {epochs}"):
                break
    return IALSModel(config, pairs.item_ids, item_factors.numpy())


def both_sides(pairs: TrainingSet) -> tuple[SparseRows, SparseRows]:
    """Return the interactions as rows of users over items, and of items over users. Each pair occurs at most once."""
    by_user = sparse.csr_array((pairs.weights, pairs.items, pairs.user_starts()), shape=(pairs.n_users, pairs.n_items))
    by_item = by_user.tocsc()
    by_user = by_item.tocsr()  # there and back: columns ascend within a row
    return (
        SparseRows(by_user.indptr, by_user.indices, by_user.data, pairs.n_items),
        SparseRows(by_item.indptr, by_item.indices, by_item.data, pairs.n_users),
    )


def _half_sweep(rows: SparseRows, fixed: torch.Tensor, start: torch.Tensor, config: IALSConfig) -> torch.Tensor:
    """Solve every row of one side against the other side's factors `fixed` (C, D), starting from `start` (R, D). Returns (R, D)."""
    ridge = _ridge(config, rows.counts, rows.n_columns)
    return solve_rows(rows, fixed, start, ridge, unobserved_weight=config.unobserved_weight, tolerance=config.tolerance)
