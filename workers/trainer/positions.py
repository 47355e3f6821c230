"""Position bias of the log: impressions with their places, which of them were followed by a like, and the weights of likes at places."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.ranker.position_bias import PositionWeights, position_weights, propensities
from recsys.state.event_weights import event_weights
from schemas import EventType
from workers.settings import WeightSettings
from workers.state.event_weights import weight_table_of
from workers.trainer.event_columns import EventColumns
from workers.trainer.progress import report

I64 = NDArray[np.int64]

N_PLACES = 50
"""Places beyond this count as this one."""
LEAST_SHOWN, LEAST_LIKED = 1_000, 100
"""Impressions, and those followed by a like, below which nothing is corrected."""


def weights_by_position(events: EventColumns, settings: WeightSettings) -> PositionWeights | None:
    """Return a factor for each event that counts (n,), in the order of `TrainingColumns.of`; None where too little is known of places."""
    around = events.surroundings
    if around is None:
        return None
    weights = event_weights(events.types, events.values, weight_table_of(settings))
    placed = (around.list_codes >= 0) & (around.positions > 0)
    shown = np.flatnonzero(placed & (events.types == EventType.IMPRESSION.code))
    liked = np.flatnonzero((weights > 0) & (around.list_codes >= 0) & (events.types != EventType.IMPRESSION.code))
    keys = _keys(events, around.list_codes)
    followed = np.isin(keys[shown], keys[liked])
    if len(shown) < LEAST_SHOWN or int(followed.sum()) < LEAST_LIKED:
        return None
    places = propensities(events.item_codes[shown].astype(np.int64), around.positions[shown].astype(np.int64), followed, N_PLACES)
    report(f"ranker: place 10 of lists is looked at {places[9]:.2f} times as often as the first, by {len(shown):,} impressions")
    positions = np.where(placed & (weights > 0), around.positions, 0).astype(np.int64)
    counted: PositionWeights = position_weights(positions, places)[weights != 0]
    return counted


def _keys(events: EventColumns, list_codes: NDArray[np.int32]) -> I64:
    """Return numbers that are the same for events of one user on one item of one list, (n,)."""
    columns = np.stack([events.user_codes.astype(np.int64), events.item_codes.astype(np.int64), list_codes.astype(np.int64)])
    return np.unique(columns, axis=1, return_inverse=True)[1].reshape(-1).astype(np.int64)
