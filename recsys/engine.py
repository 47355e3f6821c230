"""The recommender itself: histories, neighbours, popularity, catalogue and models in memory; `learn` from a micro-batch, `recommend` for
users.

A worker feeds it from Kafka and keeps it in step with Redis; a benchmark feeds it from a file. Both run this very code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.items import Catalogue, ItemContent
from recsys.cooccurrence import Pairs, PairWeights, derive_pairs
from recsys.lists import exact_kernel, exact_scan
from recsys.lists.candidates import Blend, CandidateLists, IndexedModel, SharedByAll, index_of, indexed_model
from recsys.lists.exact_scan import CONTENT, Cooccurrence, Likings, Product
from recsys.lists.ranking import (
    CooccurrenceReading,
    Part,
    Recency,
    Recent,
    blend,
    candidate_factor,
    content_profiles,
    content_scores,
    cooccurrence_scores,
    cooccurrence_weights,
    explore,
    model_scores,
    strongest,
    top_items,
)
from recsys.models.base import Histories, Model
from recsys.state import user_table_kernel
from recsys.state.batch_delta import Delta, Span, batch_delta
from recsys.state.interactions import Interactions
from recsys.state.item_row import WEIGHT_ONE
from recsys.state.large_popularity import LargePopularity
from recsys.state.neighbours import DENSE_ITEMS, DenseNeighbours, Neighbours, SparseNeighbours
from recsys.state.popularity import Popularity
from recsys.state.user_row import model_tag
from recsys.state.user_table import WEIGHT_UNITS, UserTable, pack_embeddings, used_columns

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)
PAIR_WEIGHTS = PairWeights.decaying(window=20, step=0.85, backward=0.4)
READING = CooccurrenceReading()
CONTENT_RECENCY = Recency(step=0.75, age_s=90.0)
SOURCE_WEIGHTS = {"cooccurrence": 1.0, "content": 1.4, "ials": 0.2, "sasrec": 0.3, "trending": 0.02, "new": 0.02}
"""Co-occurrence and content: chosen on the first 40 % of the five-star events of MovieLens 1M; models: on events 80,000 to 88,000 of
them, trained on what was before."""
_BLOCK_SCORES = 1_000_000
"""Users are scored in blocks of about this many scores a source, so that a block stays in the processor's cache."""
EXACT_ITEMS = 16_000
"""Up to this many items every one is scored for every user, which is faster and exact."""
_EXPLORATION_POOL = 50


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What learning and listing depend on. Times in seconds; `source_weights` by source name, a model's source has the name of its kind."""

    history_length: int = 100
    seen_length: int = 1_000
    item_groups: int = 8
    epoch_s: int = 180 * 86_400
    pair_weights: PairWeights = PAIR_WEIGHTS
    recent_items: int = 10
    reading: CooccurrenceReading = READING
    content_recency: Recency = CONTENT_RECENCY
    source_weights: Mapping[str, float] = field(default_factory=lambda: dict(SOURCE_WEIGHTS))
    list_size: int = 20
    exploration_slots: int = 0
    new_s: float = 30 * 86_400
    seed: int = 0
    dense_items: int = DENSE_ITEMS
    exact_items: int = EXACT_ITEMS
    """Above so many items lists are made from candidates."""


@dataclass(frozen=True, slots=True)
class Derived:
    """What one micro-batch adds, before anything is changed."""

    batch: Interactions
    pairs: Pairs

    def delta(self, config: EngineConfig, chosen: NDArray[np.bool_] | None = None) -> Delta:
        """What all interactions add to item groups, or those `chosen` (n,)."""
        return batch_delta(self.batch, self.pairs, epoch_s=config.epoch_s, item_groups=config.item_groups, chosen=chosen)


@dataclass(frozen=True, slots=True)
class ServingModel:
    """A model laid over the engine's item numbers: `vectors` (N, D) with zero rows for items it does not know, `positions` (N,) on its
    own axis. In a large catalogue `vectors` is empty, and `indexed` holds them."""

    kind: str
    version: str
    model: Model
    vectors: F32
    known: NDArray[np.bool_]
    positions: NDArray[np.int32]
    indexed: IndexedModel | None = None

    @property
    def tag(self) -> int:
        """The stamp of embeddings made with this version."""
        return model_tag(self.kind, self.version)


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists of U users, K items each: numbers and scores (U, K), −∞ where there was nothing left to list; propensities (U, K); per
    source its part of the score (U, K); `because` (U, K, 2) item numbers that contributed most, −1 for none."""

    items: I64
    scores: F32
    propensities: F32
    contributions: dict[str, F32]
    because: I64

    @classmethod
    def joined(cls, blocks: Sequence[Lists]) -> Lists:
        """The users of all blocks, one after another."""
        return cls(
            np.concatenate([b.items for b in blocks]),
            np.concatenate([b.scores for b in blocks]),
            np.concatenate([b.propensities for b in blocks]),
            {name: np.concatenate([b.contributions[name] for b in blocks]) for name in blocks[0].contributions},
            np.concatenate([b.because for b in blocks]),
        )


class Engine:
    """State in arrays. Item numbers are dense; `ensure_items` makes room before numbers are used."""

    def __init__(self, config: EngineConfig | None = None) -> None:
        self.config = config or EngineConfig()
        self.users = UserTable(self.config.history_length, self.config.seen_length)
        self.neighbours: Neighbours = DenseNeighbours()
        self.popularity: Popularity = Popularity()
        self.catalogue = Catalogue()
        self.models: dict[str, ServingModel] = {}
        self.newest_epoch = -1
        self._candidates: CandidateLists | None = None

    @property
    def n_items(self) -> int:
        return self.catalogue.n_items

    def ensure_items(self, n_items: int) -> None:
        """Make room for item numbers below `n_items`. Past the dense limit the neighbours are dropped, to be loaded again as sparse
        rows."""
        if n_items <= self.catalogue.n_items:
            return
        if n_items > self.config.dense_items and isinstance(self.neighbours, DenseNeighbours):
            self.neighbours = SparseNeighbours()
        if n_items > self.config.exact_items and self._candidates is None:
            self._list_from_candidates()
        for part in (self.neighbours, self.popularity, self.catalogue):
            part.grow(n_items)
        for kind, serving in self.models.items():
            self.models[kind] = _widened(serving, n_items if self._candidates is None else len(self.catalogue.available))

    def describe_item(self, number: int, content: ItemContent | None) -> None:
        """Learn an item's content; None removes it from every list."""
        self.ensure_items(number + 1)
        self.catalogue.put(number, content)

    def serve(self, kind: str, version: str, model: Model, item_numbers: Mapping[str, int]) -> None:
        """Use this model from now on. Items of the model that have no number here are left out."""
        n_items = self.n_items
        positions = np.full(n_items, -1, np.int32)
        for position, item_id in enumerate(model.item_ids):
            number = item_numbers.get(item_id)
            if number is not None and number < n_items:
                positions[number] = position
        known = positions >= 0
        if self._candidates is not None:
            none = np.zeros((0, model.item_vectors.shape[1]), np.float32)
            self.models[kind] = ServingModel(kind, version, model, none, known, positions, indexed_model(model, positions, known))
            return
        vectors = np.zeros((n_items, model.item_vectors.shape[1]), np.float32)
        vectors[known] = model.item_vectors[positions[known]]
        self.models[kind] = ServingModel(kind, version, model, vectors, known, positions)

    def prepare(self, model: Model) -> None:
        """What `serve` would take long for, done before: may run in another thread."""
        if max(self.n_items, len(model.item_ids)) > self.config.exact_items:
            index_of(model)

    # -- learning ------------------------------------------------------------------------------------------------------------------------

    def derive(self, batch: Interactions) -> Derived:
        """What the batch adds, from the histories before it. Changes nothing."""
        return Derived(batch, derive_pairs(batch, self.users, self.config.pair_weights))

    def learn_histories(self, batch: Interactions) -> None:
        """Append the batch to its users' histories."""
        self.users.append(batch.slots, batch.counts, batch.items, batch.times_s, batch.weights)

    def advance_epoch(self, epoch: int) -> None:
        """Event time reached `epoch`: what earlier epochs hold counts half for each epoch gone by."""
        if epoch > self.newest_epoch >= 0:
            self.neighbours.scale(0.5 ** (epoch - self.newest_epoch))
        self.newest_epoch = max(self.newest_epoch, epoch)

    def advance_time(self, newest_s: int) -> None:
        """Event time reached `newest_s`, whether or not anything was chosen then."""
        self.advance_epoch(newest_s // self.config.epoch_s)
        self.popularity.advance(newest_s)

    def epoch_factor(self, epoch: int) -> float:
        """How much a count of `epoch` is worth now."""
        return float(0.5 ** max(self.newest_epoch - epoch, 0))

    def learn_items(self, delta: Delta) -> None:
        """Add a batch's delta to neighbours and popularity; rows that are not held are passed over."""
        for span, rows in delta.by_span():
            self.learn_rows(delta, span, rows)

    def learn_rows(self, delta: Delta, span: Span, rows: I64) -> None:
        """Add what a delta appends to some rows (r,) of one span."""
        if not len(rows):
            return
        kind, where, bucket = span
        if kind == "pop":
            records = delta.records_of(rows)  # an item is in one group, so that it is in a bucket once
            self.popularity.add(str(where), bucket, records[:, 0], records[:, 1].astype(np.float32) / np.float32(WEIGHT_ONE))
            return
        self.advance_epoch(int(where))
        factor = np.float32(self.epoch_factor(int(where)) / WEIGHT_ONE)
        self.neighbours.add(delta.numbers[rows], delta.starts_of(rows), delta.ends[rows], delta.records, factor)

    # -- listing -------------------------------------------------------------------------------------------------------------------------

    def encode(self, slots: I64) -> dict[str, F32]:
        """User vectors (U, D) by model kind."""
        return {kind: serving.model.encode(self._histories(slots, serving)) for kind, serving in self.models.items()}

    def embeddings(self, vectors: Mapping[str, F32], n_users: int) -> list[list[bytes]]:
        """The vectors as version-stamped parts of user rows: a list for each user."""
        packed = [pack_embeddings(self.models[kind].tag, vectors[kind]) for kind in vectors]
        return [list(parts) for parts in zip(*packed, strict=True)] if packed else [[] for _ in range(n_users)]

    def shared(self, now_s: int, valid_s: int | None = None) -> Shared:
        """What all lists made at `now_s` have in common. Until anything is learned, `recommend` may be called in several threads with
        it.

        `now_s` is event time: trends and ages of items are measured from it. `valid_s` is the reader's time (`now_s` unless given): only
        items that are published and not expired by then are listed."""
        valid_s = now_s if valid_s is None else valid_s
        if self._candidates is not None:
            assert isinstance(self.popularity, LargePopularity), "made when the catalogue grew large"
            return self._candidates.shared(self.popularity, now_s, valid_s)
        return self._shared_scores(now_s, valid_s)

    def recommend(
        self,
        slots: I64,
        vectors: Mapping[str, F32],
        shared: Shared | int,
        seeds: I64 | None = None,
        preferred: Mapping[int, Sequence[str]] | None = None,
    ) -> Lists:
        """Lists for the users in `slots` (U,), made at the second `shared` or what it has in common. `seeds` (U,) repeat the exploration;
        `preferred[i]` are categories that user i named, used where the user has no history."""
        if isinstance(shared, int):
            shared = self.shared(shared)
        if isinstance(shared, SharedByAll):
            return self._recommend_candidates(slots, vectors, shared, seeds, preferred or {})
        if isinstance(self.neighbours, DenseNeighbours) and self.config.reading.similarity != "llr" and not preferred:
            return self._list_exactly(slots, vectors, shared, seeds)
        blocks = []
        for rows in self._blocks(len(slots)):
            scores = self.source_scores(slots[rows], {kind: v[rows] for kind, v in vectors.items()}, shared)
            for row in range(rows.start, rows.stop):
                if preferred and row in preferred:
                    self._add_preference(scores, row - rows.start, preferred[row])
            blocks.append(self._list_block(slots[rows], scores, shared.allowed, None if seeds is None else seeds[rows]))
        return Lists.joined(blocks)

    def source_scores(self, slots: I64, vectors: Mapping[str, F32], shared: _SharedScores | int) -> _SourceScores:
        """Every source's part of the score at the second `shared` or with what it has in common, (U, N) each."""
        config, n_items = self.config, self.n_items
        if isinstance(shared, int):
            shared = self._shared_scores(shared, shared)
        recent = self._recent(slots)
        weights = config.source_weights
        parts: dict[str, Part] = {}
        found = _SourceScores(recent, parts, shared.factor)
        if weights.get("cooccurrence"):
            popularity = self.popularity.all_time[:n_items]
            raw, found.reading, _ = cooccurrence_scores(recent, self.neighbours, popularity, config.reading, shared.factor)
            parts["cooccurrence"] = Part.scaled(raw, weights["cooccurrence"])
        if weights.get("content"):
            raw, found.content = content_scores(recent, config.content_recency, self.catalogue.features[:n_items])
            parts["content"] = Part.scaled(raw, weights["content"])
        for kind, user_vectors in vectors.items():
            if weights.get(kind):
                serving = self.models[kind]
                part = Part.scaled(model_scores(user_vectors, serving.vectors, serving.model.link, serving.known), weights[kind])
                part.factors[~user_vectors.any(axis=1)] = 0
                parts[kind] = part
        parts.update(shared.parts)
        return found

    def _shared_scores(self, now_s: int, valid_s: int) -> _SharedScores:
        config, weights, catalogue, n_items = self.config, self.config.source_weights, self.catalogue, self.n_items
        _ = catalogue.features  # weighed now if it has to be, not in several threads
        trending, all_time = self.popularity.trending()[:n_items], self.popularity.all_time[:n_items]
        fresh, allowed = catalogue.freshness(now_s, config.new_s, valid_s), catalogue.recommendable(valid_s)
        total = np.empty(n_items, np.float32)
        factors = np.array([weights.get("trending", 0.0), weights.get("new", 0.0)], np.float32)
        exact_kernel.shared_by_all(trending, fresh, allowed, factors, total)
        rows = {"trending": (trending, factors[:1]), "new": (fresh, factors[1:])}
        parts = {name: Part(row[None, :], factor) for name, (row, factor) in rows.items() if weights.get(name)}
        return _SharedScores(candidate_factor(all_time, config.reading), parts, allowed, total)

    def blended(self, slots: I64, scores: _SourceScores, allowed: NDArray[np.bool_]) -> F32:
        """The sum of all parts (U, N), −∞ for items that are not `allowed` (N,) or that the user has seen."""
        total = blend(scores.parts.values(), allowed, len(slots))
        users = self.users
        row, column = np.nonzero(used_columns(users.lengths[slots], users.history_length))
        total[row, users.items[slots[row], column]] = -np.inf
        for i, slot in enumerate(slots.tolist()):
            older = users.older[slot]
            if len(older):
                total[i, older] = -np.inf
        return total

    # -- listing from candidates -------------------------------------------------------------------------------------------------------

    def _list_from_candidates(self) -> None:
        config = self.config
        self.catalogue.compact()
        self.popularity = LargePopularity.of(self.popularity)
        blend = Blend(config.source_weights, config.reading, config.content_recency, config.recent_items, config.new_s)
        self._candidates = CandidateLists(blend, self.users, self.catalogue)
        if isinstance(self.neighbours, DenseNeighbours):
            self.neighbours = SparseNeighbours()
            self.neighbours.grow(self.n_items)
        for kind, serving in self.models.items():
            indexed = indexed_model(serving.model, serving.positions, serving.known)
            self.models[kind] = replace(serving, vectors=serving.vectors[:0], indexed=indexed)

    def _recommend_candidates(
        self,
        slots: I64,
        vectors: Mapping[str, F32],
        shared: SharedByAll,
        seeds: I64 | None,
        preferred: Mapping[int, Sequence[str]],
    ) -> Lists:
        candidates, neighbours, popularity = self._candidates, self.neighbours, self.popularity
        assert candidates is not None and isinstance(neighbours, SparseNeighbours) and isinstance(popularity, LargePopularity)
        blocks = []
        for rows in candidates.blocks(len(slots)):
            liked = {row - rows.start: preferred[row] for row in preferred if rows.start <= row < rows.stop}
            own = {kind: v[rows] for kind, v in vectors.items()}
            scored = candidates.scored(slots[rows], own, self.models, neighbours, popularity, shared, liked)
            columns, items, values = scored.best(self._pool)
            place, values, propensities = self._drawn(values, None if seeds is None else seeds[rows])
            items, columns = _taken(items, place), _taken(columns, place)
            parts = {name: np.take_along_axis(part, columns, 1) for name, part in scored.parts.items()}
            blocks.append(Lists(items, values, propensities, parts, candidates.because(scored, items)))
        return Lists.joined(blocks)

    # -- parts -------------------------------------------------------------------------------------------------------------------------

    def _blocks(self, n_users: int) -> Iterator[slice]:
        size = max(1, _BLOCK_SCORES // max(self.n_items, 1))
        return (slice(start, min(start + size, n_users)) for start in range(0, n_users, size))

    def _recent(self, slots: I64) -> Recent:
        return Recent.of(*self.users.newest(slots, self.config.recent_items), self.users.lengths[slots])

    def _histories(self, slots: I64, serving: ServingModel) -> Histories:
        users = self.users
        length = min(serving.model.history_length, users.history_length)
        numbers, at_s, units = users.newest(slots, length)
        items, weights, ages_s = np.empty(numbers.shape, np.int32), *np.empty((2, *numbers.shape), np.float32)
        unit = np.float32(WEIGHT_UNITS)
        user_table_kernel.on_axis(numbers, at_s, units, users.lengths, slots, unit, serving.positions, items, weights, ages_s)
        return Histories(items, weights, ages_s)

    def _add_preference(self, scores: _SourceScores, row: int, categories: Sequence[str]) -> None:
        vector, content = self.catalogue.category_vector(categories), scores.parts.get("content")
        if vector is None or content is None or content.factors[row]:
            return
        liked = Part.scaled((self.catalogue.features[: self.n_items] @ vector)[None, :], self.config.source_weights["content"])
        content.raw[row], content.factors[row] = liked.raw[0], liked.factors[0]

    def _list_exactly(self, slots: I64, vectors: Mapping[str, F32], shared: _SharedScores, seeds: I64 | None) -> Lists:
        """What `source_scores` and `_list_block` make, a user at a time."""
        config, weights, neighbours, n_items = self.config, self.config.source_weights, self.neighbours, self.n_items
        assert isinstance(neighbours, DenseNeighbours)
        recent, features = self._recent(slots), self.catalogue.features[:n_items]
        reading = cooccurrence_weights(recent, self.popularity.all_time[:n_items], config.reading)
        likings = config.content_recency.weights(recent)
        products = (
            [Product(CONTENT, weights[CONTENT], content_profiles(recent, likings, features), features)] if weights.get(CONTENT) else []
        )
        for kind, user_vectors in vectors.items():
            if weights.get(kind):
                serving = self.models[kind]
                products.append(Product(kind, weights[kind], user_vectors, serving.vectors, serving.model.link, serving.known))
        cooccurrence = Cooccurrence(neighbours, reading, shared.factor, weights.get("cooccurrence", 0.0))
        content = Likings(likings, self.catalogue.feature_table, features.shape[1])
        chosen = exact_scan.choose(self.users, slots, recent, cooccurrence, content, products, shared.total, self._pool)
        place, values, propensities = self._drawn(chosen.scores, seeds)
        items = _taken(chosen.items, place)
        parts = {name: _taken(part, place) for name, part in chosen.parts.items()}
        parts |= {name: part.at(items) for name, part in shared.parts.items()}
        return Lists(items, values, propensities, parts, _taken(chosen.because, place))

    def _drawn(self, scores: F32, seeds: I64 | None) -> tuple[I64 | None, F32, F32]:
        """Which of each user's candidates, best first (U, P), are listed: their places, None for all as they are; scores and propensities
        (U, K)."""
        config = self.config
        if not config.exploration_slots:
            return None, scores, np.ones(scores.shape, np.float32)
        places = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
        if seeds is None:
            seeds = np.full(len(scores), config.seed, np.int64)
        return explore(places, scores, config.list_size, config.exploration_slots, seeds)

    @property
    def _pool(self) -> int:
        """How many candidates a list is drawn from."""
        return self.config.list_size + (_EXPLORATION_POOL if self.config.exploration_slots else 0)

    def _list_block(self, slots: I64, scores: _SourceScores, allowed: NDArray[np.bool_], seeds: I64 | None) -> Lists:
        total = self.blended(slots, scores, allowed)
        items, values = top_items(total, self._pool)
        place, values, propensities = self._drawn(values, seeds)
        items = _taken(items, place)
        contributions = {name: part.at(items) for name, part in scores.parts.items()}
        return Lists(items, values, propensities, contributions, self._because(scores, items))

    def _because(self, scores: _SourceScores, items: I64) -> I64:
        """(U, K, 2): the recent items that added most to each listed item through co-occurrence and content, −1 for none."""
        recent = scores.recent
        added = np.zeros((*items.shape, recent.items.shape[1]), np.float32)  # (U, K, R)
        if scores.reading is not None:
            counts = self.neighbours.pairs(recent.items[:, None, :], items[:, :, None])
            counts *= (scores.reading * scores.parts["cooccurrence"].factors[:, None])[:, None, :]
            counts *= scores.factor[items][:, :, None]
            added += counts
        if scores.content is not None:
            features = self.catalogue.features
            weighted = features[recent.items] * (scores.content * scores.parts["content"].factors[:, None])[:, :, None]
            added += np.maximum(features[items] @ weighted.transpose(0, 2, 1), 0)
        return strongest(added, recent.items)


@dataclass(frozen=True, slots=True)
class _SharedScores:
    """What all users have in common at one time: the factor of each candidate's co-occurrence (N,), the parts of one row, which items may
    be listed (N,), and the sum of the parts (N,), −∞ where they may not."""

    factor: F32
    parts: dict[str, Part]
    allowed: NDArray[np.bool_]
    total: F32


Shared = _SharedScores | SharedByAll


@dataclass(slots=True)
class _SourceScores:
    """Parts of the score by source, and what explains them."""

    recent: Recent
    parts: dict[str, Part]
    factor: F32
    reading: F32 | None = None
    content: F32 | None = None


def _taken(values: NDArray[Scalar], places: I64 | None) -> NDArray[Scalar]:
    """Of (U, P, …) those at `places` (U, K), or all."""
    if places is None:
        return values
    return np.take_along_axis(values, places.reshape(*places.shape, *[1] * (values.ndim - 2)), 1)


def _widened(serving: ServingModel, n_items: int) -> ServingModel:
    more = n_items - len(serving.positions)
    if more <= 0:
        return serving
    indexed = serving.indexed
    return replace(
        serving,
        vectors=np.pad(serving.vectors, ((0, more), (0, 0))) if indexed is None else serving.vectors,
        known=np.pad(serving.known, (0, more)),
        positions=np.pad(serving.positions, (0, more), constant_values=-1),
        indexed=None if indexed is None else replace(indexed, rows=np.pad(indexed.rows, (0, more), constant_values=-1)),
    )
