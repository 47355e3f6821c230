"""The catalogue: availability, age and content features of items, by item number."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from math import log, sqrt

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.content_kinds import ContentKinds, Described
from recsys.catalogue.content_values import ALONE, ERA_REACHED, REACH, ContentValues, LeftOut, Said
from recsys.catalogue.held_values import HeldValues, Wanted
from recsys.catalogue.item_content import ItemContent as ItemContent
from recsys.catalogue.item_content import digest_of, labels_of
from recsys.catalogue.labels import Labels
from recsys.catalogue.projection import projected
from recsys.catalogue.sparse_rows import Sparse, sparse_rows
from recsys.catalogue.supplied import SUPPLIED, put_vectors, take_away, unit_vectors
from recsys.jit import compiled

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

ERA_S = 5 * 365.25 * 86_400
"""Items published in the same five years share the feature "era"."""
RARITY_POWER = 0.7
"""A category weighs ln(1 + described items / items with it)^0.7."""
REWEIGHED_SHARE = 0.05
"""Category weights are recomputed once this share of the described items has changed."""
SHARES = {"category": 1.0, "era": 0.5, "attribute": 0.5, "embedding": 1.0}
MAX_EMBEDDING_COLUMNS = 4_096
"""Columns of all embeddings together: an embedding of yet another name or dimension beyond this takes no part."""
UNKNOWN_S = int(np.iinfo(np.int64).min)


class Catalogue:
    """Arrays over item numbers.

    `features` (C, F) float32: a unit-length block each for categories, era, attributes and every embedding, scaled by the square root of
    the block's share, so that the inner product of two rows is the weighted sum of the blocks' cosines. A category weighs by its rarity,
    an era reaches into its neighbours. Items without a description have zero rows.

    An embedding of many dimensions is projected to fewer (`recsys.catalogue.projection`).

    Categories, eras and attributes have columns as `recsys.catalogue.content_values` says; what it leaves out of them takes no part.
    `touch_groups` (C,) are the groups of the touch policy that items are in, by `touch_group_of` their categories. `labels` holds the exact
    values of the fields that `label_fields` names (`recsys.catalogue.labels`), and nothing without them.

    After `compact` there is no such matrix: `kinds` holds each distinct content once. `changes` counts changed times of publication,
    `n_left_out` the embeddings for which there were no columns left. `held` are the values that rules name, None without rules."""

    def __init__(
        self,
        n_items: int = 256,
        shares: Mapping[str, float] | None = None,
        touch_group_of: Callable[[Sequence[str]], int] | None = None,
        label_fields: Collection[str] = (),
        wanted: Wanted | None = None,
    ) -> None:
        self._touch_group_of = touch_group_of
        self.labels = {field: Labels(n_items) for field in sorted(set(label_fields))}
        self.touch_groups: NDArray[np.uint16] = np.zeros(n_items, np.uint16)
        self.shares = dict(shares or SHARES)
        self._era_values = (REACH * (sqrt(self.shares["era"]) / np.linalg.norm(REACH))).astype(np.float32).tolist()
        self.n_items = 0
        self.available: NDArray[np.bool_] = np.ones(n_items, np.bool_)
        self.published_s: I64 = np.full(n_items, UNKNOWN_S, np.int64)
        self.expires_s: I64 = np.full(n_items, np.iinfo(np.int64).max, np.int64)
        self._features: F32 = np.zeros((n_items, 16), np.float32)
        self._by_column: F32 | None = None
        self._sparse: tuple[F32, Sparse] | None = None
        self._said: dict[int, Said] = {}
        self._unwritten: set[int] = set()
        self._digests: I64 = np.zeros(n_items, np.int64)
        self.values = ContentValues()
        self._places: list[int] = []
        self._n_changed, self._weighed_at = 0, 0
        self._n_categorised, self._n_described = 0, 0
        self.blocks: dict[str, slice] = {}
        self._supplied: slice | None = None
        self._width = 0
        self.kinds: ContentKinds | None = None
        self.held = None if wanted is None else HeldValues(wanted, n_items)
        self.changes = 0
        self.n_left_out = 0

    def grow(self, n_items: int) -> None:
        """Make room for item numbers below `n_items`."""
        self.n_items = max(self.n_items, n_items)
        held = len(self.available)
        if n_items > held:
            more = max(n_items, 2 * held) - held
            self.available = np.pad(self.available, (0, more), constant_values=True)
            self.touch_groups = np.pad(self.touch_groups, (0, more))
            self.published_s = np.pad(self.published_s, (0, more), constant_values=UNKNOWN_S)
            self.expires_s = np.pad(self.expires_s, (0, more), constant_values=np.iinfo(np.int64).max)
            self._digests = np.pad(self._digests, (0, more))
            if self.held is not None:
                self.held.grow(len(self.available))
            if self.kinds is None:
                self._features = np.pad(self._features, ((0, more), (0, 0)))
        for labels in self.labels.values():
            labels.grow(len(self.available))
        if self.kinds is not None:
            self.kinds.grow(len(self.available))

    def compact(self) -> None:
        """Hold each distinct content once from now on, and no matrix over the items."""
        if self.kinds is not None:
            return
        self._settle()
        kinds = ContentKinds(self._weighed)
        kinds.grow(len(self.available))
        embedded = np.zeros(len(self._features), np.bool_)
        for block in self.blocks.values():
            embedded |= self._features[:, block].any(axis=1)
        for number in sorted(self._said.keys() | set(np.flatnonzero(embedded).tolist())):
            row = self._features[number]
            vectors = tuple((block, row[block].copy()) for block in self.blocks.values() if row[block].any())
            kinds.put(number, Described(self._said.get(number, Said()), vectors))
        self.kinds, self._features, self._said = kinds, np.zeros((0, 16), np.float32), {}
        self._by_column = self._sparse = None

    @property
    def width(self) -> int:
        """Return F."""
        return self._width

    def refresh_kinds(self, scores_of: Callable[[], F32], valid_s: int) -> ContentKinds:
        """Return the kinds, with columns, category weights and index as of the last 5 % of changes; `scores_of` returns (N,) scores that
        order items of one kind."""
        assert self.kinds is not None, "compact"
        if self._is_outdated:
            self._settle()
        self.kinds.refresh(self._width, scores_of, lambda: self.recommendable(valid_s))
        return self.kinds

    @property
    def features(self) -> F32:
        """Return (C, F) content features, with category weights as of the last 5 % of changes."""
        self._settle()
        return self._features[:, : self._width]

    @property
    def features_by_column(self) -> F32:
        """Return `features` of the numbered items, (n_items, F), column after column in memory; kept until one of them changes."""
        features = self.features[: self.n_items]
        if self._by_column is None or self._by_column.shape != features.shape:
            self._by_column = np.asfortranarray(features)
        return self._by_column

    @property
    def sparse_features(self) -> Sparse:
        """Return `features` without those of embeddings as sparse rows, (n_items, W); kept until one of them changes."""
        features = self.features_by_column
        if self._sparse is None or self._sparse[0] is not features:
            is_embedding = np.zeros(features.shape[1], np.bool_)
            for block in self.embedding_blocks:
                is_embedding[block] = True
            self._sparse = features, sparse_rows(features, is_embedding)
        return self._sparse[1]

    @property
    def embedding_blocks(self) -> list[slice]:
        """Return the columns of each embedding, by name and dimension."""
        return list(self.blocks.values())

    @property
    def left_out(self) -> LeftOut:
        """Return what takes no part in content features."""
        if self.kinds is None or self._is_outdated:
            self._settle()
        return self.values.left_out

    @property
    def _is_outdated(self) -> bool:
        return self._n_changed > REWEIGHED_SHARE * self._weighed_at

    def _settle(self) -> None:
        """Bring columns up to date, and category weights too if enough items changed."""
        parts, values = self.values.settle()
        is_outdated = self._is_outdated
        if is_outdated:
            self._n_changed, self._weighed_at = 0, self._n_described
        if self.kinds is not None:
            if is_outdated or parts or values:
                self.kinds.reweigh()
            return
        if is_outdated or parts or values:
            self._unwritten |= {
                number
                for number, said in self._said.items()
                if (is_outdated and said.categories)
                or not values.isdisjoint((*said.categories, *said.eras, *(value for _, value in said.attributes)))
                or not parts.isdisjoint(part for part, _ in said.attributes)
            }
        if self._unwritten:
            self._by_column = None
        for number in self._unwritten:
            self._write(number, self._said.get(number, Said()))
        self._unwritten.clear()

    @property
    def feature_table(self) -> F32:
        """Return `features` as they are held: one contiguous array, (C, F or more)."""
        return self._features

    def put(self, number: int, content: ItemContent | None) -> None:
        """Replace the description of an item; None removes it from every list."""
        self.grow(number + 1)
        self.available[number] = content is not None and content.available
        categories = content.categories if content is not None else ()
        self.touch_groups[number] = self._touch_group_of(categories) if self._touch_group_of is not None else 0
        published_s = content.published_s if content is not None and content.published_s is not None else UNKNOWN_S
        self.changes += bool(self.published_s[number] != published_s)
        self.published_s[number] = published_s
        self.expires_s[number] = content.expires_s if content is not None and content.expires_s is not None else np.iinfo(np.int64).max
        for field_name, labels in self.labels.items():
            labels.put(number, () if content is None else labels_of(content, field_name))
        if self.held is not None:
            self.held.put(number, content)
        digest = 0 if content is None else digest_of(content)
        if digest != self._digests[number]:
            self._digests[number] = digest
            self._describe(number, ItemContent() if content is None else content)

    def _describe(self, number: int, content: ItemContent) -> None:
        """Replace what an item says, and what that changes of items that had a value alone."""
        self._n_changed += 1
        self.values.release(number, self.said_of(number))
        said, shared = self.values.take(number, content.categories, eras_of(content.published_s), content.attributes)
        self._set(number, Described(said, self._embedded(content)))
        for owner, part, value in shared:
            before = self.said_of(owner)
            attributes = tuple((p, value if p == part else v) for p, v in before.attributes)
            self._say(owner, replace(before, attributes=attributes))

    def said_of(self, number: int) -> Said:
        """Return what an item says."""
        return self._said.get(number, Said()) if self.kinds is None else self.kinds.described(number).said

    def _set(self, number: int, described: Described) -> None:
        before = self.said_of(number)
        self._n_categorised += bool(described.said.categories) - bool(before.categories)
        self._n_described += (described.said != Said()) - (before != Said())
        if self.kinds is not None:
            supplied = tuple(one for one in self.kinds.described(number).embeddings if one[0] == self._supplied)
            self.kinds.put(number, replace(described, embeddings=described.embeddings + supplied))
            return
        self._by_column = None
        for block in self.blocks.values():
            if block != self._supplied:
                self._features[number, block] = 0
        for block, vector in described.embeddings:
            self._features[number, block] = vector
        self._say(number, described.said)

    def _say(self, number: int, said: Said) -> None:
        """Replace what an item says and keep its embeddings."""
        if self.kinds is not None:
            self.kinds.put(number, Described(said, self.kinds.described(number).embeddings))
            return
        self._unwritten.add(number)
        if said == Said():
            self._said.pop(number, None)
        else:
            self._said[number] = said

    def _embedded(self, content: ItemContent) -> tuple[tuple[slice, F32], ...]:
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
        return tuple(embeddings)

    def supply(self, numbers: I64, vectors: F32) -> None:
        """Give the items `numbers` (n,) an embedding beside their own, (n, E), 0 for none. It stays when an item is described again."""
        self.grow(int(numbers.max(initial=-1)) + 1)
        units = unit_vectors(vectors, self.shares["embedding"])
        block, before = self._embedding_block(f"{SUPPLIED}/{vectors.shape[1]}", units.shape[1]), self._supplied
        if before is not None and before != block:
            take_away(before, self._features, self.kinds, self.n_items)
        self._supplied, self._by_column = block, None
        if block is None:
            self.n_left_out += len(numbers)
        else:
            put_vectors(block, numbers, units, self._features, self.kinds)

    def _write(self, number: int, said: Said) -> None:
        """Write what an item says into its row, beside its embeddings."""
        weighed = self._weighed(said)
        row = self._features[number]
        row[self._places] = 0
        row[list(weighed)] = list(weighed.values())

    def _weighed(self, said: Said) -> dict[int, float]:
        """Return the features of what an item says by column. What has no column is part of the blocks' length all the same."""
        weighed: list[tuple[int, float]] = []
        if said.categories:
            weighed += zip(said.categories, self._category_values(said.categories).tolist(), strict=True)
        if said.eras:
            weighed += zip(said.eras, self._era_values, strict=True)
        if counted := self.values.counted(said.attributes):
            each = sqrt(self.shares["attribute"] / len(counted))
            weighed += [(value, each) for value in counted if value != ALONE]
        column = self.values.column
        return {self._place(at): weight for value, weight in weighed if (at := column(value)) >= 0}

    def _place(self, column: int) -> int:
        """Return where a value's column lies among the features."""
        while len(self._places) <= column:
            self._places.append(self._reserve(1))
        return self._places[column]

    def _category_values(self, categories: Sequence[int]) -> F32:
        described = max(self._n_categorised, 2)
        rarity = np.array([log(1 + described / max(self.values.count(value), 1)) for value in categories]) ** RARITY_POWER
        values: F32 = (rarity * (sqrt(self.shares["category"]) / sqrt(rarity @ rarity))).astype(np.float32)
        return values

    def recommendable(self, valid_s: int) -> NDArray[np.bool_]:
        """Return which items may be listed at `valid_s`: available, published and not expired, (n_items,)."""
        return self.recommendable_of(slice(self.n_items), valid_s)

    def recommendable_of(self, numbers: NDArray[np.int64] | slice, valid_s: int) -> NDArray[np.bool_]:
        """Return which of the items `numbers`, of any shape, may be listed at `valid_s`."""
        found: NDArray[np.bool_] = self.available[numbers] & (self.expires_s[numbers] > valid_s) & (self.published_s[numbers] <= valid_s)
        return found

    def was_removed(self, number: int) -> bool:
        """Return whether an item is not available, and nothing describes it."""
        return not (self.available[number] or self._digests[number])

    def freshness(self, now_s: int, new_s: float, valid_s: int | None = None) -> F32:
        """Return (n_items,): 1 for an item published at `now_s` or since, falling to 0 at age `new_s` and beyond, 0 where unknown or
        published after `valid_s` (`now_s` unless given)."""
        return freshness(self.published_s[: self.n_items], now_s, new_s, now_s if valid_s is None else valid_s)

    def category_vector(self, categories: Sequence[str]) -> F32 | None:
        """Return the content vector of someone who likes these categories, (F,), or None when no item has any of them."""
        if self.kinds is None:
            self._settle()
        held = (self.values.column_of_category(category) for category in categories)
        columns = [self._place(column) for column in held if column >= 0]
        if not columns:
            return None
        vector = np.zeros(self._width, np.float32)
        vector[columns] = np.float32(1 / np.sqrt(len(columns)))
        return vector

    def _embedding_block(self, key: str, width: int) -> slice | None:
        """Return the columns of the embeddings of this name and dimension; None if there are none left."""
        if key not in self.blocks:
            held = sum(block.stop - block.start for block in self.blocks.values())
            if held + width > MAX_EMBEDDING_COLUMNS:
                return None
            start = self._reserve(width)
            self.blocks[key] = slice(start, start + width)
        return self.blocks[key]

    def _reserve(self, width: int) -> int:
        start = self._width
        self._width += width
        if self.kinds is None and self._width > self._features.shape[1]:
            self._features = np.pad(self._features, ((0, 0), (0, max(self._width, 2 * self._features.shape[1]) - self._features.shape[1])))
        return start


def eras_of(published_s: int | None) -> Sequence[int]:
    """Return the eras that an item published at `published_s` reaches into."""
    if published_s is None:
        return ()
    era = int(published_s // ERA_S)
    return range(era - ERA_REACHED, era + ERA_REACHED + 1)


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
