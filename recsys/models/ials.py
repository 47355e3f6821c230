"""Implicit alternating least squares: a matrix factorisation whose user vectors are solved exactly from a history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from recsys.errors import ShapeError
from recsys.models.base import F32, Histories, Model
from recsys.models.interactions import TrainingSet
from recsys.models.training import Progress, go_on, warm_rows

_CHUNK_ROWS = 65_536
"""Interactions of one batched solve: 17 MB of gathered factors at 64 dimensions."""
_CHUNK_SYSTEMS = 4_096
"""Ridge systems of one batched solve: 64 MB at 64 dimensions."""


@dataclass(frozen=True, slots=True)
class IALSConfig:
    """How the factorisation is trained."""

    factors: int = 64
    epochs: int = 12
    """Sweeps over users and items; a warm start needs a third of it."""
    unobserved_weight: float = 0.2
    """α₀: confidence of every pair nobody touched."""
    regularisation: float = 0.006
    """λ, before it is scaled."""
    frequency_exponent: float = 1.0
    """ν: λ is multiplied with (number of interactions + α₀ · size of the other axis)^ν; 0 regularises everyone alike."""
    history_length: int = 100
    """Newest interactions that serving folds in."""
    seed: int = 0


class IALSModel:
    """Item factors, and the ridge solve that turns histories into user vectors."""

    kind: ClassVar[str] = "ials"
    link: ClassVar[Literal["identity", "softmax"]] = "identity"

    def __init__(self, settings: IALSConfig, item_ids: list[str], item_vectors: F32) -> None:
        if item_vectors.shape != (len(item_ids), settings.factors):
            raise ShapeError(f"item vectors have shape {item_vectors.shape}, expected {(len(item_ids), settings.factors)}")
        self.settings = settings
        self.item_ids = item_ids
        self.item_vectors: F32 = np.ascontiguousarray(item_vectors, np.float32)
        self.history_length = settings.history_length
        # One more row of zeros: where padding points to.
        self._padded = torch.zeros((len(item_ids) + 1, settings.factors))
        self._padded[:-1] = torch.from_numpy(self.item_vectors)
        self._gram = settings.unobserved_weight * (self._padded.T @ self._padded)

    @property
    def config(self) -> dict[str, Any]:
        return asdict(self.settings)

    def tensors(self) -> dict[str, NDArray[Any]]:
        return {"item_vectors": self.item_vectors}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], item_ids: list[str], tensors: Mapping[str, NDArray[Any]]) -> Self:
        known = {field.name for field in fields(IALSConfig)}
        return cls(IALSConfig(**{k: v for k, v in config.items() if k in known}), item_ids, np.asarray(tensors["item_vectors"], np.float32))

    @torch.inference_mode()
    def encode(self, histories: Histories) -> F32:
        """User vectors (U, D): each user's ridge system solved exactly against the fixed item factors Y.

        (α₀ YᵀY + Σ |wᵢ| yᵢyᵢᵀ + λ (n + α₀ I)^ν E) x = Σ_{wᵢ>0} wᵢ yᵢ over the n known items of the history, I items in all. A negative
        weight is confidence |w| in preference 0. An empty history gives a zero vector. Source: Hu, Koren & Volinsky 2008, eq. 4;
        regularisation of Rendle, Krichene, Zhang & Koren 2022, eq. 6.
        """
        n_users, width = histories.items.shape
        vectors = torch.zeros((n_users, self.settings.factors))
        items, weights = torch.from_numpy(histories.items), torch.from_numpy(histories.weights)
        used = (items >= 0) & (weights != 0)
        for row in range(0, n_users, step := max(1, min(_CHUNK_SYSTEMS, _CHUNK_ROWS // max(width, 1)))):
            part = slice(row, row + step)
            # Columns that no user of the part fills cost nothing: histories are right-aligned.
            first = int(used[part].any(0).to(torch.uint8).argmax()) if bool(used[part].any()) else width
            if first == width:
                continue
            chosen = used[part, first:]
            rows = torch.where(chosen, items[part, first:], len(self.item_ids))  # (B, L)
            confidence = torch.where(chosen, weights[part, first:].abs(), 0.0)
            target = torch.where(chosen, weights[part, first:].clamp_min(0.0), 0.0)
            ridge = _ridge(self.settings, chosen.sum(1), len(self.item_ids))
            vectors[part] = _solve(functional.embedding(rows, self._padded), confidence, target, self._gram, ridge)
        return vectors.numpy()


def _ridge(config: IALSConfig, counts: torch.Tensor, other_axis: int) -> torch.Tensor:
    return config.regularisation * (counts.float() + config.unobserved_weight * other_axis) ** config.frequency_exponent


def _solve(gathered: torch.Tensor, confidence: torch.Tensor, target: torch.Tensor, gram: torch.Tensor, ridge: torch.Tensor) -> torch.Tensor:
    """B ridge systems at once. Shapes: gathered (B, L, D), confidence and target (B, L), gram (D, D), ridge (B,). Returns (B, D)."""
    systems = torch.baddbmm(gram, (gathered * confidence.unsqueeze(-1)).transpose(1, 2), gathered)  # (B, D, D)
    systems.diagonal(dim1=1, dim2=2).add_(ridge.unsqueeze(-1))
    right = torch.bmm(target.unsqueeze(1), gathered).squeeze(1)  # (B, D)
    return _cholesky_solve(systems, right)


def _cholesky_solve(systems: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return torch.cholesky_solve(right.unsqueeze(-1), torch.linalg.cholesky(systems)).squeeze(-1)


def fit(interactions: TrainingSet, config: IALSConfig, progress: Progress | None = None, warm_start: Model | None = None) -> IALSModel:
    """Factors by alternating exact solves; of several interactions of one user with one item the newest counts.

    A warm start takes the earlier model's factors of the items both know, if the dimension is the same. `progress` may end it after any
    sweep. Source: Hu, Koren & Volinsky 2008; confidences and scaled regularisation as in Rendle et al. 2022, "Revisiting the Performance of
    iALS".
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
    by_user = _Side(pairs.users, pairs.items, pairs.weights, pairs.n_users)
    by_item = _Side(pairs.items, pairs.users, pairs.weights, pairs.n_items)
    with torch.inference_mode():
        for epoch in range(epochs):
            user_factors = _half_sweep(by_user, item_factors, config)
            item_factors = _half_sweep(by_item, user_factors, config)
            if not go_on(progress, (epoch + 1) / epochs, f"ials: sweep {epoch + 1} of {epochs}"):
                break
    return IALSModel(config, pairs.item_ids, item_factors.numpy())


class _Side:
    """One axis of the interaction matrix in compressed rows, ordered so that rows of like length are solved together."""

    def __init__(self, rows: NDArray[np.int32], columns: NDArray[np.int32], weights: F32, n_rows: int) -> None:
        order = np.argsort(rows, kind="stable")
        self.columns = torch.from_numpy(columns[order].astype(np.int64))
        self.weights = torch.from_numpy(weights[order])
        counts = np.bincount(rows, minlength=n_rows)
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        self.counts = counts
        self.n_rows = n_rows

    def chunks(self) -> Iterator[NDArray[np.int64]]:
        """Rows with interactions, shortest first, so that a chunk padded to its longest row stays within the bound."""
        rows = np.flatnonzero(self.counts)
        rows = rows[np.argsort(self.counts[rows], kind="stable")]
        first = 0
        while first < len(rows):
            size = min(_CHUNK_SYSTEMS, len(rows) - first)
            while size > 1 and size * self.counts[rows[first + size - 1]] > _CHUNK_ROWS:
                size = max(1, min(size - 1, int(_CHUNK_ROWS // self.counts[rows[first + size - 1]])))
            yield rows[first : first + size]
            first += size


def _half_sweep(side: _Side, fixed: torch.Tensor, config: IALSConfig) -> torch.Tensor:
    """Solve every row of one side against the other side's factors `fixed` (C, D). Returns (R, D); rows without interactions are zero."""
    n_fixed, width = fixed.shape
    padded = torch.cat([fixed, torch.zeros((1, width))])
    gram = config.unobserved_weight * (fixed.T @ fixed)
    solved = torch.zeros((side.n_rows, width))
    for rows in side.chunks():
        counts = torch.from_numpy(side.counts[rows])
        ridge = _ridge(config, counts, n_fixed)
        if len(rows) == 1 and int(counts[0]) > _CHUNK_ROWS:
            solved[rows[0]] = _solve_long(side, int(rows[0]), fixed, gram, ridge)
            continue
        longest = int(counts.max())
        place = torch.from_numpy(side.starts[rows]).unsqueeze(1) + torch.arange(longest)  # (B, L)
        chosen = torch.arange(longest) < counts.unsqueeze(1)
        place = torch.where(chosen, place, 0)
        columns = torch.where(chosen, side.columns[place], n_fixed)
        weights = torch.where(chosen, side.weights[place], 0.0)
        solved[torch.from_numpy(rows)] = _solve(functional.embedding(columns, padded), weights.abs(), weights.clamp_min(0.0), gram, ridge)
    return solved


def _solve_long(side: _Side, row: int, fixed: torch.Tensor, gram: torch.Tensor, ridge: torch.Tensor) -> torch.Tensor:
    """One row too long for a chunk: its system is summed piece by piece. Returns (D,)."""
    system, right = gram.clone(), torch.zeros(fixed.shape[1])
    for first in range(int(side.starts[row]), int(side.starts[row + 1]), _CHUNK_ROWS):
        piece = slice(first, min(first + _CHUNK_ROWS, int(side.starts[row + 1])))
        gathered, weights = fixed[side.columns[piece]], side.weights[piece]
        system += (gathered * weights.abs().unsqueeze(-1)).T @ gathered
        right += gathered.T @ weights.clamp_min(0.0)
    system.diagonal().add_(ridge)
    return _cholesky_solve(system.unsqueeze(0), right.unsqueeze(0))[0]
