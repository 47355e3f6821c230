"""The recommender itself: histories, neighbours, popularity, catalogue and models in memory; `learn` from a micro-batch, `recommend` for
users.

A worker feeds it from Kafka and keeps it in step with Redis; a benchmark feeds it from a file. Both run this very code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.held_values import HeldValues
from recsys.catalogue.items import Catalogue, ItemContent
from recsys.catalogue.labels import CATEGORY
from recsys.lists.candidates import Candidates
from recsys.lists.context import ListContext, Situation
from recsys.lists.engine_config import EXACT_ITEMS, PAIR_WEIGHTS, SOURCE_WEIGHTS, EngineConfig
from recsys.lists.features import Features, RecipeFeatures
from recsys.lists.learned.feature_names import FEATURE_VERSION
from recsys.lists.learned.features import LearnedFeatures
from recsys.lists.learned.ranker import NARROWED, LearnedRanker
from recsys.lists.maker import ListMaker
from recsys.lists.reason_choice import reason_fields
from recsys.lists.recipe import Recipe
from recsys.lists.result import Lists
from recsys.lists.row_options import label_fields
from recsys.lists.rule_effects import RuleEffects
from recsys.lists.serving import ServingModel, extend_models, prepare_index
from recsys.lists.trace import Trace
from recsys.models.base import Model
from recsys.models.content_map import MappedModel, parts_of
from recsys.models.segments.model import SegmentsModel
from recsys.models.user_vectors import each_vector
from recsys.rules.rule import RuleSet
from recsys.state.batch_delta import Delta, batch_delta
from recsys.state.half_lives import PERIODS_S
from recsys.state.interactions import Interactions
from recsys.state.neighbours import DenseNeighbours, Neighbours, SparseNeighbours
from recsys.state.popularity import Popularity
from recsys.state.related import RelatedCounts
from recsys.state.shown import ShownEvents
from recsys.state.touches import Touches, derive_touches
from recsys.state.user_attributes import WantedAttributes
from recsys.state.user_table import UserTable, pack_embeddings

__all__ = ["EXACT_ITEMS", "PAIR_WEIGHTS", "SOURCE_WEIGHTS", "Derived", "Engine", "EngineConfig", "Lists", "ServingModel"]

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
@dataclass(frozen=True, slots=True)
class Derived:
    """The additions of one micro-batch, before anything is changed."""

    batch: Interactions
    touches: Touches
    related: RelatedCounts | None = None
    """Additions for lists of items, if they are kept."""

    def delta(self, config: EngineConfig, chosen: NDArray[np.bool_] | None = None) -> Delta:
        """Return what all interactions add to item groups, or those `chosen` (n,)."""
        delta = batch_delta(self.batch, self.touches, epoch_s=config.epoch_s, item_groups=config.item_groups, chosen=chosen)
        return delta if self.related is None else self.related.added_to(delta, chosen)


class Engine:
    """State in arrays. Item numbers are dense; `ensure_items` makes room before numbers are used."""

    def __init__(self, config: EngineConfig | None = None) -> None:
        self.config = own = config or EngineConfig()
        self.users = UserTable(own.history_length, own.seen_length, own.user_slots, kept_types=own.kept_types, shown_items=own.shown_items)
        self._touch_rules = self.config.touch_rules
        self.neighbours: Neighbours = DenseNeighbours()
        self.popularity = Popularity()
        self.rules = rules = self.config.rules
        """Rules that lists follow."""
        self.catalogue = Catalogue(
            touch_group_of=self.config.touch_policy.group_of,
            label_fields=own.fields_of_lists | label_fields(own.rows) | own.label_fields | reason_fields(own.reasons),
            wanted=rules.wanted if rules is not None and rules.rules else None,
        )
        self.models: dict[str, ServingModel] = {}
        self.newest_epoch = -1
        self.is_large = False
        self.recipe: Recipe | None = None
        self.ranker: LearnedRanker | None = None
        self.users.hold_attributes(WantedAttributes() if rules is None else rules.of_profiles)
        self._options = self.config.list_options.with_recipe(None)
        self._lists = ListMaker(self.config.registry, rules)

    @property
    def n_items(self) -> int:
        return self.catalogue.n_items

    @property
    def category_names(self) -> Sequence[str]:
        """Return the texts of categories by number, as of now; empty unless exact ones are held."""
        labels = self.catalogue.labels.get(CATEGORY)
        return () if labels is None else labels.texts

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
        extend_models(self.models, self.catalogue, np.array([number]))

    def name_items(self, ids: Sequence[str]) -> None:
        """Let rules read the ids of items, by number; `ids` may grow, and ids never change."""
        if self.catalogue.held is not None:
            self.catalogue.held.ids = ids

    def serve(self, kind: str, version: str, model: Model | MappedModel, item_numbers: Mapping[str, int]) -> None:
        """Use this model from now on. Items of the model that have no number here are left out."""
        self.models[kind] = serving = ServingModel.of(kind, version, model, item_numbers, self.n_items, is_large=self.is_large)
        serving.extend_all(self.catalogue, self.n_items)
        if serving.needs_profiles:
            self.users.hold_profiles()

    def retire(self, kind: str) -> bool:
        """Use no model of this kind from now on; return whether one served."""
        served = self.models.pop(kind, None)
        if served is not None and served.needs_profiles and not any(other.needs_profiles for other in self.models.values()):
            self.users.drop_profiles()
        return served is not None

    def supply_texts(self, numbers: I64, vectors: F32) -> None:
        """Give the items `numbers` (n,) the vectors of their texts, (n, E), as `ItemVectors.changes` names them."""
        self.catalogue.supply(numbers, vectors)
        extend_models(self.models, self.catalogue, numbers)

    def use_rules(self, rules: RuleSet | None, held: HeldValues | None = None) -> None:
        """Make lists by these rules from now on, between two batches; None: by none. `held` are values of all items that the rules name,
        where the catalogue does not hold them."""
        self._lists.use_rules(rules)
        self.rules = rules
        self.users.hold_attributes(WantedAttributes() if rules is None else rules.of_profiles)
        if held is not None:
            held.grow(len(self.catalogue.available))
            self.catalogue.held = held

    def use_recipe(self, recipe: Recipe | None) -> None:
        """Make lists by this recipe from now on, between two batches; None: by the default one."""
        self.recipe = recipe
        self._options = replace(self.config.list_options.with_recipe(recipe), ranker=self.ranker)

    def use_ranker(self, ranker: LearnedRanker | None) -> None:
        """Rank again by this ranker what the recipe ranks first, between two batches; None: the recipe alone ranks."""
        self.ranker = ranker
        self._options = replace(self._options, ranker=ranker)

    def prepare(self, served: Model | MappedModel) -> None:
        """Build the index that `serve` will need for this model: seconds in a large catalogue. May run in another thread."""
        if max(self.n_items, len(served.item_ids)) > self.config.exact_items:
            prepare_index(parts_of(served)[0])

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

    def learn_shown(self, events: ShownEvents) -> NDArray[np.bool_]:
        """Count a batch's impressions, and return for which of its users (U,) an item begins to rest. Moves no event time."""
        shown, cap = self.users.shown, self.config.frequency_cap
        if shown is None:
            return np.zeros(len(events.slots), np.bool_)
        return shown.learn(events) if cap is None else shown.learn(events, cap.times, cap.rest_s)

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

    def encode(self, slots: I64, now_s: int | None = None) -> dict[str, F32]:
        """Return user vectors by model kind, of the models that read histories: (U, D), or (U, V, D) of a kind that makes several.

        They are for lists at the second `now_s` of event time; None: at each user's newest interaction, as where an event makes them."""
        by_history = {kind: serving for kind, serving in self.models.items() if not serving.reads_profiles}
        return {kind: serving.encode(self.users, slots, now_s) for kind, serving in by_history.items()}

    def _with_profiles(self, slots: I64, vectors: Mapping[str, F32]) -> Mapping[str, F32]:
        """Return the vectors with those of the model that reads profiles, and with what profiles add to others, if they are held."""
        serving, profiles = self.models.get(SegmentsModel.kind), self.users.profiles
        if profiles is not None and (adding := {kind: one for kind, one in self.models.items() if one.adds_profiles and kind in vectors}):
            columns = profiles.columns.at(slots)
            vectors = {**vectors, **{kind: one.with_profiles(vectors[kind], columns) for kind, one in adding.items()}}
        if serving is None or profiles is None or SegmentsModel.kind in vectors or not isinstance(serving.model, SegmentsModel):
            return vectors
        return {**vectors, SegmentsModel.kind: serving.model.encode_profiles(profiles.columns.at(slots))}

    def segment_scores(self, attribute: str, value: str | float) -> F32 | None:
        """Return the probability of each item among the first choices of users with this value of a profile's attribute, (N,): 0 of an
        item that nobody chose. `preferred` is the attribute of preferred categories. None: no model of segments serves, or it has no such
        segment."""
        serving = self.models.get(SegmentsModel.kind)
        scores = serving.model.scores_of(attribute, value) if serving is not None and isinstance(serving.model, SegmentsModel) else None
        if serving is None or scores is None:
            return None
        return np.where(serving.known, scores[serving.positions], np.float32(0))[: self.n_items]

    def embeddings(self, vectors: Mapping[str, F32], n_users: int) -> list[list[bytes]]:
        """Return the vectors as version-stamped parts of user rows: a list for each user."""
        packed = [
            pack_embeddings(self.models[kind].tag, own) for kind, made in vectors.items() if made.shape[-1] for own in each_vector(made)
        ]
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
        users = context.users(slots, self._with_profiles(slots, vectors))
        found = self._lists.candidates(users, context)
        return found, RecipeFeatures()(found, users, context)

    def shortlist(
        self,
        slots: I64,
        vectors: Mapping[str, F32],
        shared: ListContext | int,
        sources: Sequence[str] = (),
        size: int = NARROWED,
        version: int = FEATURE_VERSION,
        devices: Sequence[str] = (),
        situations: Sequence[Situation] | None = None,
    ) -> tuple[Candidates, Features]:
        """Return the `size` best candidates of the users in `slots` (U,) by the recipe, best first, and the features of a `version` by
        which a learned ranker ranks them again, those of further `sources` and which of these `devices` it is among them; `situations` (U,)
        as in `recommend`."""
        context = self.shared(shared) if isinstance(shared, int) else shared
        users = context.users(slots, self._with_profiles(slots, vectors), situations=situations)
        found = self._lists.shortlist(users, context, size)
        return found, LearnedFeatures(sources, version, devices)(found, users, context)

    def recommend(
        self,
        slots: I64,
        vectors: Mapping[str, F32],
        shared: ListContext | int,
        seeds: I64 | None = None,
        preferred: Mapping[int, Sequence[str]] | None = None,
        *,
        user_ids: Sequence[str] | None = None,
        with_rules: bool = True,
        within: NDArray[np.bool_] | None = None,
        previous: I64 | None = None,
        situations: Sequence[Situation] | None = None,
    ) -> Lists:
        """Return lists for the users in `slots` (U,), made at the second `shared` or in that context. `seeds` (U,) repeat the exploration;
        `preferred[i]` are categories that user i named, used where the user has no history; `user_ids` (U,) are for rules that read them;
        the lists are as without rules if `with_rules` is False, and hold only items `within` (N,) if that is given. `previous` (U, K) are
        the items of the lists before, −1 for none, whose order is kept where scores differ little; `situations` (U,) say where lists are
        read."""
        context = self.shared(shared) if isinstance(shared, int) else shared
        users = context.users(slots, self._with_profiles(slots, vectors), preferred, seeds, user_ids, previous, situations)
        return self._lists.lists(users, context, with_rules=with_rules, within=within)

    def trace(self, slots: I64, vectors: Mapping[str, F32], shared: ListContext, **named: Any) -> Trace:
        """Return lists with the steps that led to them, of users for whom rules do the same; `named` is what `ListContext.users` takes."""
        return self._lists.traced(shared.users(slots, self._with_profiles(slots, vectors), **named), shared)

    def rule_groups(
        self, slots: I64, shared: ListContext, preferred: Mapping[int, Sequence[str]] | None = None, user_ids: Sequence[str] | None = None
    ) -> list[tuple[I64, RuleEffects]]:
        """Return what rules do to the lists of users in `slots` (U,): the rows of those for whom it is the same, and the effects."""
        return self._lists.rule_groups(shared.users(slots, {}, preferred, None, user_ids), shared)
