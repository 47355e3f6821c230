"""Descriptions of items and of users, for models that learn from them beside events: values by name, embeddings, which item names which
other one, and profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.content_values import IS
from recsys.catalogue.item_content import ItemContent
from recsys.catalogue.items import Catalogue
from recsys.catalogue.labels import ATTRIBUTE
from recsys.catalogue.words import Words, words_of
from recsys.state.profiles import Attribute, ProfileColumns

I64 = NDArray[np.int64]


class Descriptions(Protocol):
    """Tells what items say."""

    def words(self, item_ids: Sequence[str]) -> Words:
        """Return what these items say, in their order; nothing of an item that is not known."""
        ...


class UserProfiles(NamedTuple):
    """Attributes of U users, and what their keys stand for."""

    columns: ProfileColumns
    attributes: Mapping[int, Attribute]

    def at(self, users: I64) -> UserProfiles:
        """Return those of some users (V,)."""
        return UserProfiles(self.columns.at(users), self.attributes)


@dataclass(frozen=True, slots=True)
class ItemDescriptions:
    """A catalogue of items, their numbers by id, and by number the values that relations between items add."""

    catalogue: Catalogue
    numbers: Mapping[str, int]
    related: Mapping[int, Sequence[str]]

    @classmethod
    def of(cls, contents: Mapping[int, ItemContent], item_ids: Sequence[str]) -> Self:
        """Describe items; `contents` by position among `item_ids`.

        A categorical attribute that holds the id of another item, such as `sequel_of`, relates the two: both get the value.
        """
        catalogue = Catalogue(max(len(item_ids), 1))
        catalogue.grow(len(item_ids))
        numbers = {item_id: number for number, item_id in enumerate(item_ids)}
        related: dict[int, list[str]] = {}
        for number, content in contents.items():
            catalogue.put(number, content)
            for name, value in content.attributes.items():
                other = numbers.get(value)
                if other is not None and other != number:
                    said = f"{ATTRIBUTE}{name}{IS}{value}"
                    for one in (number, other):
                        related.setdefault(one, []).append(said)
        return cls(catalogue, numbers, {number: list(dict.fromkeys(said)) for number, said in related.items()})

    def words(self, item_ids: Sequence[str]) -> Words:
        _ = self.catalogue.features  # decides which attributes are identifiers
        known = [number for item_id in item_ids if (number := self.numbers.get(item_id)) is not None]
        places = np.array([at for at, item_id in enumerate(item_ids) if item_id in self.numbers], np.int64)
        found = words_of(self.catalogue, np.array(known, np.int64))
        values: list[list[tuple[str, float]]] = [[] for _ in item_ids]
        for place, number, said in zip(places.tolist(), known, found.values, strict=True):
            values[place] = _with_relations(said, self.related.get(number, ()))
        return Words(values, {name: (places[rows], vectors) for name, (rows, vectors) in found.embeddings.items()})


def _with_relations(said: list[tuple[str, float]], related: Sequence[str]) -> list[tuple[str, float]]:
    """Return what an item says with its relations, which have unit length together."""
    own = {value for value, _ in said}
    added = [value for value in related if value not in own]
    return [*said, *((value, len(added) ** -0.5) for value in added)]
