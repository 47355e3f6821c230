"""Lists from candidates: each source names its best items, and all sources score the union exactly, on the scale they have over all items.

Shapes: U users, R recent interactions, N items, C candidates (numbers by user, −1 for none, some of them twice), K places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.catalogue import UNKNOWN_S, Catalogue
from recsys.cooccurrence import log_likelihood_ratio
from recsys.models.base import Model
from recsys.neighbours import Rows, SparseNeighbours
from recsys.ranking import CooccurrenceReading, Recency, Recent, candidate_factor, strongest
from recsys.retrieval.contents import ContentKinds
from recsys.retrieval.trends import LargePopularity
from recsys.retrieval.vectors import VectorIndex
from recsys.userstate import UserTable, used_columns

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

BLOCK_USERS = 512
"""Users listed at once: they share the products of the lists that several of them scan. 2.5 MB an array of candidates' scores."""


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


@dataclass(slots=True)
class Scored:
    """Candidates of U users with the parts of their score by source, (U, C) each, and what explains them."""

    numbers: I64
    total: F32
    parts: dict[str, F32]
    recent: Recent
    rows: Rows
    reading: F32
    content: F32 | None

    def best(self, size: int) -> tuple[I64, I64, F32]:
        """The `size` best distinct candidates of each user, best first, equal ones by number: columns, numbers and scores (U, size).
        −1 and −∞ where there are no more."""
        repeats = len(self.parts)
        wide = min(size * repeats, self.total.shape[1])
        values, columns = (part.numpy() for part in torch.topk(torch.from_numpy(self.total), wide, dim=1))
        numbers = np.take_along_axis(self.numbers, columns, 1)
        by_number = np.argsort(numbers, axis=1, kind="stable")
        sorted_numbers = np.take_along_axis(numbers, by_number, 1)
        again = np.zeros(numbers.shape, np.bool_)
        np.put_along_axis(again, by_number[:, 1:], sorted_numbers[:, 1:] == sorted_numbers[:, :-1], 1)
        values = np.where(again, -np.inf, values).astype(np.float32)
        order = np.lexsort((numbers, -values), axis=1)[:, :size]
        values = np.take_along_axis(values, order, 1)
        numbers = np.where(np.isfinite(values), np.take_along_axis(numbers, order, 1), -1)
        return np.take_along_axis(columns, order, 1), numbers, values


@dataclass(frozen=True, slots=True)
class SharedByAll:
    """What lists made at `now_s` have in common: what trends (N,), that source's scale, and what `trending` and `new` name (≤ size,)."""

    now_s: int
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

    def shared(self, popularity: LargePopularity, now_s: int) -> SharedByAll:
        """What is the same for all users at `now_s`. Until anything is learned, `scored` may be called in several threads with it."""
        blend, n_items = self.blend, self.catalogue.n_items
        trending, best = popularity.trending()[:n_items], popularity.best(blend.sizes.trending)
        self._new.follow(self.catalogue, now_s, blend.new_s)
        kinds = None
        if blend.weights.get("content") and self.catalogue.kinds is not None:
            kinds = self.catalogue.refresh_kinds(trending, now_s)
        named = {"trending": best[best < n_items], "new": self._new.newest(blend.sizes.new)}
        return SharedByAll(now_s, trending, popularity.trending_scale(n_items), named, kinds)

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
        chosen = popularity.all_time[:n_items]
        named: list[I64] = []
        reading = _CooccurrenceBlock.of(recent, neighbours, chosen, blend.reading, n_items)
        if weights.get("cooccurrence"):
            named.append(reading.best(sizes.cooccurrence))
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
        numbers = np.ascontiguousarray(np.concatenate(named, axis=1)) if named else np.zeros((len(slots), 0), np.int64)
        parts: dict[str, F32] = {}
        cooccurrence, allowed = self._looked_up(slots, numbers, reading, shared.now_s)
        if weights.get("cooccurrence"):
            parts["cooccurrence"] = cooccurrence * (reading.scale * np.float32(weights["cooccurrence"]))[:, None]
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
        total = np.full(numbers.shape, -np.inf, np.float32)
        summed = sum(parts.values(), np.zeros(numbers.shape, np.float32))
        total[allowed] = summed[allowed]
        scale = reading.scale * np.float32(weights.get("cooccurrence", 0.0))
        return Scored(numbers, total, parts, recent, reading.rows, reading.weights * scale[:, None], content)

    def because(self, scored: Scored, items: I64, popularity: LargePopularity) -> I64:
        """(U, K, 2): the recent items that added most to each of `items` (U, K) through co-occurrence and content, −1 for none."""
        recent, kinds, known = scored.recent, self.catalogue.kinds, np.maximum(items, 0)
        added = np.zeros((*items.shape, recent.items.shape[1]), np.float32)  # (U, K, R)
        if scored.reading.any():
            counts = scored.rows.pairs(recent.items[:, None, :], known[:, :, None])
            factor = candidate_factor(popularity.all_time[known], self.blend.reading)
            added += counts * scored.reading[:, None, :] * factor[:, :, None]
        if scored.content is not None and kinds is not None:
            added += scored.content[:, None, :] * _similarities(kinds, self.catalogue.width, known, recent.items)
        added[items < 0] = 0
        return strongest(added, recent.items)

    def _profiles(self, kinds: ContentKinds, recent: Recent, weights: F32, preferred: Mapping[int, Sequence[str]]) -> F32:
        """(U, F): the weighted sum of the recent items' features, or what a user without any named."""
        features = kinds.features(kinds.of[recent.items].astype(np.int64), self.catalogue.width)  # (U, R, F)
        profiles: F32 = np.matmul(weights[:, None, :], features)[:, 0]
        for row, categories in preferred.items():
            vector = self.catalogue.category_vector(categories)
            if vector is not None and not profiles[row].any():
                profiles[row, : len(vector)] = vector[: profiles.shape[1]]
        return profiles

    def _looked_up(self, slots: I64, numbers: I64, reading: _CooccurrenceBlock, now_s: int) -> tuple[F32, NDArray[np.bool_]]:
        """Co-occurrence of the candidates, (U, C), and which of them may be listed, (U, C): there, published, not expired, not seen."""
        users, catalogue = self.users, self.catalogue
        taken = _Scratch.taken_from(self._free, catalogue.n_items)
        scratch, seen = taken.values, taken.seen
        found = np.empty(numbers.shape, np.float32)
        allowed = (numbers >= 0) & catalogue.available[numbers]
        allowed &= (catalogue.expires_s[numbers] > now_s) & (catalogue.published_s[numbers] <= now_s)
        used = used_columns(users.lengths[slots], users.history_length)
        ends, columns, values = reading.starts.tolist(), reading.columns, reading.values
        for i, slot in enumerate(slots.tolist()):
            own, history, older = columns[ends[i] : ends[i + 1]], users.items[slot][used[i]], users.older[slot]
            scratch[own] = values[ends[i] : ends[i + 1]]
            found[i] = scratch[numbers[i]]
            scratch[own] = 0
            seen[history] = True
            seen[older] = True
            allowed[i] &= ~seen[numbers[i]]
            seen[history] = False
            seen[older] = False
        self._free.append(taken)
        return found, allowed


@dataclass(frozen=True, slots=True)
class _CooccurrenceBlock:
    """Co-occurrence scores of U users as sparse rows (`starts`, `columns`, `values`), before `scale` (U,)."""

    rows: Rows
    weights: F32
    starts: I64
    columns: I64
    values: F32
    scale: F32

    @classmethod
    def of(
        cls, recent: Recent, neighbours: SparseNeighbours, popularity: F32, reading: CooccurrenceReading, n_items: int
    ) -> _CooccurrenceBlock:
        weights = reading.recency.weights(recent)
        rows = neighbours.gathered(np.unique(recent.items[weights > 0]))
        if reading.similarity == "llr":
            own = np.repeat(popularity[rows.numbers], np.diff(rows.starts))
            ratios = log_likelihood_ratio(rows.values, own, popularity[rows.neighbours], float(popularity.sum()))
            rows = Rows(rows.numbers, rows.starts, rows.neighbours, ratios.astype(np.float32))
        else:
            source = popularity[recent.items]
            power = np.float32(-(reading.source_power if reading.similarity == "directed" else 0.5))
            weights = (weights * np.where(source > 0, source, 1.0) ** power).astype(np.float32)
        sums = rows.sums(recent.items, weights, n_items)
        values = sums.data.astype(np.float32) * candidate_factor(popularity[sums.indices], reading)
        squares = np.add.reduceat(np.append(values * values, np.float32(0)), sums.indptr[:-1]) * (np.diff(sums.indptr) > 0)
        return cls(rows, weights, sums.indptr.astype(np.int64), sums.indices, values, _over_root(squares / np.float32(max(n_items, 1))))

    def best(self, size: int) -> I64:
        """The largest of each row, (U, size), −1 for none."""
        counts = np.diff(self.starts)
        width = max(int(counts.max(initial=0)), size)
        users = np.repeat(np.arange(len(counts)), counts)
        place = np.arange(len(users)) - self.starts[users]
        dense = np.full((len(counts), width), -np.inf, np.float32)
        dense[users, place] = self.values
        scores, places = (part.numpy() for part in torch.topk(torch.from_numpy(dense), size, dim=1))
        at = np.minimum(self.starts[:-1, None] + places, max(len(self.columns) - 1, 0))
        found = self.columns[at] if len(self.columns) else np.full(at.shape, -1)
        return np.where(scores > 0, found, -1).astype(np.int64)


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
            shift = np.zeros(n_users, np.float32)
            shift[asked] = np.maximum(found.scores.max(axis=1), found.sampled.max(axis=1))
            best = np.exp(2 * (found.scores - shift[asked, None])).sum(axis=1)
            least = np.where(np.isfinite(found.scores), found.scores, np.inf).min(axis=1)
            rest = found.sampled < least[:, None]
            others = torch.from_numpy(2 * (found.sampled - shift[asked, None])).exp_().numpy()
            mean = np.einsum("us,us->u", others, rest) / np.maximum(rest.sum(axis=1), 1)
            squares = best + mean * (len(index) - np.isfinite(found.scores).sum(axis=1))
            scale[asked] = _over_root((squares / n_items).astype(np.float32))
            return cls(indexed, vectors, numbers, scale, shift)
        own = vectors[asked]
        above = np.maximum(found.sampled, 0)
        share = np.einsum("us,us->u", above, above) / np.maximum(np.einsum("us,us->u", found.sampled, found.sampled), 1e-30)
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
            found = np.where(rows >= 0, np.exp(np.minimum(found - self.shift[:, None], 0)), np.float32(0))
        found *= self.scale[:, None] * np.float32(weight)
        return found


class _Newest:
    """Items by time of publication, and how new they are: 1 for one published now, 0 at age `new_s`."""

    def __init__(self) -> None:
        self._changes = -1
        self._times_s: I64 = np.zeros(0, np.int64)
        self._numbers: I64 = np.zeros(0, np.int64)
        self._sums = np.zeros((3, 1))
        self._since_s, self._origin_s, self._now_s, self._new_s, self._n_items = 0, 0, 0, 1.0, 1
        self.scale = 0.0

    def follow(self, catalogue: Catalogue, now_s: int, new_s: float) -> None:
        """Look at the catalogue at `now_s`. What is new or will be is sorted again if a time of publication changed."""
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
        self._now_s, self._new_s, self._n_items = now_s, new_s, n_items
        first, end = np.searchsorted(self._times_s, [now_s - new_s, now_s], side="right")
        ones, linear, quadratic = self._sums[:, end] - self._sums[:, first]
        # (1 − (now − t)/T)² summed over what is new, in days
        period = new_s / 86_400.0
        offset = 1 - (now_s - self._origin_s) / 86_400.0 / period
        squares = float(offset * offset * ones + 2 * offset / period * linear + quadratic / period**2)
        self.scale = float((squares / max(n_items, 1)) ** -0.5) if squares > 1e-12 else 0.0

    def newest(self, size: int) -> I64:
        """The newest that are published, newest first, (≤ size,)."""
        first, end = np.searchsorted(self._times_s, [self._now_s - self._new_s, self._now_s], side="right")
        return self._numbers[max(end - size, first) : end][::-1]

    def freshness(self, published_s: I64) -> F32:
        """As `Catalogue.freshness`, of items published then."""
        age = self._now_s - np.where(published_s == UNKNOWN_S, self._now_s - int(self._new_s) - 1, published_s).astype(np.float64)
        fresh: F32 = (np.clip(1.0 - age / self._new_s, 0.0, 1.0) * (age >= 0)).astype(np.float32)
        return fresh


def _similarities(kinds: ContentKinds, width: int, items: I64, recent: I64) -> F32:
    """Inner products of the features of `items` (U, K) and `recent` (U, R), at least 0: (U, K, R)."""
    distinct, place = np.unique(np.concatenate((kinds.of[items], kinds.of[recent]), axis=1), return_inverse=True)
    features = kinds.features(distinct.astype(np.int64), width)
    place = place.reshape(len(items), -1)
    listed, read = place[:, : items.shape[1]], place[:, items.shape[1] :]
    if len(distinct) <= 2_048:
        alike: F32 = np.maximum(features @ features.T, 0)
        return alike[listed[:, :, None], read[:, None, :]]
    found = np.empty((*items.shape, recent.shape[1]), np.float32)
    for start in range(0, len(items), 64):
        part = slice(start, start + 64)
        np.matmul(features[listed[part]], features[read[part]].transpose(0, 2, 1), out=found[part])
    clipped: F32 = np.maximum(found, 0, out=found)
    return clipped


def _over_root(mean_squares: F32) -> F32:
    """1 / root, 0 where nothing is above 0."""
    some = mean_squares > 0
    root: F32 = np.where(some, 1.0 / np.sqrt(np.where(some, mean_squares, 1.0)), 0.0).astype(np.float32)
    return root
