"""From settings to the weights of events."""

from __future__ import annotations

from recsys.state.event_weights import WeightTable
from schemas.events import EVENT_TYPES, EventType
from workers.settings import Settings, WeightSettings


def weight_table(settings: Settings) -> WeightTable:
    """Return the weights of events behind these settings."""
    return weight_table_of(settings.weights)


def weight_table_of(weights: WeightSettings) -> WeightTable:
    """Return the weights of events behind that section."""
    return WeightTable(
        by_code=tuple(0.0 if kind is EventType.RATING else float(getattr(weights, kind.value)) for kind in EVENT_TYPES),
        rating_code=EventType.RATING.code,
        rating_neutral=weights.rating_neutral,
        rating_best=weights.rating_best,
    )
