"""LightGCN as a model: vectors of items after propagation, and a user's vector as the sum of those that a history reads.

A user has no vector of its own, so a user who came after the training has a list as exact as any other: the layers of users in He et al.
2020 without the first one. Source: He et al. 2020; users without vectors of their own as in Wu et al. 2022 (INMO).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ModelError, ShapeError
from recsys.models import pooling_kernel
from recsys.models.base import F32, Histories
from recsys.models.checks import known_options
from recsys.models.content_map import ContentMap, Features
from recsys.models.item_values import ItemValues
from recsys.models.lightgcn.config import LightGCNConfig
from recsys.models.neighbour import liked_once

NAMES = "values"


@dataclass(frozen=True, slots=True)
class Vectors:
    """Trained numbers of I items in D dimensions: `items` after propagation, `read` by histories, and `own`, which it began with."""

    items: F32
    read: F32
    own: F32


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Holds what items say, `said`, of F values, the values' `own` vectors (F, D), and `given` (F, D), which an item that nobody touched
    gets for a value of weight 1."""

    said: ItemValues
    own: F32
    given: F32


class LightGCNModel:
    """Vectors of items (I, D), those that histories read, and what values give. An item's score is a logit."""

    kind: ClassVar[str] = "lightgcn"
    link: ClassVar[Literal["identity", "softmax"]] = "softmax"

    def __init__(self, settings: LightGCNConfig, item_ids: list[str], vectors: Vectors, knowledge: Knowledge | None = None) -> None:
        shape = (len(item_ids), settings.factors)
        for name, array in (("item_vectors", vectors.items), ("read", vectors.read), ("own", vectors.own)):
            if array.shape != shape:
                raise ShapeError(f"tensor {name} has shape {array.shape}, expected {shape}")
        if knowledge is not None:
            wanted = (len(knowledge.said.names), settings.factors)
            for name, array in (("value_own", knowledge.own), ("value_given", knowledge.given)):
                if array.shape != wanted:
                    raise ShapeError(f"tensor {name} has shape {array.shape}, expected {wanted}")
        self.settings, self.item_ids, self.vectors, self.knowledge = settings, item_ids, vectors, knowledge
        self.item_vectors: F32 = np.ascontiguousarray(vectors.items)
        self._read: F32 = np.ascontiguousarray(vectors.read)
        self.history_length = settings.history_length
        self.content_map: ContentMap | None = None
        self.shared_values: tuple[ItemValues, F32] | None = None
        if knowledge is not None and knowledge.given.any():
            bias = np.zeros(settings.factors, np.float32)
            self.shared_values = knowledge.said, np.ascontiguousarray(knowledge.given)
            self.content_map = ContentMap(Features(knowledge.said.names, ()), knowledge.given, bias, 1.0)

    @property
    def config(self) -> dict[str, Any]:
        names = {} if self.knowledge is None else {NAMES: list(self.knowledge.said.names)}
        return {**asdict(self.settings), **names}

    def tensors(self) -> dict[str, NDArray[Any]]:
        found: dict[str, NDArray[Any]] = {"item_vectors": self.item_vectors, "read": self._read, "own": self.vectors.own}
        if self.knowledge is not None:
            found |= {"value_own": self.knowledge.own, "value_given": self.knowledge.given, **self.knowledge.said.tensors()}
        return found

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], item_ids: list[str], tensors: Mapping[str, NDArray[Any]]) -> Self:
        settings = LightGCNConfig(**known_options(LightGCNConfig, config))
        items, read, own = (np.asarray(tensors[name], np.float32) for name in ("item_vectors", "read", "own"))
        names, knowledge = config.get(NAMES), None
        if names is not None:
            if not isinstance(names, list | tuple) or len(set(map(str, names))) != len(names):
                raise ModelError("lightgcn: its names of values are no list, or one is there twice; train the model again")
            said = ItemValues.from_tensors([str(name) for name in names], tensors, len(item_ids))
            value_own, given = (np.asarray(tensors[name], np.float32) for name in ("value_own", "value_given"))
            knowledge = Knowledge(said, value_own, given)
        return cls(settings, item_ids, Vectors(items, read, own), knowledge)

    def encode(self, histories: Histories) -> F32:
        """Return user vectors (U, D): Σ over the n liked items of a history, each once, of what it is read as, divided by √n."""
        liked = liked_once(histories)
        n_liked = np.maximum((liked >= 0).sum(axis=1), 1)
        scales = np.where(liked >= 0, n_liked[:, None] ** -0.5, 0.0).astype(np.float32)
        vectors = np.empty((len(histories), self.settings.factors), np.float32)
        pooling_kernel.pooled(liked, scales, self._read, vectors)
        return vectors
