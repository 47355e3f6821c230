"""Two towers as a model: the tower of items is computed once, that of users is a sum over the history and a small layer.

Source: Covington, Adams & Sargin 2016 (users from history and profile); Yi et al. 2019 (two towers); Volkovs, Yu & Poutanen 2017 (dropout
of ids, so that content alone can stand for an item).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.errors import ModelError, ShapeError
from recsys.models import pooling_kernel
from recsys.models.base import F32, Histories
from recsys.models.checks import known_options
from recsys.models.content_map import ContentMap, Features
from recsys.models.item_values import ItemValues
from recsys.models.neighbour import liked_once
from recsys.models.segments.segment import Membership, Segment
from recsys.models.two_tower import reading_kernel
from recsys.models.two_tower.config import TwoTowerConfig
from recsys.models.two_tower.towers import Content, Sizes, Towers
from recsys.state.profiles import ProfileColumns

VALUES, BLOCKS, SEGMENTS = "values", "blocks", "segments"


class TwoTowerModel:
    """Vectors of items (I, D+1), and the tower of users. An item's score is a logit."""

    kind: ClassVar[str] = "two_tower"
    link: ClassVar[Literal["identity", "softmax"]] = "softmax"

    def __init__(
        self, settings: TwoTowerConfig, item_ids: list[str], towers: Towers, content: Content, segments: Sequence[Segment] = ()
    ) -> None:
        """Raises: ShapeError for towers that do not fit."""
        n_embedded = sum(size for _, size in content.blocks)
        sizes = Sizes(len(item_ids), len(content.said.names), n_embedded, len(segments), settings.factors, settings.hidden)
        expected = Towers.shapes(sizes)
        for name, tensor in towers._asdict().items():
            if tuple(tensor.shape) != expected[name]:
                raise ShapeError(f"tensor {name} has shape {tuple(tensor.shape)}, this configuration needs {expected[name]}")
        self.settings, self.item_ids, self.towers, self.content, self.segments = settings, item_ids, towers, content, tuple(segments)
        self.history_length = settings.history_length
        self._arrays: dict[str, F32] = {name: one.detach().numpy() for name, one in towers._asdict().items()}
        self._by_rank, self._by_age = np.exp(self._arrays["ranks"]), np.exp(self._arrays["ages"])
        self.item_vectors: F32 = np.ascontiguousarray(self._item_vectors())
        self.content_map = self._map()
        self.shared_values: tuple[ItemValues, F32] | None = None
        if content.said.names:
            self.shared_values = content.said, np.ascontiguousarray(self._arrays["values"])
        self._membership = Membership(self.segments)

    def _item_vectors(self) -> F32:
        found = [self._arrays["items"][:0]]
        with torch.inference_mode():
            for first in range(0, len(self.item_ids), 4_096):
                rows = np.arange(first, min(first + 4_096, len(self.item_ids)))
                found.append(self.towers.vectors(rows, self.content).numpy())
        return np.concatenate(found)

    def _map(self) -> ContentMap | None:
        """Return the tower of items without ids, for items that nobody has touched; None if nothing is known of what items say."""
        weights = np.concatenate((self._arrays["values"], self._arrays["embeddings"]))
        if not weights.any():
            return None
        features = Features(self.content.said.names, self.content.blocks)
        return ContentMap(features, weights, np.zeros(weights.shape[1], np.float32), 1.0)

    @property
    def reads_attributes(self) -> bool:
        """Return whether profiles are part of a user's vector."""
        return bool(self.segments)

    @property
    def config(self) -> dict[str, Any]:
        found: dict[str, Any] = asdict(self.settings)
        if self.content_map is not None:
            found |= {VALUES: list(self.content.said.names), BLOCKS: [list(one) for one in self.content.blocks]}
        return found | ({SEGMENTS: [one.as_json() for one in self.segments]} if self.segments else {})

    def tensors(self) -> dict[str, NDArray[Any]]:
        found: dict[str, NDArray[Any]] = {name: array for name, array in self._arrays.items() if array.size}
        found |= self.content.said.tensors()
        return found if self.content.embedded is None else found | {"embedded": self.content.embedded}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], item_ids: list[str], tensors: Mapping[str, NDArray[Any]]) -> Self:
        settings = TwoTowerConfig(**known_options(TwoTowerConfig, config))
        try:
            names = [str(name) for name in config.get(VALUES, ())]
            blocks = tuple((str(name), int(size)) for name, size in config.get(BLOCKS, ()))
        except (TypeError, ValueError):
            raise ModelError("two_tower: its names of values or embeddings cannot be read; train the model again") from None
        if len(set(names)) != len(names) or any(size < 1 for _, size in blocks):
            raise ModelError("two_tower: it names a value twice, or an embedding without dimensions; train the model again")
        n_embedded = sum(size for _, size in blocks)
        embedded = np.asarray(tensors["embedded"], np.float32) if blocks else None
        if embedded is not None and embedded.shape != (len(item_ids), n_embedded):
            raise ShapeError(f"tensor embedded has shape {embedded.shape}, expected {(len(item_ids), n_embedded)}")
        segments = [Segment.of(one) for one in config.get(SEGMENTS, ())]
        content = Content(ItemValues.from_tensors(names, tensors, len(item_ids)), blocks, embedded)
        sizes = Sizes(len(item_ids), len(names), n_embedded, len(segments), settings.factors, settings.hidden)
        given = {
            name: torch.from_numpy(np.array(tensors[name], np.float32)) if all(shape) else torch.zeros(shape)
            for name, shape in Towers.shapes(sizes).items()
        }
        return cls(settings, item_ids, Towers(**given), content, segments)

    def encode(self, histories: Histories) -> F32:
        """Return user vectors (U, D+1) by histories alone.

        The pooled history is h = Σ a e / √Σa over the liked items, each once, where a falls or grows with the entry's rank and age as
        learnt; the vector is h + relu(h W₁ + b) W₂, and 1 for the bias of items.
        """
        liked = liked_once(histories)
        ranks, ages, scales = np.empty(liked.shape, np.int64), np.empty(liked.shape, np.int64), np.empty(liked.shape, np.float32)
        reading_kernel.classes(liked, histories.ages_s.astype(np.float32, copy=False), reading_kernel.EDGES_S, ranks, ages)
        reading_kernel.scales(liked, ranks, ages, self._by_rank, self._by_age, scales)
        vectors = np.zeros((len(histories), self.settings.factors + 1), np.float32)
        pooled = np.empty((len(histories), self.settings.factors), np.float32)
        pooling_kernel.pooled(liked, scales, self._arrays["read"], pooled)
        if self.settings.hidden:
            hidden = np.maximum(pooled @ self._arrays["widen"] + self._arrays["shift"], 0)
            pooled = pooled + hidden @ self._arrays["narrow"]
        read = (liked >= 0).any(axis=1)
        vectors[read, :-1], vectors[read, -1] = pooled[read], 1
        return vectors

    def with_profiles(self, vectors: F32, profiles: ProfileColumns) -> F32:
        """Return the vectors (U, D+1) of histories with what the profiles of the same users add; zero where neither says anything."""
        members = np.zeros((len(profiles), len(self.segments)), np.float32)
        self._membership.mark(profiles, members)
        found: F32 = vectors.copy()
        found[:, :-1] += members @ self._arrays["segments"]
        found[members.any(axis=1), -1] = 1
        return found
