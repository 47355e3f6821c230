"""Impressions of the event log, and their places in the log that is replayed.

Shapes: n events that count, m impressions.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from recsys.recipe.impressions import Impressions
from schemas import EventType
from workers.models.model_files import LIST_MAKERS
from workers.settings import StateSettings
from workers.trainer.training_columns import ShownColumns, TrainingColumns

I64 = NDArray[np.int64]


def counts_shown(kinds: Collection[str], state: StateSettings) -> bool:
    """Return True if training these kinds replays lists, and workers count what is shown."""
    return state.shown_items > 0 and not LIST_MAKERS.keys().isdisjoint(kinds)


def replayed_impressions(columns: TrainingColumns, order: I64) -> Impressions | None:
    """Return the impressions for a replay of the log's events in this `order` (k,), the newest ones; None if none were read.

    Each is placed behind the events of its user that had arrived when it came, which is what the worker knew. Impressions that came after
    an event that is not replayed, and before the user's next one, are left out: so are the choices before them.
    """
    shown = columns.shown
    if shown is None:
        return None
    places = np.full(len(columns), -1, np.int64)
    places[order] = np.arange(len(order))
    before = _places_before(columns, shown, places)
    kept = np.flatnonzero(before >= 0)
    by_arrival = kept[np.lexsort((shown.source_offsets[kept], before[kept]))]
    return Impressions(
        shown.user_codes[by_arrival].astype(np.int64),
        shown.item_codes[by_arrival].astype(np.int64),
        shown.ts_ms[by_arrival] // 1000,
        before[by_arrival],
        EventType.IMPRESSION.code,
    )


def _places_before(columns: TrainingColumns, shown: ShownColumns, places: I64) -> I64:
    """Return one more than the last of the `places` (n,) of the user's events that arrived before each impression, (m,): 0 if there were
    none, −1 if none of those that there were is replayed (their places are −1)."""
    n, n_shown = len(columns), len(shown.user_codes)
    users = np.concatenate((columns.user_codes, shown.user_codes)).astype(np.int64)
    offsets = np.concatenate((columns.source_offsets, shown.source_offsets))
    order = np.lexsort((np.arange(n + n_shown) < n, offsets, users))  # an impression that counts is before itself
    base, steps = users * (n + 3), np.zeros(n + n_shown, np.int64)
    steps[:n] = places + 2  # 0: no event, 1: none that is replayed
    reached = np.empty_like(steps)
    reached[order] = np.maximum.accumulate((base + steps)[order])
    found = (reached - base)[n:]
    return np.where(found == 0, 0, np.where(found == 1, -1, found - 1))
