"""From settings to what the engine is built from."""

from __future__ import annotations

from recsys.engine import EngineConfig
from recsys.ranking import CooccurrenceReading
from recsys.weights import WeightTable
from schemas.events import EVENT_TYPES, EventType
from workers.settings import Settings, WeightSettings
from workers.store import layout_of

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


def weight_table(settings: Settings) -> WeightTable:
    """The weights of events behind these settings."""
    return weight_table_of(settings.weights)


def weight_table_of(weights: WeightSettings) -> WeightTable:
    """The weights of events behind that section."""
    return WeightTable(
        by_code=tuple(0.0 if kind is EventType.RATING else float(getattr(weights, kind.value)) for kind in EVENT_TYPES),
        rating_code=EventType.RATING.code,
        rating_neutral=weights.rating_neutral,
        rating_best=weights.rating_best,
    )
