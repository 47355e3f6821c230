"""Lists from candidates: each source names its best items, and all sources score the union exactly, on the scale they have over all items.

Shapes: U users, R recent interactions, N items, C candidates (numbers by user, −1 for none), K places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.content_kinds import ContentKinds
from recsys.catalogue.items import Catalogue, freshness
from recsys.cooccurrence import log_likelihood_ratio
from recsys.index.vectors import VectorIndex
from recsys.lists import candidates_kernel
from recsys.lists.ranking import MAX_BECAUSE, CooccurrenceReading, Recency, Recent, candidate_factor
from recsys.models.base import Model
from recsys.state.large_popularity import LargePopularity
from recsys.state.neighbours import Rows, SparseNeighbours
from recsys.state.user_table import UserTable

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

BLOCK_USERS = 512
"""Users listed at once: they share the work on the lists that several of them scan. Up to 0.8 MB an array of candidates' scores."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many candidates each source names."""

    cooccurrence: int = 128
    content: int = 96
    model: int = 64
    trending: int = 64
    new: int = 32


@dataclass(frozen=True, slots=True)
class Blend:
    """What the score depends on; as in `EngineConfig`."""

    weights: Mapping[str, float]
    reading: CooccurrenceReading
    content_recency: Recency
    recent_items: int
    new_s: float
    sizes: Sizes = field(default_factory=Sizes)


@dataclass(frozen=True, slots=True)
class IndexedModel:
    """A model over its index: `rows` (N,) says where in the index an item's vector is, −1 where the model does not know it; `numbers`
    (I,) which item a row of the index is, −1 where it has no number here."""

    model: Model
    index: VectorIndex
    rows: I32
    numbers: I64


_indexes: WeakKeyDictionary[Model, VectorIndex] = WeakKeyDictionary()


def index_of(model: Model) -> VectorIndex:
    """The index of the model's item vectors, made when first asked for: seconds at a million items. May be called in any thread."""
    index = _indexes.get(model)
    if index is None:
        index = _indexes[model] = VectorIndex(model.item_vectors)
    return index


def indexed_model(model: Model, positions: I32, known: NDArray[np.bool_]) -> IndexedModel:
    """The model over item numbers, by where they are on its own axis: `positions` (N,), where `known` (N,)."""
    index = index_of(model)
    row_of = np.empty(len(index), np.int32)
    row_of[index.numbers] = np.arange(len(index), dtype=np.int32)
    number_of = np.full(len(index), -1, np.int64)
    number_of[positions[known]] = np.flatnonzero(known)
    rows = np.full(len(positions), -1, np.int32)
    rows[known] = row_of[positions[known]]
    return IndexedModel(model, index, rows, number_of[index.numbers])


class Serving(Protocol):
    """What is needed of a serving model."""

    @property
    def indexed(self) -> IndexedModel | None: ...


@dataclass(frozen=True, slots=True)
class Scored:
    """Distinct candidates of U users that may be listed, with their score and its parts by source, (U, C) each, and what explains them."""

    numbers: I64
    total: F32
    parts: dict[str, F32]
    recent: Recent
    cooccurrence: _CooccurrenceBlock
    content: F32 | None

    def best(self, size: int) -> tuple[I64, I64, F32]:
        """The `size` best candidates of each user, best first, equal ones by number: columns, numbers and scores (U, size).
        −1 and −∞ where there are no more."""
        shape = (len(self.numbers), size)
        columns, items, scores = np.zeros(shape, np.int64), np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32)
        candidates_kernel.best(self.total, self.numbers, columns, items, scores)
        return columns, items, scores


@dataclass(frozen=True, slots=True)
class SharedByAll:
    """What lists valid at `valid_s` have in common: what trends (N,), that source's scale, and what `trending` and `new` name (≤ size,)."""

    valid_s: int
    trending: F32
    trending_scale: float
    named: dict[str, I64]
    kinds: ContentKinds | None


@dataclass(frozen=True, slots=True)
class _Scratch:
    """Arrays over all items that are zero between two uses, (≥ N,) each."""

    values: F32
    seen: NDArray[np.bool_]

    @classmethod
    def taken_from(cls, free: list[_Scratch], n_items: int) -> _Scratch:
        """One that nobody uses; put it back into `free` when it is zero again. Several threads may do so at once."""
        try:
            taken = free.pop()
        except IndexError:
            taken = None
        if taken is not None and len(taken.values) >= n_items:
            return taken
        return cls(np.zeros(2 * n_items, np.float32), np.zeros(2 * n_items, np.bool_))


class CandidateLists:
    """Scores candidates from the engine's parts. What all users share is kept between calls."""

    def __init__(self, blend: Blend, users: UserTable, catalogue: Catalogue) -> None:
        self.blend, self.users, self.catalogue = blend, users, catalogue
        self._new = _Newest()
        self._free: list[_Scratch] = []

    def blocks(self, n_users: int) -> Iterator[slice]:
        """Users listed together."""
        return (slice(start, min(start + BLOCK_USERS, n_users)) for start in range(0, n_users, BLOCK_USERS))

    def shared(self, popularity: LargePopularity, now_s: int, valid_s: int) -> SharedByAll:
        """What is the same for all users at event time `now_s` and the reader's time `valid_s`. Until anything is learned, `scored` may be
        called in several threads with it."""
        blend, n_items = self.blend, self.catalogue.n_items
        trending, best = popularity.trending()[:n_items], popularity.best(blend.sizes.trending)
        self._new.follow(self.catalogue, now_s, blend.new_s, valid_s)
        kinds = None
        if blend.weights.get("content") and self.catalogue.kinds is not None:
            kinds = self.catalogue.refresh_kinds(trending, valid_s)
        named = {"trending": best[best < n_items], "new": self._new.newest(blend.sizes.new)}
        return SharedByAll(valid_s, trending, popularity.trending_scale(n_items), named, kinds)

    def scored(
        self,
        slots: I64,
        vectors: Mapping[str, F32],
        models: Mapping[str, Serving],
        neighbours: SparseNeighbours,
        popularity: LargePopularity,
        shared: SharedByAll,
        preferred: Mapping[int, Sequence[str]],
    ) -> Scored:
        """All candidates of the users in `slots` (U,), scored."""
        blend, sizes, n_items = self.blend, self.blend.sizes, self.catalogue.n_items
        weights = blend.weights
        recent = Recent.of(*self.users.newest(slots, blend.recent_items), self.users.lengths[slots])
        named: list[I64] = []
        kinds, profiles, content = shared.kinds, None, None
        if kinds is not None:
            content = blend.content_recency.weights(recent)
            profiles = self._profiles(kinds, recent, content, preferred)
            named.append(kinds.candidates(profiles, sizes.content))
        searched = {}
        for kind, user_vectors in vectors.items():
            indexed = models[kind].indexed
            if weights.get(kind) and indexed is not None:
                searched[kind] = _ModelBlock.of(indexed, user_vectors, sizes.model, n_items)
                named.append(searched[kind].numbers)
        for name, items in shared.named.items():
            if weights.get(name):
                named.append(np.broadcast_to(items, (len(slots), len(items))))
        reading = _CooccurrenceBlock.of(recent, neighbours, popularity.all_time[:n_items], blend.reading)
        n_best = sizes.cooccurrence if weights.get("cooccurrence") else 0
        numbers, cooccurrence, squares = self._named(slots, reading, n_best, named, shared.valid_s)
        parts: dict[str, F32] = {}
        if n_best:
            scale = _over_root((squares / max(n_items, 1)).astype(np.float32)) * np.float32(weights["cooccurrence"])
            parts["cooccurrence"] = cooccurrence * scale[:, None]
            reading = replace(reading, weights=reading.weights * scale[:, None])
        if kinds is not None and profiles is not None and content is not None:
            scale = _over_root(kinds.mean_squares(profiles, n_items)) * np.float32(weights["content"])
            parts["content"] = kinds.scores(profiles, kinds.of[numbers].astype(np.int64)) * scale[:, None]
            content *= scale[:, None]
        for kind, block in searched.items():
            parts[kind] = block.scores(numbers, weights[kind])
        if weights.get("trending"):
            parts["trending"] = shared.trending[numbers] * np.float32(shared.trending_scale * weights["trending"])
        if weights.get("new"):
            parts["new"] = self._new.freshness(self.catalogue.published_s[numbers]) * np.float32(self._new.scale * weights["new"])
        total = np.zeros(numbers.shape, np.float32)
        for part in parts.values():
            total += part
        return Scored(numbers, total, parts, recent, reading, content)

    def because(self, scored: Scored, items: I64) -> I64:
        """(U, K, 2): the recent items that added most to each of `items` (U, K) through co-occurrence and content, −1 for none."""
        recent, kinds, reading = scored.recent, self.catalogue.kinds, scored.cooccurrence
        found = np.empty((*items.shape, MAX_BECAUSE), np.int64)
        if scored.content is not None and kinds is not None:
            listed, read = kinds.of[np.maximum(items, 0)].astype(np.int64), kinds.of[recent.items].astype(np.int64)
            content, alike = scored.content, kinds.alike(listed, read, self.catalogue.width)
        else:
            content, alike = np.zeros_like(reading.weights), np.zeros((*items.shape, recent.items.shape[1]), np.float32)
        rows = reading.rows
        candidates_kernel.explain(
            rows.starts, rows.neighbours, rows.values, reading.places, reading.weights, content, alike, recent.items, items, found
        )
        return found

    def _profiles(self, kinds: ContentKinds, recent: Recent, weights: F32, preferred: Mapping[int, Sequence[str]]) -> F32:
        """(U, F): the weighted sum of the recent items' features, or what a user without any named."""
        features = kinds.features(kinds.of[recent.items].astype(np.int64), self.catalogue.width)  # (U, R, F)
        profiles: F32 = np.matmul(weights[:, None, :], features)[:, 0]
        for row, categories in preferred.items():
            vector = self.catalogue.category_vector(categories)
            if vector is not None and not profiles[row].any():
                profiles[row, : len(vector)] = vector[: profiles.shape[1]]
        return profiles

    def _named(self, slots: I64, reading: _CooccurrenceBlock, n_best: int, named: Sequence[I64], valid_s: int) -> tuple[I64, F32, F64]:
        """The `n_best` items by co-occurrence and those `named` (U, …), distinct, as far as they may be listed (there, published, not
        expired, not seen): numbers and co-occurrence (U, C), and the sum of squares of all items' co-occurrence (U,)."""
        users, catalogue, n_users = self.users, self.catalogue, len(slots)
        others = np.ascontiguousarray(np.concatenate(named, axis=1)) if named else np.zeros((n_users, 0), np.int64)
        shape = (n_users, n_best + others.shape[1])
        numbers, cooccurrence = np.full(shape, -1, np.int64), np.zeros(shape, np.float32)
        counts, squares = np.empty(n_users, np.int64), np.empty(n_users, np.float64)
        older = [users.older[slot] for slot in slots.tolist()]
        older_ends = np.cumsum([len(some) for some in older], dtype=np.int64)
        taken, rows = _Scratch.taken_from(self._free, catalogue.n_items), reading.rows
        candidates_kernel.name(
            rows.starts,
            rows.neighbours,
            rows.values,
            reading.places,
            reading.weights,
            n_best,
            others,
            slots,
            users.items,
            users.lengths,
            np.concatenate(older),
            older_ends,
            catalogue.available,
            catalogue.published_s,
            catalogue.expires_s,
            valid_s,
            taken.values,
            taken.seen,
            numbers,
            cooccurrence,
            counts,
            squares,
        )
        self._free.append(taken)
        width = max(int(counts.max(initial=0)), 1)
        return np.ascontiguousarray(numbers[:, :width]), np.ascontiguousarray(cooccurrence[:, :width]), squares


@dataclass(frozen=True, slots=True)
class _CooccurrenceBlock:
    """What U users' recent items say: the rows of their neighbours, by what these count as candidates; where each recent item's row is
    among them, `places` (U, R), −1 for none, and how much it counts, `weights` (U, R)."""

    rows: Rows
    places: I64
    weights: F32

    @classmethod
    def of(cls, recent: Recent, neighbours: SparseNeighbours, popularity: F32, reading: CooccurrenceReading) -> _CooccurrenceBlock:
        weights = reading.recency.weights(recent)
        read = weights > 0
        numbers, place = np.unique(recent.items[read], return_inverse=True)
        rows = neighbours.gathered(numbers)
        places = np.full(recent.items.shape, -1, np.int64)
        places[read] = place
        if reading.similarity == "llr":
            own = np.repeat(popularity[rows.numbers], np.diff(rows.starts))
            values = log_likelihood_ratio(rows.values, own, popularity[rows.neighbours], float(popularity.sum())).astype(np.float32)
        else:
            source = popularity[recent.items]
            power = np.float32(-(reading.source_power if reading.similarity == "directed" else 0.5))
            weights = (weights * np.where(source > 0, source, 1.0) ** power).astype(np.float32)
            values = rows.values * candidate_factor(popularity[rows.neighbours], reading)
        return cls(replace(rows, values=values), places, weights)


@dataclass(frozen=True, slots=True)
class _ModelBlock:
    """A model's best items for U users: `numbers` (U, M); and how its scores become parts: `scale` (U,), and `shift` (U,) of logits."""

    indexed: IndexedModel
    vectors: F32
    numbers: I64
    scale: F32
    shift: F32 | None

    @classmethod
    def of(cls, indexed: IndexedModel, vectors: F32, size: int, n_items: int) -> _ModelBlock:
        """The scale is that over all items: of preferences exact from the Gram matrix, times the share above 0 as seen in a sample; of
        probabilities the sum over the best exactly and over the rest by a sample. A softmax's denominator goes out with the scale."""
        index, n_users = indexed.index, len(vectors)
        asked = np.flatnonzero(vectors.any(axis=1))
        found = index.search(vectors[asked], size)
        numbers = np.full((n_users, size), -1, np.int64)
        numbers[asked] = np.where(found.rows >= 0, indexed.numbers[found.rows], -1)
        scale = np.zeros(n_users, np.float32)
        if indexed.model.link == "softmax":
            shift, mean = np.zeros(n_users, np.float32), np.empty(len(asked), np.float32)
            shift[asked] = np.maximum(found.scores.max(axis=1), found.sampled.max(axis=1))
            best = np.exp(2 * (found.scores - shift[asked, None])).sum(axis=1)
            least = np.where(np.isfinite(found.scores), found.scores, np.inf).min(axis=1)
            candidates_kernel.mean_below(found.sampled, shift[asked], least, mean)
            squares = best + mean * (len(index) - np.isfinite(found.scores).sum(axis=1))
            scale[asked] = _over_root((squares / n_items).astype(np.float32))
            return cls(indexed, vectors, numbers, scale, shift)
        own, share = vectors[asked], np.empty(len(asked), np.float32)
        candidates_kernel.share_above(found.sampled, share)
        squares = np.einsum("ud,ud->u", own @ index.gram, own) * share
        least_possible = (np.maximum(np.where(np.isfinite(found.scores), found.scores, 0), 0) ** 2).sum(axis=1)
        scale[asked] = _over_root((np.maximum(squares, least_possible) / n_items).astype(np.float32))
        return cls(indexed, vectors, numbers, scale, None)

    def scores(self, numbers: I64, weight: float) -> F32:
        """The source's part for candidates (U, C)."""
        rows = np.where(numbers >= 0, self.indexed.rows[numbers], -1).astype(np.int64)
        found = self.indexed.index.scores(self.vectors, rows)
        if self.shift is None:
            np.maximum(found, 0, out=found)
        else:
            candidates_kernel.softened(found, rows, self.shift)
        found *= self.scale[:, None] * np.float32(weight)
        return found


class _Newest:
    """Items by time of publication, and how new they are: 1 for one published now or since, 0 at age `new_s`."""

    def __init__(self) -> None:
        self._changes = -1
        self._times_s: I64 = np.zeros(0, np.int64)
        self._numbers: I64 = np.zeros(0, np.int64)
        self._sums = np.zeros((3, 1))
        self._since_s, self._origin_s, self._now_s, self._new_s, self._valid_s, self._n_items = 0, 0, 0, 1.0, 0, 1
        self.scale = 0.0

    def follow(self, catalogue: Catalogue, now_s: int, new_s: float, valid_s: int) -> None:
        """Look at the catalogue at `now_s`; what was published since, until `valid_s`, is as new as can be. What is new or will be is
        sorted again if a time of publication changed."""
        n_items, since_s = catalogue.n_items, int(now_s - new_s)
        if catalogue.changes != self._changes or since_s < self._since_s:
            self._changes, self._since_s = catalogue.changes, int(now_s - 2 * new_s)
            published = catalogue.published_s[:n_items]
            new = np.flatnonzero(published > self._since_s)
            order = np.argsort(published[new], kind="stable")
            self._numbers, self._times_s = new[order], published[new][order]
            self._origin_s = int(self._times_s[-1]) if len(order) else 0
            t = (self._times_s - self._origin_s) / 86_400.0
            self._sums = np.concatenate((np.zeros((3, 1)), np.cumsum((np.ones_like(t), t, t * t), axis=1)), axis=1)
        self._now_s, self._new_s, self._valid_s, self._n_items = now_s, new_s, valid_s, n_items
        first, end, valid_end = np.searchsorted(self._times_s, [now_s - new_s, min(now_s, valid_s), valid_s], side="right")
        ones, linear, quadratic = self._sums[:, end] - self._sums[:, first]
        # (1 − (now − t)/T)² summed over what is new, in days
        period = new_s / 86_400.0
        offset = 1 - (now_s - self._origin_s) / 86_400.0 / period
        squares = float(offset * offset * ones + 2 * offset / period * linear + quadratic / period**2) + float(valid_end - end)
        self.scale = float((squares / max(n_items, 1)) ** -0.5) if squares > 1e-12 else 0.0

    def newest(self, size: int) -> I64:
        """The newest that are published, newest first, (≤ size,)."""
        first, end = np.searchsorted(self._times_s, [self._now_s - self._new_s, self._valid_s], side="right")
        return self._numbers[max(end - size, first) : end][::-1]

    def freshness(self, published_s: I64) -> F32:
        """As `Catalogue.freshness`, of items published then."""
        return freshness(published_s, self._now_s, self._new_s, self._valid_s)


def _over_root(mean_squares: F32) -> F32:
    """1 / root, 0 where nothing is above 0."""
    some = mean_squares > 0
    root: F32 = np.where(some, 1.0 / np.sqrt(np.where(some, mean_squares, 1.0)), 0.0).astype(np.float32)
    return root
