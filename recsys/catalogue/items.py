"""The catalogue: availability, age and content features of items, by item number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.content_kinds import ContentKinds, Described, of_attributes
from recsys.catalogue.projection import projected
from recsys.jit import compiled

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

ERA_S = 5 * 365.25 * 86_400
"""Items published in the same five years share the feature "era"."""
ERA_REACH = 0.75
"""How far an era reaches: the next one counts exp(−1/0.75) as much."""
RARITY_POWER = 0.7
"""A category weighs ln(1 + described items / items with it)^0.7."""
REWEIGH_GROWTH = 1.05
"""Category weights are recomputed once the described items grew by this factor."""
SHARES = {"category": 1.0, "era": 0.5, "attribute": 0.5, "embedding": 1.0}
MAX_FEATURES = 512
"""Distinct categories, eras and attribute values beyond this number share columns."""
MAX_EMBEDDING_COLUMNS = 4_096
"""Columns of all embeddings together: an embedding of yet another name or dimension beyond this takes no part."""
UNKNOWN_S = int(np.iinfo(np.int64).min)


@dataclass(frozen=True, slots=True)
class ItemContent:
    """One item's content. Times are seconds; `embeddings` are the owner's own vectors by name (text, image, audio)."""

    categories: Sequence[str] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    published_s: int | None = None
    expires_s: int | None = None
    available: bool = True
    embeddings: Mapping[str, Sequence[float]] = field(default_factory=dict)


class Catalogue:
    """Arrays over item numbers.

    `features` (C, F) float32: a unit-length block each for categories, era, attributes and every embedding, scaled by the square root of
    the block's share, so that the inner product of two rows is the weighted sum of the blocks' cosines. A category weighs by its rarity,
    an era reaches into its neighbours. Items without a description have zero rows.

    An embedding of many dimensions is projected to fewer (`recsys.catalogue.projection`).

    After `compact` there is no such matrix: `kinds` holds each distinct content once. `changes` counts changed times of publication,
    `n_left_out` the embeddings for which there were no columns left."""

    def __init__(self, n_items: int = 256, shares: Mapping[str, float] | None = None) -> None:
        self.shares = dict(shares or SHARES)
        self.n_items = 0
        self.available: NDArray[np.bool_] = np.ones(n_items, np.bool_)
        self.published_s: I64 = np.full(n_items, UNKNOWN_S, np.int64)
        self.expires_s: I64 = np.full(n_items, np.iinfo(np.int64).max, np.int64)
        self._features: F32 = np.zeros((n_items, 16), np.float32)
        self._categories: dict[int, list[int]] = {}
        self._category_counts: dict[int, int] = {}
        self._weighed_at = 0
        self._n_categorised = 0
        self._columns: dict[str, int] = {}
        self._blocks: dict[str, slice] = {}
        self._eras: dict[int, list[tuple[int, float]]] = {}
        self._width = 0
        self.kinds: ContentKinds | None = None
        self.changes = 0
        self.n_left_out = 0

    def grow(self, n_items: int) -> None:
        """Make room for item numbers below `n_items`."""
        self.n_items = max(self.n_items, n_items)
        held = len(self.available)
        if n_items > held:
            more = max(n_items, 2 * held) - held
            self.available = np.pad(self.available, (0, more), constant_values=True)
            self.published_s = np.pad(self.published_s, (0, more), constant_values=UNKNOWN_S)
            self.expires_s = np.pad(self.expires_s, (0, more), constant_values=np.iinfo(np.int64).max)
            if self.kinds is None:
                self._features = np.pad(self._features, ((0, more), (0, 0)))
        if self.kinds is not None:
            self.kinds.grow(len(self.available))

    def compact(self) -> None:
        """Hold each distinct content once from now on, and no matrix over the items."""
        if self.kinds is not None:
            return
        kinds = ContentKinds(self._category_values)
        kinds.grow(len(self.available))
        features, owned = self.features, np.zeros(self._width, np.bool_)
        for block in self._blocks.values():
            owned[block] = True
        for number in np.flatnonzero(features.any(axis=1)).tolist():
            row, categories = features[number], self._categories.get(number, [])
            plain = np.flatnonzero((row != 0) & ~owned).tolist()
            kinds.put(
                number,
                Described(
                    tuple(categories),
                    tuple((column, float(row[column])) for column in plain if column not in categories),
                    tuple((block, row[block].copy()) for block in self._blocks.values() if row[block].any()),
                ),
            )
        self.kinds, self._features = kinds, np.zeros((0, 16), np.float32)
        self._n_categorised = len(self._categories)
        self._categories = {}

    @property
    def width(self) -> int:
        """Return F."""
        return self._width

    def refresh_kinds(self, scores_of: Callable[[], F32], valid_s: int) -> ContentKinds:
        """Return the kinds, with category weights and index as of the last 5 % of growth; `scores_of` returns (N,) scores that order items
        of one kind."""
        assert self.kinds is not None, "compact"
        if self._n_categorised > self._weighed_at * REWEIGH_GROWTH:
            self._weighed_at = self._n_categorised
            self.kinds.reweigh()
        self.kinds.refresh(self._width, scores_of, lambda: self.recommendable(valid_s))
        return self.kinds

    @property
    def features(self) -> F32:
        """Return (C, F) content features, with category weights as of the last 5 % of growth."""
        if len(self._categories) > self._weighed_at * REWEIGH_GROWTH:
            self._weighed_at = len(self._categories)
            for number in self._categories:
                self._write_categories(number)
        return self._features[:, : self._width]

    @property
    def feature_table(self) -> F32:
        """Return `features` as they are held: one contiguous array, (C, F or more)."""
        return self._features

    def put(self, number: int, content: ItemContent | None) -> None:
        """Replace the description of an item; None removes it from every list."""
        self.grow(number + 1)
        self.available[number] = content is not None and content.available
        published_s = content.published_s if content is not None and content.published_s is not None else UNKNOWN_S
        self.changes += bool(self.published_s[number] != published_s)
        self.published_s[number] = published_s
        self.expires_s[number] = content.expires_s if content is not None and content.expires_s is not None else np.iinfo(np.int64).max
        if self.kinds is not None:
            self._put_kind(self.kinds, number, content)
            return
        self._features[number] = 0
        for column in self._categories.pop(number, ()):
            self._category_counts[column] -= 1
        if content is None:
            return
        described = self._described(content)
        for column in described.categories:
            self._category_counts[column] = self._category_counts.get(column, 0) + 1
        if described.categories:
            self._categories[number] = list(described.categories)
            self._write_categories(number)
        for column, value in described.fixed:
            self._features[number, column] += value
        for block, vector in described.embeddings:
            self._features[number, block] = vector

    def _put_kind(self, kinds: ContentKinds, number: int, content: ItemContent | None) -> None:
        before, described = kinds.described(number), Described() if content is None else self._described(content)
        for held, step in ((before, -1), (described, 1)):
            self._n_categorised += step * bool(held.categories)
            for column in held.categories:
                self._category_counts[column] = self._category_counts.get(column, 0) + step
        kinds.put(number, described)

    def _described(self, content: ItemContent) -> Described:
        categories = tuple(dict.fromkeys(self._column(f"category={category}") for category in content.categories))
        fixed: list[tuple[int, float]] = []
        if content.published_s is not None:
            fixed += self._era(int(content.published_s // ERA_S))
        if content.attributes:
            columns = [self._column(f"attribute={name}={text}") for name, text in content.attributes.items()]
            fixed += of_attributes(columns, float(np.sqrt(self.shares["attribute"] / len(columns))))
        embeddings = []
        for name, given in content.embeddings.items():
            dense = projected(np.asarray(given, np.float64))
            norm = float(np.linalg.norm(dense))
            if norm > 0:
                block = self._embedding_block(f"{name}/{len(given)}", len(dense))
                if block is None:
                    self.n_left_out += 1
                else:
                    embeddings.append((block, (dense * (np.sqrt(self.shares["embedding"]) / norm)).astype(np.float32)))
        return Described(categories, tuple(fixed), tuple(embeddings))

    def _write_categories(self, number: int) -> None:
        columns = self._categories[number]
        self._features[number, columns] = self._category_values(columns)

    def _category_values(self, columns: Sequence[int]) -> F32:
        described = max(len(self._categories) if self.kinds is None else self._n_categorised, 2)
        rarity = np.array([np.log(1 + described / max(self._category_counts[column], 1)) for column in columns]) ** RARITY_POWER
        values: F32 = (rarity * np.sqrt(self.shares["category"]) / np.linalg.norm(rarity)).astype(np.float32)
        return values

    def _era(self, era: int) -> list[tuple[int, float]]:
        if era not in self._eras:
            reach = np.exp(-np.abs(np.arange(-2, 3)) / ERA_REACH)
            weights = (reach * np.sqrt(self.shares["era"]) / np.linalg.norm(reach)).astype(np.float32)
            columns = [self._column(f"era={near}") for near in range(era - 2, era + 3)]
            self._eras[era] = list(zip(columns, weights.tolist(), strict=True))
        return self._eras[era]

    def recommendable(self, valid_s: int) -> NDArray[np.bool_]:
        """Return which items may be listed at `valid_s`: available, published and not expired, (n_items,)."""
        n = self.n_items
        return self.available[:n] & (self.expires_s[:n] > valid_s) & (self.published_s[:n] <= valid_s)

    def freshness(self, now_s: int, new_s: float, valid_s: int | None = None) -> F32:
        """Return (n_items,): 1 for an item published at `now_s` or since, falling to 0 at age `new_s` and beyond, 0 where unknown or
        published after `valid_s` (`now_s` unless given)."""
        return freshness(self.published_s[: self.n_items], now_s, new_s, now_s if valid_s is None else valid_s)

    def category_vector(self, categories: Sequence[str]) -> F32 | None:
        """Return the content vector of someone who likes these categories, (F,), or None when no item has any of them."""
        columns = [self._columns[name] for name in (f"category={category}" for category in categories) if name in self._columns]
        if not columns:
            return None
        vector = np.zeros(self._width, np.float32)
        vector[columns] = np.float32(1 / np.sqrt(len(columns)))
        return vector

    def _column(self, name: str) -> int:
        column = self._columns.get(name)
        if column is None:
            if len(self._columns) >= MAX_FEATURES:
                return sum(name.encode()) % MAX_FEATURES
            column = self._columns[name] = self._reserve(1)
        return column

    def _embedding_block(self, key: str, width: int) -> slice | None:
        """Return the columns of the embeddings of this name and dimension; None if there are none left."""
        if key not in self._blocks:
            held = sum(block.stop - block.start for block in self._blocks.values())
            if held + width > MAX_EMBEDDING_COLUMNS:
                return None
            start = self._reserve(width)
            self._blocks[key] = slice(start, start + width)
        return self._blocks[key]

    def _reserve(self, width: int) -> int:
        start = self._width
        self._width += width
        if self.kinds is None and self._width > self._features.shape[1]:
            self._features = np.pad(self._features, ((0, 0), (0, max(self._width, 2 * self._features.shape[1]) - self._features.shape[1])))
        return start


def freshness(published_s: I64, now_s: int, new_s: float, valid_s: int) -> F32:
    """Return `Catalogue.freshness` of items published at `published_s`, any shape."""
    found = np.empty(published_s.shape, np.float32)
    _freshness(published_s.ravel(), now_s, new_s, valid_s, found.reshape(-1))
    return found


@compiled
def _freshness(published_s: I64, now_s: int, new_s: float, valid_s: int, found: F32) -> None:
    for i in range(len(published_s)):
        age_s = max(float(now_s - published_s[i]), 0.0) if published_s[i] != UNKNOWN_S else new_s
        found[i] = np.float32(1 - age_s / new_s) if age_s < new_s and published_s[i] <= valid_s else np.float32(0)
