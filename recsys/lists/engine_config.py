"""Configuration of the engine: of what it learns and of the lists that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from recsys.catalogue.labels import FIRST_CATEGORY
from recsys.cooccurrence import PairWeights
from recsys.lists.context import ListOptions
from recsys.lists.policies.mixed import PLACES
from recsys.lists.policies.options import NO_POLICY, PolicyOptions
from recsys.lists.reading import CooccurrenceReading, Recency
from recsys.lists.recipe import RecipeSettings
from recsys.lists.registry import Registry, built_in
from recsys.lists.row_options import RowSpec
from recsys.lists.shown import FrequencyCap
from recsys.lists.touch_policy import ALL_FOR_EVER, TouchPolicy
from recsys.rules.rule import RuleSet
from recsys.state.neighbours import DENSE_ITEMS
from recsys.state.touches import TouchRules
from recsys.state.user_table import ALL_TYPES

PAIR_WEIGHTS = PairWeights.decaying(window=20, step=0.85, backward=0.4)
READING = CooccurrenceReading()
CONTENT_RECENCY = Recency(step=0.75, age_s=90.0)
SOURCE_WEIGHTS = {
    "cooccurrence": 1.0, "content": 1.4, "ials": 0.2, "sasrec": 0.3, "ease": 0.2, "slim": 0.2, "segments": 1.0,
    "knn": 0.2, "bpr": 0.2, "biased_mf": 0.2, "isgd": 0.2, "item2vec": 0.2, "lightgcn": 0.2, "two_tower": 0.2,
    "comirec": 0.2, "neumf": 0.2, "trending": 0.02, "new": 0.02,
}  # fmt: skip
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
    user_slots: int = 1_024
    """Users that there is room for at first. More make the table grow, which copies it: a tenth of a second at 16,000 users. Room that is
    not used costs no memory."""
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
    shown_items: int = 0
    """Items of a user whose impressions are counted; 0: none."""
    frequency_cap: FrequencyCap | None = None
    recent_items: int = 10
    reading: CooccurrenceReading = READING
    content_recency: Recency = CONTENT_RECENCY
    source_weights: Mapping[str, float] = field(default_factory=lambda: dict(SOURCE_WEIGHTS))
    list_size: int = 20
    exploration_slots: int = 0
    policy: PolicyOptions = NO_POLICY
    """Freshness, calibration, diversity and caps."""
    new_s: float = 30 * 86_400
    seed: int = 0
    dense_items: int = DENSE_ITEMS
    exact_items: int = EXACT_ITEMS
    """Above this many items lists are made from candidates."""
    registry: Registry = field(default_factory=built_in)
    """Sources, filters, ranker and policy stages that lists are made with."""
    rules: RuleSet | None = None
    """Rules that lists follow."""
    reasons: bool = False
    """Say of each listed item what carried it."""
    bought_types: int = 0
    """Bit c is set for an event type c by which an item is bought: what goes with it is `bought_together`."""
    rows: tuple[RowSpec, ...] = ()
    """Rows of a page beside each list."""
    most_of_category: int = 10
    """Most of the first ten places with one first category, where there are candidates of others; 10: all."""
    label_fields: frozenset[str] = frozenset()
    """Fields of items whose exact values are held beside those that stages and rows read."""

    @property
    def fields_of_lists(self) -> frozenset[str]:
        """Return the fields of items whose exact values stages of lists read."""
        return self.policy.label_fields | ({FIRST_CATEGORY} if self.most_of_category < PLACES else frozenset())

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
            policy=self.policy,
            reasons=self.reasons,
            bought_types=self.bought_types,
            rows=self.rows,
            frequency_cap=self.frequency_cap,
            most_of_category=self.most_of_category,
        )
