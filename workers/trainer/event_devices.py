"""The devices on which the log's events happened, as their `context` names them."""

from __future__ import annotations

from typing import Any

import orjson

from recsys.lists.learned.devices import NAME
from recsys.recipe.devices import Devices
from recsys.state.event_weights import event_weights
from workers.settings import WeightSettings
from workers.state.event_weights import weight_table_of
from workers.trainer.event_columns import EventColumns
from workers.trainer.progress import report


def devices_by_event(events: EventColumns, settings: WeightSettings) -> Devices | None:
    """Return the device of each event that counts (n,), in the order of `TrainingColumns.of`; None where fewer than two are told apart."""
    around = events.surroundings
    if around is None:
        return None
    counted = event_weights(events.types, events.values, weight_table_of(settings)) != 0
    known = {context: _device_in(context) for context in set(around.contexts)}
    found = Devices.of([known[context] for context, counts in zip(around.contexts, counted.tolist(), strict=True) if counts])
    if found is not None:
        report(f"ranker: tells apart lists on {', '.join(found.names)}")
    return found


def _device_in(context: str | None) -> str | None:
    """Return the device that a context as JSON names, None for none."""
    named: Any = orjson.loads(context).get(NAME) if context else None
    return named if isinstance(named, str) else None
