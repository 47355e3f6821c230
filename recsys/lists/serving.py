"""A trained model laid over the engine's item numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from recsys.index.vectors import VectorIndex
from recsys.models.base import Model
from recsys.state.user_row import model_tag

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class IndexedModel:
    """A model over its index: `rows` (N,) says where in the index an item's vector is, −1 where the model does not know it; `numbers`
    (I,) which item a row of the index is, −1 where it has no number here."""

    model: Model
    index: VectorIndex
    rows: I32
    numbers: I64

    @classmethod
    def of(cls, model: Model, positions: I32, known: Bools) -> IndexedModel:
        """Lay the model's index over item numbers: `positions` (N,) on the model's own axis, where `known` (N,)."""
        index = index_of(model)
        row_of = np.empty(len(index), np.int32)
        row_of[index.numbers] = np.arange(len(index), dtype=np.int32)
        number_of = np.full(len(index), -1, np.int64)
        number_of[positions[known]] = np.flatnonzero(known)
        rows = np.full(len(positions), -1, np.int32)
        rows[known] = row_of[positions[known]]
        return cls(model, index, rows, number_of[index.numbers])


_indexes: WeakKeyDictionary[Model, VectorIndex] = WeakKeyDictionary()


def index_of(model: Model) -> VectorIndex:
    """Return the index of the model's item vectors, built on the first call: seconds at a million items. May be called in any thread."""
    index = _indexes.get(model)
    if index is None:
        index = _indexes[model] = VectorIndex(model.item_vectors)
    return index


@dataclass(frozen=True, slots=True)
class ServingModel:
    """A model over N item numbers: `vectors` (N, D), dimension after dimension in memory, with zero rows for items it does not know;
    `positions` (N,) on its own axis. In a large catalogue `vectors` is empty, and `indexed` holds them."""

    kind: str
    version: str
    model: Model
    vectors: F32
    known: Bools
    positions: I32
    indexed: IndexedModel | None = None

    @classmethod
    def of(cls, kind: str, version: str, model: Model, item_numbers: Mapping[str, int], n_items: int, *, is_large: bool) -> ServingModel:
        """Lay a model over `n_items` numbers. Items of the model that have no number here are left out."""
        positions = np.full(n_items, -1, np.int32)
        for position, item_id in enumerate(model.item_ids):
            number = item_numbers.get(item_id)
            if number is not None and number < n_items:
                positions[number] = position
        known = positions >= 0
        if is_large:
            none = np.zeros((0, model.item_vectors.shape[1]), np.float32)
            return cls(kind, version, model, none, known, positions, IndexedModel.of(model, positions, known))
        vectors = np.zeros((n_items, model.item_vectors.shape[1]), np.float32, order="F")
        vectors[known] = model.item_vectors[positions[known]]
        return cls(kind, version, model, vectors, known, positions)

    @property
    def tag(self) -> int:
        """Return the stamp of embeddings made with this version."""
        return model_tag(self.kind, self.version)

    def with_index(self) -> ServingModel:
        """Return the model for a catalogue that has become large."""
        return replace(self, vectors=self.vectors[:0], indexed=IndexedModel.of(self.model, self.positions, self.known))

    def widened(self, n_items: int) -> ServingModel:
        """Return the model over more items, which it does not know."""
        more = n_items - len(self.positions)
        if more <= 0:
            return self
        indexed = self.indexed
        return replace(
            self,
            vectors=np.pad(self.vectors, ((0, more), (0, 0))) if indexed is None else self.vectors,
            known=np.pad(self.known, (0, more)),
            positions=np.pad(self.positions, (0, more), constant_values=-1),
            indexed=None if indexed is None else replace(indexed, rows=np.pad(indexed.rows, (0, more), constant_values=-1)),
        )
