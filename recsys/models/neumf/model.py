"""NeuMF as a model: an inner product nominates, and with a network of two layers it scores.

A user has no vector of its own, as in the other models here: it is a sum over the liked items of the history.
Source: He, Liao, Zhang, Nie, Hu & Chua 2017 (NeuMF); users as sums of items as in Kabbur, Ning & Karypis 2013 (FISM).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.errors import ShapeError
from recsys.models import pooling_kernel
from recsys.models.base import F32, Histories
from recsys.models.checks import known_options
from recsys.models.neighbour import liked_once
from recsys.models.neumf import pair_kernel
from recsys.models.neumf.config import NeuMFConfig
from recsys.models.neumf.pairs import Pairs
from recsys.models.user_vectors import has_vector

I64 = NDArray[np.int64]


class NeuMFModel:
    """Tables of items and a network of two layers. `item_vectors` (I, D+1+H) end in H zeros: the inner products with users' vectors, which
    end in what the network reads of them, are the part without the network."""

    kind: ClassVar[str] = "neumf"
    link: ClassVar[Literal["identity", "softmax"]] = "softmax"

    def __init__(self, settings: NeuMFConfig, item_ids: list[str], trained: Pairs) -> None:
        """Raises: ShapeError for tensors that do not fit."""
        expected = Pairs.shapes(len(item_ids), settings.factors, settings.hidden)
        for name, tensor in trained._asdict().items():
            if tuple(tensor.shape) != expected[name]:
                raise ShapeError(f"tensor {name} has shape {tuple(tensor.shape)}, this configuration needs {expected[name]}")
        self.settings, self.item_ids, self.trained = settings, item_ids, trained
        self.history_length = settings.history_length
        self._arrays: dict[str, F32] = {name: np.ascontiguousarray(one.detach().numpy()) for name, one in trained._asdict().items()}
        self._read = np.concatenate((self._arrays["read"], self._arrays["wide_read"]), axis=1)
        self._wide: F32 = self._arrays["wide_items"] + self._arrays["shift"]
        self.item_vectors: F32 = np.pad(self._arrays["items"], ((0, 0), (0, settings.hidden)))

    @property
    def config(self) -> dict[str, Any]:
        return asdict(self.settings)

    def tensors(self) -> dict[str, NDArray[Any]]:
        return dict(self._arrays)

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], item_ids: list[str], tensors: Mapping[str, NDArray[Any]]) -> Self:
        settings = NeuMFConfig(**known_options(NeuMFConfig, config))
        return cls(settings, item_ids, Pairs(**{name: torch.from_numpy(np.array(tensors[name], np.float32)) for name in Pairs._fields}))

    def encode(self, histories: Histories) -> F32:
        """Return user vectors (U, D+1+H), zero for a history without a liked item: Σ over its n liked items, each once, divided by √n, with
        a 1 for the bias of items in between."""
        liked, factors = liked_once(histories), self.settings.factors
        n_liked = (liked >= 0).sum(axis=1)
        scales = np.where(liked >= 0, np.maximum(n_liked, 1)[:, None] ** -0.5, 0.0).astype(np.float32)
        pooled = np.empty((len(histories), self._read.shape[1]), np.float32)
        pooling_kernel.pooled(liked, scales, self._read, pooled)
        return np.concatenate((pooled[:, :factors], (n_liked > 0).astype(np.float32)[:, None], pooled[:, factors:]), axis=1)

    def pair_scores(self, vectors: F32, places: I64) -> F32:
        """Return the scores (U, C) of the items at `places` (U, C) on the model's axis, 0 where that is −1, by users' vectors."""
        users, wide = (np.ascontiguousarray(part) for part in np.split(vectors, [self.settings.factors + 1], axis=1))
        found, own = np.empty(places.shape, np.float32), self._arrays
        pair_kernel.scores(
            users, wide, np.ascontiguousarray(places), own["items"], self._wide, own["narrow"], own["narrow_shift"], own["out"], found
        )
        return found

    def scores(self, histories: Histories) -> F32:
        """Return the scores of all items, (U, I); 0 for a history without a liked item."""
        return self.scores_of(self.encode(histories))

    def scores_of(self, vectors: F32) -> F32:
        """Return the scores of all items by users' vectors, (U, I); 0 for a vector of zeros."""
        found = self.pair_scores(vectors, np.broadcast_to(np.arange(len(self.item_ids)), (len(vectors), len(self.item_ids))))
        found[~has_vector(vectors)] = 0
        return found
