"""Holds what rules name of items: exact texts and numbers, by item number. Where no rule names anything, nothing is held.

Shapes: C item numbers that there is room for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.state.held_texts import HeldTexts

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Names what is to be held of items: their `categories`, `titles`, and attributes that are `texts` or `numbers`, by name."""

    categories: bool = False
    titles: bool = False
    texts: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()

    def joined(self, other: Wanted) -> Wanted:
        """Return all that this one or the other names."""
        return Wanted(
            self.categories or other.categories,
            self.titles or other.titles,
            tuple(sorted({*self.texts, *other.texts})),
            tuple(sorted({*self.numbers, *other.numbers})),
        )


class Described(Protocol):
    """The part of an item that can be held (`recsys.catalogue.items.ItemContent`)."""

    @property
    def categories(self) -> Sequence[str]: ...
    @property
    def title(self) -> str: ...
    @property
    def attributes(self) -> Mapping[str, str]: ...
    @property
    def numbers(self) -> Mapping[str, float]: ...


class HeldValues:
    """Values of items that `wanted` names. `version` counts changes of the catalogue. `ids` are those of the items by number, if they are
    known; they may grow and never change."""

    def __init__(self, wanted: Wanted, n_items: int = 0) -> None:
        self.wanted, self.version = wanted, 0
        self.ids: Sequence[str] = ()
        self.id_tables: dict[Any, Any] = {}
        self._n = n_items
        self.categories = HeldTexts(n_items, ()) if wanted.categories else None
        self.titles = HeldTexts(n_items, "") if wanted.titles else None
        self.texts = {name: HeldTexts(n_items) for name in wanted.texts}
        self.numbers: dict[str, F64] = {name: np.full(n_items, np.nan) for name in wanted.numbers}

    def _held(self) -> list[HeldTexts]:
        return [one for one in (self.categories, self.titles, *self.texts.values()) if one is not None]

    def grow(self, n_items: int) -> None:
        """Make room for item numbers below `n_items`."""
        if n_items <= self._n:
            return
        for one in self._held():
            one.grow(n_items)
        for name, values in self.numbers.items():
            self.numbers[name] = np.pad(values, (0, n_items - len(values)), constant_values=np.nan)
        self._n = n_items

    def put(self, number: int, content: Described | None) -> None:
        """Replace what is held of an item; None: nothing is known of it."""
        self.version += 1
        if self.categories is not None:
            self.categories.put(number, None if content is None else tuple(content.categories))
        if self.titles is not None:
            self.titles.put(number, None if content is None else content.title)
        for name, held in self.texts.items():
            held.put(number, None if content is None else content.attributes.get(name))
        for name, values in self.numbers.items():
            values[number] = np.nan if content is None else content.numbers.get(name, np.nan)
