"""From settings to what the engine is built from."""

from __future__ import annotations

from recsys.engine import EngineConfig
from recsys.lists.reading import CooccurrenceReading
from workers.settings import Settings
from workers.state.layout import layout_of

DAY_S = 86_400


def engine_config(settings: Settings) -> EngineConfig:
    """The engine's configuration behind these settings."""
    state, lists = settings.state, settings.lists
    return EngineConfig(
        history_length=state.history_length,
        seen_length=state.seen_length,
        item_groups=state.item_groups,
        epoch_s=layout_of(settings).epoch_s,
        recent_items=lists.recent_items,
        reading=CooccurrenceReading(similarity=state.similarity),
        source_weights=lists.weights,
        list_size=lists.size,
        exploration_slots=lists.exploration_slots,
        new_s=lists.new_days * DAY_S,
        seed=lists.seed,
        exact_items=lists.exact_items,
    )
