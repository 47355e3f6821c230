"""From settings to the configuration of the engine."""

from __future__ import annotations

from dataclasses import replace

from recsys.engine import EngineConfig
from recsys.lists.reading import CooccurrenceReading
from recsys.lists.recipe import Recipe
from recsys.lists.registry import Registry, built_in
from workers.errors import SettingsError
from workers.plugins import load_plugins
from workers.settings import ListSettings, Settings, StateSettings
from workers.state.layout import epoch_s_of
from workers.state.touch_policy import kept_types, touch_policy

DAY_S = 86_400


def engine_config(settings: Settings) -> EngineConfig:
    """Return the engine's configuration behind these settings, with the parts of installed plugins. Raises Fatal for a plugin that does not
    load, SettingsError for a source without a weight."""
    registry = load_plugins()
    check_weights(settings, registry)
    policy = touch_policy(settings)
    config = engine_config_of(settings.state, settings.lists, registry)
    return replace(config, touch_policy=policy, kept_types=kept_types(policy, settings.weights))


def engine_config_of(state: StateSettings, lists: ListSettings, registry: Registry) -> EngineConfig:
    """Return the engine's configuration behind these sections, in which every touch takes its item off lists for ever."""
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
        recent_items=lists.recent_items,
        reading=CooccurrenceReading(similarity=state.similarity),
        source_weights=lists.weights,
        list_size=lists.size,
        exploration_slots=lists.exploration_slots,
        new_s=lists.new_days * DAY_S,
        seed=lists.seed,
        exact_items=lists.exact_items,
        registry=registry,
    )


def check_weights(settings: Settings, registry: Registry) -> None:
    """Raise SettingsError for a kind of model that is trained, or a plugin's source, of which no list would hold anything because
    `lists.weights` does not name it. A weight of 0 says that this is meant."""
    weights = settings.lists.weights
    for kind in settings.trainer.kinds:
        if kind not in weights and kind != Recipe.kind:
            remedy = f"add a weight for it (0 to train it and not list it) or take {kind} out of trainer.kinds"
            raise SettingsError(f"setting lists.weights: trainer.kinds names {kind}, which has no weight: {remedy}")
    for name in registry.sources:
        if name not in weights and name not in built_in().sources:
            remedy = "add one (0 to switch it off) or uninstall the plugin"
            raise SettingsError(f"setting lists.weights: {name}, a plugin's source, has no weight: {remedy}")
