"""The recommender itself: histories, neighbours, popularity, catalogue and models in memory; `learn` from a micro-batch, `recommend` for
users.

A worker feeds it from Kafka and keeps it in step with Redis; a benchmark feeds it from a file. Both run this very code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.items import Catalogue, ItemContent
from recsys.cooccurrence import PairWeights
from recsys.lists.candidates import Candidates
from recsys.lists.context import ListContext, ListOptions
from recsys.lists.features import Features, RecipeFeatures
from recsys.lists.maker import ListMaker
from recsys.lists.reading import CooccurrenceReading, Recency
from recsys.lists.recipe import Recipe, RecipeSettings
from recsys.lists.registry import Registry, built_in
from recsys.lists.result import Lists
from recsys.lists.serving import ServingModel, index_of
from recsys.lists.touch_policy import ALL_FOR_EVER, TouchPolicy
from recsys.models.base import Histories, Model
from recsys.state import user_table_kernel
from recsys.state.batch_delta import Delta, batch_delta
from recsys.state.half_lives import PERIODS_S
from recsys.state.interactions import Interactions
from recsys.state.neighbours import DENSE_ITEMS, DenseNeighbours, Neighbours, SparseNeighbours
from recsys.state.popularity import Popularity
from recsys.state.touches import Touches, TouchRules, derive_touches
from recsys.state.user_table import ALL_TYPES, WEIGHT_UNITS, UserTable, pack_embeddings

__all__ = ["EXACT_ITEMS", "PAIR_WEIGHTS", "SOURCE_WEIGHTS", "Derived", "Engine", "EngineConfig", "Lists", "ServingModel"]

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
PAIR_WEIGHTS = PairWeights.decaying(window=20, step=0.85, backward=0.4)
READING = CooccurrenceReading()
CONTENT_RECENCY = Recency(step=0.75, age_s=90.0)
SOURCE_WEIGHTS = {"cooccurrence": 1.0, "content": 1.4, "ials": 0.2, "sasrec": 0.3, "trending": 0.02, "new": 0.02}
"""Co-occurrence and content: chosen on the first 40 % of the five-star events of MovieLens 1M; models: on events 80,000 to 88,000 of
them, trained on what was before."""
EXACT_ITEMS = 16_000
"""Up to this many items every one is scored for every user, which is faster and exact."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Configuration of learning and listing. Times in seconds; `source_weights` by source name, a model's source has the name of its
    kind. What one user adds is bounded by `session_s`, `pairings_per_epoch`, `touches_per_epoch`,
    `partner_touches` and `user_budget` (`TouchRules`); bit c of
    `kept_types` is set for an event type c whose items stay off lists when they have left the history; `touch_policy` says how long
    those in the history do."""

    history_length: int = 100
    seen_length: int = 1_000
    item_groups: int = 8
    epoch_s: int = 180 * 86_400
    pair_weights: PairWeights = PAIR_WEIGHTS
    session_s: int = 1_800
    pairings_per_epoch: int = 1
    touches_per_epoch: int = 1
    partner_touches: int = 20
    user_budget: int = 1_000
    kept_types: int = ALL_TYPES
    touch_policy: TouchPolicy = ALL_FOR_EVER
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
    """Above this many items lists are made from candidates."""
    registry: Registry = field(default_factory=built_in)
    """Sources, filters, ranker and policy stages that lists are made with."""

    @property
    def touch_rules(self) -> TouchRules:
        """Return how much the events of one user add."""
        return TouchRules(
            self.pair_weights,
            self.epoch_s,
            self.session_s,
            self.pairings_per_epoch,
            self.touches_per_epoch,
            self.partner_touches,
            self.user_budget,
        )

    @property
    def list_options(self) -> ListOptions:
        """Return what lists depend on."""
        return ListOptions(
            self.source_weights,
            self.reading,
            self.content_recency,
            RecipeSettings().wide,
            self.recent_items,
            self.new_s,
            self.list_size,
            self.exploration_slots,
            self.seed,
            self.touch_policy,
        )


@dataclass(frozen=True, slots=True)
class Derived:
    """The additions of one micro-batch, before anything is changed."""

    batch: Interactions
    touches: Touches

    def delta(self, config: EngineConfig, chosen: NDArray[np.bool_] | None = None) -> Delta:
        """Return what all interactions add to item groups, or those `chosen` (n,)."""
        return batch_delta(self.batch, self.touches, epoch_s=config.epoch_s, item_groups=config.item_groups, chosen=chosen)


class Engine:
    """State in arrays. Item numbers are dense; `ensure_items` makes room before numbers are used."""

    def __init__(self, config: EngineConfig | None = None) -> None:
        self.config = config or EngineConfig()
        self.users = UserTable(self.config.history_length, self.config.seen_length, kept_types=self.config.kept_types)
        self._touch_rules = self.config.touch_rules
        self.neighbours: Neighbours = DenseNeighbours()
        self.popularity = Popularity()
        self.catalogue = Catalogue(touch_group_of=self.config.touch_policy.group_of)
        self.models: dict[str, ServingModel] = {}
        self.newest_epoch = -1
        self.is_large = False
        self.recipe: Recipe | None = None
        self._options = self.config.list_options.with_recipe(None)
        self._lists = ListMaker(self.config.registry)

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
        if n_items > self.config.exact_items and not self.is_large:
            self._become_large()
        for part in (self.neighbours, self.popularity, self.catalogue):
            part.grow(n_items)
        for kind, serving in self.models.items():
            self.models[kind] = serving.widened(len(self.catalogue.available) if self.is_large else n_items)

    def _become_large(self) -> None:
        """Hold the state as lists from candidates need it."""
        self.is_large = True
        self.catalogue.compact()
        if isinstance(self.neighbours, DenseNeighbours):
            self.neighbours = SparseNeighbours()
            self.neighbours.grow(self.n_items)
        for kind, serving in self.models.items():
            self.models[kind] = serving.with_index()

    def describe_item(self, number: int, content: ItemContent | None) -> None:
        """Learn an item's content; None removes it from every list."""
        self.ensure_items(number + 1)
        self.catalogue.put(number, content)

    def serve(self, kind: str, version: str, model: Model, item_numbers: Mapping[str, int]) -> None:
        """Use this model from now on. Items of the model that have no number here are left out."""
        self.models[kind] = ServingModel.of(kind, version, model, item_numbers, self.n_items, is_large=self.is_large)

    def use_recipe(self, recipe: Recipe | None) -> None:
        """Make lists by this recipe from now on, between two batches; None: by the default one."""
        self.recipe = recipe
        self._options = self.config.list_options.with_recipe(recipe)

    def prepare(self, model: Model) -> None:
        """Build the index that `serve` will need for this model: seconds in a large catalogue. May run in another thread."""
        if max(self.n_items, len(model.item_ids)) > self.config.exact_items:
            index_of(model)

    def derive(self, batch: Interactions) -> Derived:
        """Return what the batch adds, from the histories before it. Changes nothing."""
        return Derived(batch, derive_touches(batch, self.users, self._touch_rules, PERIODS_S))

    def learn_histories(self, derived: Derived) -> None:
        """Hold the histories after a batch, which must be those that were derived last of its users, and move event time on to its newest
        interaction."""
        batch, touches = derived.batch, derived.touches
        if len(batch):
            self.advance_time(int(batch.times_s.max()))
        self.users.replace(batch.slots, batch.counts, touches.after, touches.left)

    def advance_time(self, newest_s: int) -> None:
        """Move event time to `newest_s`, whether or not anything was chosen then."""
        self.newest_epoch = max(self.newest_epoch, newest_s // self.config.epoch_s)
        self.popularity.advance(newest_s)

    def learn_items(self, delta: Delta) -> None:
        """Add a batch's delta to neighbours and popularity; rows that are not held are passed over."""
        for epoch, rows in delta.by_epoch():
            self.learn_pairs(delta, epoch, rows)
        self.learn_counts(delta, delta.count_rows())

    def learn_pairs(self, delta: Delta, epoch: int, rows: I64) -> None:
        """Add what a delta appends to some rows of co-occurrence (r,) of one epoch."""
        self.newest_epoch = max(self.newest_epoch, epoch)
        if len(rows):
            self.neighbours.add(delta.numbers[rows], delta.starts_of(rows), delta.ends[rows], delta.records, epoch)

    def learn_counts(self, delta: Delta, rows: I64) -> None:
        """Add what a delta appends to some rows of popularity (r,)."""
        if len(rows):
            self.popularity.add_rows(*delta.windows_of(rows), delta.starts_of(rows), delta.ends[rows], delta.records)

    def encode(self, slots: I64) -> dict[str, F32]:
        """Return user vectors (U, D) by model kind."""
        return {kind: serving.model.encode(self._histories(slots, serving)) for kind, serving in self.models.items()}

    def _histories(self, slots: I64, serving: ServingModel) -> Histories:
        users = self.users
        length = min(serving.model.history_length, users.history_length)
        numbers, at_s, units = users.newest(slots, length)
        items, weights, ages_s = np.empty(numbers.shape, np.int32), *np.empty((2, *numbers.shape), np.float32)
        unit = np.float32(WEIGHT_UNITS)
        user_table_kernel.on_axis(numbers, at_s, units, users.lengths, slots, unit, serving.positions, items, weights, ages_s)
        return Histories(items, weights, ages_s)

    def embeddings(self, vectors: Mapping[str, F32], n_users: int) -> list[list[bytes]]:
        """Return the vectors as version-stamped parts of user rows: a list for each user."""
        packed = [pack_embeddings(self.models[kind].tag, vectors[kind]) for kind in vectors]
        return [list(parts) for parts in zip(*packed, strict=True)] if packed else [[] for _ in range(n_users)]

    def shared(self, now_s: int, valid_s: int | None = None) -> ListContext:
        """Return what all lists made at `now_s` share. Until anything is learned, `recommend` may be called in several threads with it.

        `now_s` is event time: trends and ages of items are measured from it. `valid_s` is the reader's time (`now_s` unless given): only
        items that are published and not expired by then are listed."""
        context = ListContext(
            options=self._options,
            now_s=now_s,
            valid_s=now_s if valid_s is None else valid_s,
            table=self.users,
            neighbours=self.neighbours,
            popularity=self.popularity,
            catalogue=self.catalogue,
            models=self.models,
            is_large=self.is_large,
        )
        self._lists.prepare(context)
        return context

    def features(self, slots: I64, vectors: Mapping[str, F32], shared: ListContext | int) -> tuple[Candidates, Features]:
        """Return what lists of the users in `slots` (U,) may hold, and the features by which a recipe ranks it."""
        context = self.shared(shared) if isinstance(shared, int) else shared
        users = context.users(slots, vectors)
        found = self._lists.candidates(users, context)
        return found, RecipeFeatures()(found, users, context)

    def recommend(
        self,
        slots: I64,
        vectors: Mapping[str, F32],
        shared: ListContext | int,
        seeds: I64 | None = None,
        preferred: Mapping[int, Sequence[str]] | None = None,
    ) -> Lists:
        """Return lists for the users in `slots` (U,), made at the second `shared` or in that context. `seeds` (U,) repeat the exploration;
        `preferred[i]` are categories that user i named, used where the user has no history."""
        context = self.shared(shared) if isinstance(shared, int) else shared
        return self._lists.lists(context.users(slots, vectors, preferred, seeds), context)
