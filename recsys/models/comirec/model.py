"""ComiRec as a model: a history gives several vectors, one for each interest, and an item counts by the one that is nearest to it.

Source: Cen, Zhang, Zou, Zhou, Yang & Tang 2020 (ComiRec-SA); Lin et al. 2017 (structured self-attention).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.errors import ShapeError
from recsys.models.base import F32, Histories
from recsys.models.checks import known_options
from recsys.models.comirec import interest_kernel
from recsys.models.comirec.config import ComiRecConfig
from recsys.models.comirec.interests import Interests, Sizes
from recsys.models.neighbour import liked_once
from recsys.models.two_tower import reading_kernel


class ComiRecModel:
    """Vectors of items (I, D+1), and the attention that makes K vectors of a history. An item's score is the largest of K logits."""

    kind: ClassVar[str] = "comirec"
    link: ClassVar[Literal["identity", "softmax"]] = "softmax"

    def __init__(self, settings: ComiRecConfig, item_ids: list[str], trained: Interests) -> None:
        """Raises: ShapeError for tensors that do not fit."""
        expected = Interests.shapes(Sizes(len(item_ids), settings.factors, settings.interests, settings.hidden))
        for name, tensor in trained._asdict().items():
            if tuple(tensor.shape) != expected[name]:
                raise ShapeError(f"tensor {name} has shape {tuple(tensor.shape)}, this configuration needs {expected[name]}")
        self.settings, self.item_ids, self.trained = settings, item_ids, trained
        self.history_length = settings.history_length
        self._arrays: dict[str, F32] = {name: np.ascontiguousarray(one.detach().numpy()) for name, one in trained._asdict().items()}
        self.item_vectors: F32 = self._arrays["items"]
        with torch.inference_mode():
            self._belongs: F32 = np.ascontiguousarray(trained.belongs().numpy())

    @property
    def config(self) -> dict[str, Any]:
        return asdict(self.settings)

    def tensors(self) -> dict[str, NDArray[Any]]:
        return dict(self._arrays)

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], item_ids: list[str], tensors: Mapping[str, NDArray[Any]]) -> Self:
        settings = ComiRecConfig(**known_options(ComiRecConfig, config))
        given = {name: torch.from_numpy(np.array(tensors[name], np.float32)) for name in Interests._fields}
        return cls(settings, item_ids, Interests(**given))

    def encode(self, histories: Histories) -> F32:
        """Return user vectors (U, K, D+1), zero for a history without a liked item.

        Interest k is v_k = Σ_i a_ik e_i / ‖a_·k‖ over the liked items, each once, with a_·k a softmax over the history of what the interest
        says to the item, to its rank and to its age; and 1 for the bias of items.
        """
        liked, settings = liked_once(histories), self.settings
        ranks, ages = np.empty(liked.shape, np.int64), np.empty(liked.shape, np.int64)
        reading_kernel.classes(liked, histories.ages_s.astype(np.float32, copy=False), reading_kernel.EDGES_S, ranks, ages)
        found, arrays = np.empty((len(histories), settings.interests, settings.factors), np.float32), self._arrays
        interest_kernel.interests(liked, ranks, ages, self._belongs, arrays["ranks"], arrays["ages"], arrays["read"], found)
        vectors = np.zeros((len(histories), settings.interests, settings.factors + 1), np.float32)
        read = (liked >= 0).any(axis=1)
        vectors[read, :, :-1], vectors[read, :, -1] = found[read], 1
        return vectors
