"""Implicit alternating least squares: a matrix factorisation whose user vectors are solved exactly from a history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.errors import ShapeError
from recsys.models.base import F32, Histories, Model
from recsys.models.checks import known_options
from recsys.models.devices import device_of
from recsys.models.ials.config import IALSConfig as IALSConfig
from recsys.models.ials.fold_in import FoldIn
from recsys.models.ials.search import searched
from recsys.models.ials.sweeps import both_sides, half_sweep, random_factors
from recsys.models.training import Progress, go_on, warm_rows
from recsys.models.training_set import TrainingSet


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
            unobserved_weight=settings.alpha,
            regularisation=settings.ridge,
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

        (α₀ YᵀY + Σ |wᵢ| yᵢyᵢᵀ + λ (n + α₀ I)^ν E) x = Σ_{wᵢ>0} wᵢ yᵢ over the n known items of the history, I items in all. An item that
        occurs more than once counts once, as in training (`TrainingSet.entries`). A negative weight is confidence |w| in preference 0. An
        empty history gives a zero vector. Source: Hu, Koren & Volinsky 2008, eq. 4; regularisation of Rendle, Krichene, Zhang & Koren 2022,
        eq. 6.
        """
        return self._fold_in.solve(histories)


def fit(interactions: TrainingSet, config: IALSConfig, progress: Progress | None = None, warm_start: Model | None = None) -> IALSModel:
    """Train factors by alternating solves on the entries that serving folds in: the newest `history_length` items of each user.

    What the configuration leaves open of α₀ and λ is searched (`recsys.models.ials.search`), or taken from a warm start that was searched
    at least half as many pairs. A warm start also takes the earlier model's factors of the items that both know, if the dimension is the
    same. `progress` may stop the search, and the training after any sweep. The same seed gives the same factors on one machine with the
    same number of threads.
    Source: Hu, Koren & Volinsky 2008; confidences and scaled regularisation as in Rendle, Krichene, Zhang & Koren 2022.
    """
    entries = interactions.entries(config.history_length)
    earlier = warm_start if isinstance(warm_start, IALSModel) else None
    kept = _kept(entries, config, earlier)
    config, goes_on = searched(entries, config, progress) if kept is None else (kept, True)
    item_factors = random_factors(entries.n_items, config)
    epochs = config.epochs if goes_on else 1
    if earlier is not None and earlier.settings.factors == config.factors:
        here, there = warm_rows(entries.item_ids, earlier.item_ids)
        item_factors[here] = torch.from_numpy(earlier.item_vectors)[there]
        if 2 * len(here) >= entries.n_items:
            epochs = -(-config.epochs // 3)
    with torch.inference_mode():
        device = device_of(config.device)
        by_user, by_item = both_sides(entries, device)
        user_factors, item_factors = torch.zeros((entries.n_users, config.factors), device=device), item_factors.to(device)
        for epoch in range(epochs):
            user_factors = half_sweep(by_user, item_factors, user_factors, config)
            item_factors = half_sweep(by_item, user_factors, item_factors, config)
            if not goes_on or not go_on(progress, (epoch + 1) / epochs, f"ials: sweep {epoch + 1} of {epochs}"):
                break
    return IALSModel(config, entries.item_ids, item_factors.cpu().numpy())


def _kept(entries: TrainingSet, config: IALSConfig, earlier: IALSModel | None) -> IALSConfig | None:
    """Return the configuration with the earlier model's α₀ and λ, None if these were not searched or on less than half as many pairs."""
    if earlier is None or not 0 < len(entries) <= 2 * earlier.settings.searched_pairs:
        return None
    before = earlier.settings
    weight = before.unobserved_weight if config.unobserved_weight is None else config.unobserved_weight
    regularisation = before.regularisation if config.regularisation is None else config.regularisation
    return replace(config, unobserved_weight=weight, regularisation=regularisation, searched_pairs=before.searched_pairs)
