"""From settings to the configuration of the engine."""

from __future__ import annotations

from dataclasses import replace

from recsys.catalogue.labels import CATEGORY
from recsys.engine import EngineConfig
from recsys.lists.learned.ranker import LearnedRanker
from recsys.lists.reading import CooccurrenceReading
from recsys.lists.recipe import Recipe
from recsys.lists.registry import Registry, built_in
from recsys.lists.rules_in_use import Nominator
from recsys.lists.shown import FrequencyCap
from schemas.events import EventType
from workers.errors import SettingsError
from workers.lists.policy_options import policy_options
from workers.lists.row_specs import row_specs
from workers.plugins import load_plugins
from workers.rule_settings import rule_set
from workers.settings import ListSettings, Settings, StateSettings
from workers.state.layout import epoch_s_of
from workers.state.touch_policy import kept_types, touch_policy

DAY_S, HOUR_S = 86_400, 3_600
_BOUGHT = 1 << EventType.PURCHASE.code | 1 << EventType.ADD_TO_CART.code
"""Types of events by which an item is bought."""


def engine_config(settings: Settings) -> EngineConfig:
    """Return the engine's configuration behind these settings, with the parts of installed plugins. Raises Fatal for a plugin that does not
    load, SettingsError for a source without a weight, and for a rule that pins a place that no list has."""
    registry = load_plugins()
    check_weights(settings, registry)
    check_rules(settings.lists, registry)
    policy = touch_policy(settings)
    config = engine_config_of(settings.state, settings.lists, registry)
    return replace(
        config,
        touch_policy=policy,
        kept_types=kept_types(policy, settings.weights),
        user_slots=settings.stream.user_cache + settings.stream.batch_max_events,
        rules=rule_set(settings.lists.rules),
        reasons=settings.lists.reasons,
        bought_types=_BOUGHT,
        rows=row_specs(settings.lists.rows),
        label_fields=frozenset((CATEGORY,) if settings.lists.shared_categories or settings.related.trending else ()),
    )


def engine_config_of(state: StateSettings, lists: ListSettings, registry: Registry) -> EngineConfig:
    """Return the engine's configuration behind these sections, in which every touch takes its item off lists for ever, and no rule counts:
    a recipe learns what users choose, not what rules show them."""
    return EngineConfig(
        history_length=state.history_length,
        seen_length=state.seen_length,
        item_groups=state.item_groups,
        epoch_s=epoch_s_of(state),
        session_s=state.session_s,
        pairings_per_epoch=state.pairings_per_epoch,
        touches_per_epoch=state.touches_per_epoch,
        partner_touches=state.partner_touches,
        user_budget=state.user_budget,
        shown_items=state.shown_items,
        recent_items=lists.recent_items,
        reading=CooccurrenceReading(similarity=state.similarity),
        source_weights=lists.weights,
        list_size=lists.size,
        exploration_slots=lists.exploration_slots,
        policy=policy_options(lists),
        frequency_cap=frequency_cap(lists),
        most_of_category=lists.most_of_category,
        new_s=lists.new_days * DAY_S,
        seed=lists.seed,
        exact_items=lists.exact_items,
        registry=registry,
    )


def frequency_cap(lists: ListSettings) -> FrequencyCap | None:
    """Return the frequency cap behind these settings; None if nothing rests."""
    cap = lists.frequency_cap
    return FrequencyCap(cap.times, round(cap.rest_hours * HOUR_S)) if cap.times else None


def check_weights(settings: Settings, registry: Registry) -> None:
    """Raise SettingsError for a kind of model that is trained, or a plugin's source, of which no list would hold anything because
    `lists.weights` does not name it. A weight of 0 says that this is meant."""
    weights = settings.lists.weights
    for kind in settings.trainer.kinds:
        if kind not in weights and kind not in (Recipe.kind, LearnedRanker.kind):
            remedy = f"add a weight for it (0 to train it and not list it) or take {kind} out of trainer.kinds"
            raise SettingsError(f"setting lists.weights: trainer.kinds names {kind}, which has no weight: {remedy}")
    for name in registry.sources:
        if name not in weights and name not in built_in().sources:
            remedy = "add one (0 to switch it off) or uninstall the plugin"
            raise SettingsError(f"setting lists.weights: {name}, a plugin's source, has no weight: {remedy}")


def check_rules(lists: ListSettings, registry: Registry) -> None:
    """Raise SettingsError for a rule that pins a place that is not on the list or is drawn at random, and for a plugin's source with the
    name of the rules' part of a score."""
    n_fixed = lists.size - lists.exploration_slots
    for rule in lists.rules:
        if behind := [place for place in rule.places if place > n_fixed]:
            drawn = f", of which lists.exploration_slots draws the last {lists.exploration_slots}" if lists.exploration_slots else ""
            remedy = f"lists.size is {lists.size}{drawn}: choose a place up to {n_fixed}"
            problem = f"places: {behind[0]} is behind the last one that can be pinned"
            raise SettingsError(f"setting lists.rules: rule {rule.name!r}: {problem}; {remedy}")
    if lists.rules and Nominator.name in registry.sources:
        raise SettingsError(f"setting lists.rules: a plugin's source is named {Nominator.name}: rename it, or remove the rules")
