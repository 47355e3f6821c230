"""A trained model laid over the engine's item numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.words import words_of
from recsys.lists.extended import ExtendedItems
from recsys.models.base import Histories, Model, ReadsProfiles
from recsys.models.content_map import ContentMap, MappedModel, parts_of
from recsys.models.neighbour import NeighbourModel
from recsys.models.neighbour_rows import NeighbourRows
from recsys.models.segments.model import SegmentsModel
from recsys.state import user_table_kernel
from recsys.state.profiles import ProfileColumns
from recsys.state.user_row import model_tag
from recsys.state.user_table import WEIGHT_UNITS, UserTable

if TYPE_CHECKING:
    from recsys.catalogue.items import Catalogue
    from recsys.index.vectors import VectorIndex

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

EXTENDED_AT_ONCE = 4_096
"""Items whose features a map reads at once: 40 MB for 2,560 features."""
MAX_EXTENDED = 100_000
"""Items that get a vector when a model begins to serve, in 2 s; others get theirs when they are described again."""


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
        from recsys.index.vectors import VectorIndex  # not before it is needed: torch takes more than a second

        index = _indexes[model] = VectorIndex(model.item_vectors)
    return index


def prepare_index(model: Model) -> None:
    """Build the index of the model's item vectors, if it has some."""
    if not isinstance(model, NeighbourModel):
        index_of(model)


@dataclass(frozen=True, slots=True)
class ServingModel:
    """A model over N item numbers: `vectors` (N, D), dimension after dimension in memory, with zero rows for items it does not know;
    `positions` (N,) on its own axis. In a large catalogue `vectors` is empty, and `indexed` holds them.

    With a map from content, items that the model does not know have a vector, too, and are `known`, but have no position: `extend` gives
    it to them. In a large catalogue `extended` holds these."""

    kind: str
    version: str
    model: Model
    vectors: F32
    known: Bools
    positions: I32
    indexed: IndexedModel | None = None
    content_map: ContentMap | None = None
    extended: ExtendedItems | None = None
    rows: NeighbourRows | None = None
    """Rows of a model that has no vectors, over item numbers; items without a number here are left out."""

    @classmethod
    def of(
        cls,
        kind: str,
        version: str,
        served: Model | MappedModel,
        item_numbers: Mapping[str, int],
        n_items: int,
        *,
        is_large: bool,
    ) -> ServingModel:
        """Lay a model over `n_items` numbers. Items of the model that have no number here are left out."""
        model, content_map = parts_of(served)
        positions = np.full(n_items, -1, np.int32)
        for position, item_id in enumerate(model.item_ids):
            number = item_numbers.get(item_id)
            if number is not None and number < n_items:
                positions[number] = position
        known = positions >= 0
        if isinstance(model, NeighbourModel):
            number_of = np.full(len(model.item_ids), -1, np.int64)
            number_of[positions[known]] = np.flatnonzero(known)
            no_vectors = np.zeros((n_items, 0), np.float32)
            return cls(kind, version, model, no_vectors, known, positions, rows=model.rows.renumbered(number_of))
        if is_large:
            none = np.zeros((0, model.item_vectors.shape[1]), np.float32)
            extended = None if content_map is None else ExtendedItems(none.shape[1], n_items)
            return cls(kind, version, model, none, known, positions, IndexedModel.of(model, positions, known), content_map, extended)
        vectors = np.zeros((n_items, model.item_vectors.shape[1]), np.float32, order="F")
        vectors[known] = model.item_vectors[positions[known]]
        return cls(kind, version, model, vectors, known, positions, content_map=content_map)

    @property
    def served(self) -> Model | MappedModel:
        """Return the model, with the map that was learnt beside it if there is one."""
        is_own = self.content_map is parts_of(self.model)[1]
        return self.model if self.content_map is None or is_own else MappedModel(self.model, self.content_map)

    def extend_all(self, catalogue: Catalogue, n_items: int) -> None:
        """Do as `extend` does for the newest `MAX_EXTENDED` of the items below `n_items` that the model does not know."""
        if self.content_map is not None:
            self.extend(catalogue, np.flatnonzero(self.positions[:n_items] < 0)[-MAX_EXTENDED:])

    def extend(self, catalogue: Catalogue, numbers: I64) -> None:
        """Give those of the items `numbers` (n,) a vector that the model does not know, by what they say; nothing without a map."""
        if self.content_map is None:
            return
        numbers = numbers[self.positions[numbers] < 0]
        for part in np.array_split(numbers, -(-len(numbers) // EXTENDED_AT_ONCE)) if len(numbers) else ():
            vectors, known = self.content_map.vectors(words_of(catalogue, part))
            if self.extended is not None:
                self.extended.put(part, vectors, known)
            else:
                self.vectors[part], self.known[part] = vectors, known

    @property
    def reads_profiles(self) -> bool:
        """Return whether users' vectors are made of their profiles instead of their histories."""
        return isinstance(self.model, SegmentsModel)

    @property
    def adds_profiles(self) -> bool:
        """Return whether profiles are a part of users' vectors that histories make."""
        return isinstance(self.model, ReadsProfiles) and self.model.reads_attributes

    @property
    def needs_profiles(self) -> bool:
        """Return whether profiles take part in users' vectors."""
        return self.reads_profiles or self.adds_profiles

    def with_profiles(self, vectors: F32, profiles: ProfileColumns) -> F32:
        """Return the vectors (U, D) of histories with what the profiles of the same users add."""
        return self.model.with_profiles(vectors, profiles) if isinstance(self.model, ReadsProfiles) else vectors

    @property
    def tag(self) -> int:
        """Return the stamp of embeddings made with this version."""
        return model_tag(self.kind, self.version)

    def histories(self, users: UserTable, slots: I64, now_s: int | None = None) -> Histories:
        """Return the newest interactions of the users in `slots` (U,) as the model reads them: items on its own axis, and the gap from the
        newest one to `now_s`, the second of the list; None: the list is made at once."""
        numbers, at_s, units = users.newest(slots, min(self.model.history_length, users.history_length))
        items, weights, ages_s = np.empty(numbers.shape, np.int32), *np.empty((2, *numbers.shape), np.float32)
        unit = np.float32(WEIGHT_UNITS)
        user_table_kernel.on_axis(numbers, at_s, units, users.lengths, slots, unit, self.positions, items, weights, ages_s)
        types = users.newest_types(slots, numbers.shape[1])
        return Histories(items, weights, ages_s, None if now_s is None else users.gaps_s(slots, now_s), types)

    def encode(self, users: UserTable, slots: I64, now_s: int | None = None) -> F32:
        """Return the vectors of the users in `slots` (U,) for lists at the second `now_s`, or at once: (U, D), or (U, V, D); D is 0 for a
        model without vectors, whose source reads histories."""
        return self.model.encode(self.histories(users, slots, now_s)) if self.rows is None else np.zeros((len(slots), 0), np.float32)

    def with_index(self) -> ServingModel:
        """Return the model for a catalogue that has become large."""
        if self.rows is not None:
            return self
        own = self.positions >= 0
        extended = None
        if self.content_map is not None:
            extended, added = ExtendedItems(self.vectors.shape[1], len(self.positions)), np.flatnonzero(self.known & ~own)
            extended.put(added, self.vectors[added], np.ones(len(added), np.bool_))
        return replace(
            self, vectors=self.vectors[:0], known=own, indexed=IndexedModel.of(self.model, self.positions, own), extended=extended
        )

    def widened(self, n_items: int) -> ServingModel:
        """Return the model over more items, which it does not know."""
        more = n_items - len(self.positions)
        if more <= 0:
            return self
        indexed = self.indexed
        if self.extended is not None:
            self.extended.grow(n_items)
        return replace(
            self,
            vectors=np.pad(self.vectors, ((0, more), (0, 0))) if indexed is None else self.vectors,
            known=np.pad(self.known, (0, more)),
            positions=np.pad(self.positions, (0, more), constant_values=-1),
            indexed=None if indexed is None else replace(indexed, rows=np.pad(indexed.rows, (0, more), constant_values=-1)),
        )


def extend_models(models: Mapping[str, ServingModel], catalogue: Catalogue, numbers: I64) -> None:
    """Let the maps of all models read again what the items `numbers` (n,) say."""
    for serving in models.values():
        serving.extend(catalogue, numbers)
