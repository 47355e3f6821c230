"""A learnt map from what items say to a model's item vectors: items that the model does not know have a place in it.

Shapes: n items, F features, D dimensions of the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.words import Words, dense, vocabulary
from recsys.errors import ModelError, ShapeError
from recsys.models.base import Model
from recsys.models.checks import check_tensors

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

MAX_VALUES = 512
"""Values that a map reads: those of the most items."""
MAX_EMBEDDING_COLUMNS = 2_048
"""Dimensions of all embeddings together that a map reads. A ridge system of 2,560 features takes 3 s and 200 MB."""
MAX_GAIN = 100.0
COUNT_HALF = 10.0
"""An item with this many events weighs half of what one with very many does."""
OPTION = "content_map"
"""Name under which a model's manifest describes its map, and first part of the names of its tensors."""


@dataclass(frozen=True, slots=True)
class Features:
    """Features that a map reads: values, then embeddings by name with their dimensions."""

    values: tuple[str, ...]
    blocks: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, words: Words) -> Features:
        """Choose the features of items that a map is learnt from: frequent values, and the embeddings that most items have."""
        blocks: list[tuple[str, int]] = []
        for name, (rows, vectors) in sorted(words.embeddings.items(), key=lambda one: (-len(one[1][0]), one[0])):
            if len(rows) > 1 and sum(size for _, size in blocks) + vectors.shape[1] <= MAX_EMBEDDING_COLUMNS:
                blocks.append((name, vectors.shape[1]))
        return cls(tuple(vocabulary(words, MAX_VALUES)), tuple(blocks))

    @property
    def width(self) -> int:
        """Return F."""
        return len(self.values) + sum(size for _, size in self.blocks)

    def read(self, words: Words) -> F32:
        """Return the features of items, (n, F)."""
        return dense(words, {value: column for column, value in enumerate(self.values)}, self.blocks)


@dataclass(frozen=True, slots=True, eq=False)
class ContentMap:
    """`gain` · (features · `weights` (F, D) + `bias` (D,)) is the vector of an item. Raises: ShapeError, ModelError."""

    features: Features
    weights: F32
    bias: F32
    gain: float

    def __post_init__(self) -> None:
        if self.weights.ndim != 2 or self.weights.shape != (self.features.width, len(self.bias)) or self.bias.ndim != 1:
            raise ShapeError(f"a map of {self.features.width} features has weights {self.weights.shape} and bias {self.bias.shape}")
        if not 0 < self.gain <= MAX_GAIN:
            raise ModelError(f"the gain of a map is {self.gain!r:.20}, expected above 0 and at most {MAX_GAIN:g}")
        check_tensors({"weights": self.weights, "bias": self.bias})

    def vectors(self, words: Words) -> tuple[F32, NDArray[np.bool_]]:
        """Return the vectors of items (n, D), and of which something is known (n,); those of the others are zero."""
        features = self.features.read(words)
        known: NDArray[np.bool_] = np.any(features != 0, axis=1)
        found: F32 = (features @ self.weights + self.bias) * np.float32(self.gain)
        found[~known] = 0
        return found, known

    def config(self) -> dict[str, Any]:
        """Return what describes the map, as JSON can hold it."""
        return {"values": list(self.features.values), "blocks": [list(one) for one in self.features.blocks], "gain": self.gain}

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the numbers by name."""
        return {f"{OPTION}.weights": self.weights, f"{OPTION}.bias": self.bias}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> ContentMap:
        """Rebuild a stored map. Raises: ShapeError, ModelError."""
        try:
            values = tuple(str(value) for value in config["values"])
            blocks = tuple((str(name), int(size)) for name, size in config["blocks"])
            gain = float(config["gain"])
            weights, bias = (np.asarray(tensors[f"{OPTION}.{name}"], np.float32) for name in ("weights", "bias"))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"the map from content is incomplete ({type(error).__name__}); train the model again") from None
        if len(set(values)) != len(values) or any(size < 1 for _, size in blocks):
            raise ModelError("the map from content names a value twice, or an embedding without dimensions; train the model again")
        return cls(Features(values, blocks), weights, bias, gain)


@dataclass(frozen=True, slots=True, eq=False)
class MappedModel:
    """A model with its map from content."""

    model: Model
    content_map: ContentMap

    def __post_init__(self) -> None:
        if len(self.content_map.bias) != self.model.item_vectors.shape[1]:
            raise ShapeError(f"the map has {len(self.content_map.bias)} dimensions, the model {self.model.item_vectors.shape[1]}")

    @property
    def kind(self) -> str:
        """Return the kind of the model."""
        return self.model.kind

    @property
    def item_ids(self) -> list[str]:
        """Return the items that the model knows by their events."""
        return self.model.item_ids

    @property
    def config(self) -> dict[str, Any]:
        """Return the model's options, and what describes the map."""
        return {**self.model.config, OPTION: self.content_map.config()}

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the numbers of both by name."""
        return {**self.model.tensors(), **self.content_map.tensors()}


@runtime_checkable
class ReadsContent(Protocol):
    """A model that has learnt a map from content by itself; None if it knew nothing of its items."""

    content_map: ContentMap | None


def parts_of(model: Model | MappedModel) -> tuple[Model, ContentMap | None]:
    """Return a model and its map, None without one."""
    if isinstance(model, MappedModel):
        return model.model, model.content_map
    return model, model.content_map if isinstance(model, ReadsContent) else None


def split_tensors(tensors: Mapping[str, NDArray[Any]]) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Return the tensors of a stored model, and those of its map."""
    own = {name: array for name, array in tensors.items() if not name.startswith(f"{OPTION}.")}
    return own, {name: array for name, array in tensors.items() if name not in own}


class Ridge:
    """Ridge regression of item vectors on features, for many strengths of regularisation.

    Minimises Σᵢ cᵢ ‖yᵢ − Wᵀ xᵢ − b‖² + λ c̄ ‖W‖² with cᵢ = nᵢ / (nᵢ + 10) for an item with nᵢ events and their mean c̄: the vector of an item
    with few events is mostly noise. Source: Hoerl & Kennard 1970.
    """

    def __init__(self, features: F32, vectors: F32, counts: NDArray[Any]) -> None:
        """Shapes: features (n, F), vectors (n, D), counts (n,) above 0."""
        weights = np.asarray(counts, np.float64) / (np.asarray(counts, np.float64) + COUNT_HALF)
        self._mean_weight = float(weights.mean())
        self._x_mean: F64 = weights @ features.astype(np.float64) / weights.sum()
        self._y_mean: F64 = weights @ vectors.astype(np.float64) / weights.sum()
        root = np.sqrt(weights)[:, None]
        x = (features - self._x_mean) * root
        self._values, self._axes = np.linalg.eigh(x.T @ x)
        self._right: F64 = self._axes.T @ (x.T @ ((vectors - self._y_mean) * root))

    def solve(self, regularisation: float) -> tuple[F32, F32]:
        """Return W (F, D) and b (D,) for λ = `regularisation`."""
        scaled = self._right / (np.maximum(self._values, 0) + regularisation * self._mean_weight)[:, None]
        weights = self._axes @ scaled
        return weights.astype(np.float32), (self._y_mean - self._x_mean @ weights).astype(np.float32)


def as_map(features: Features, solved: tuple[F32, F32], gain: float = 1.0) -> ContentMap:
    """Return a solution of `Ridge` as a map."""
    return ContentMap(features, np.ascontiguousarray(solved[0]), np.ascontiguousarray(solved[1]), gain)


def chosen(words: Words, rows: Sequence[int] | NDArray[np.int64]) -> Words:
    """Return what some of the items say, `rows` (m,)."""
    place = np.full(len(words), -1, np.int64)
    rows = np.asarray(rows, np.int64)
    place[rows] = np.arange(len(rows))
    embeddings = {}
    for name, (had, vectors) in words.embeddings.items():
        kept = place[had] >= 0
        embeddings[name] = place[had[kept]], vectors[kept]
    return Words([words.values[row] for row in rows.tolist()], embeddings)
