"""Features of versions 2 to 4: what learned rankers read, of the candidates that a recipe ranked first. One function makes them for
serving, logging and training.

Shapes: U users, P candidates, best first by the recipe, R recent interactions, F features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.items import UNKNOWN_S
from recsys.lists.candidates import Candidates
from recsys.lists.context import ListContext, Users
from recsys.lists.feature_names import POPULARITY
from recsys.lists.features import Features, raw_features
from recsys.lists.learned import features_kernel, readings_kernel
from recsys.lists.learned.devices import number_of
from recsys.lists.learned.feature_names import FEATURE_VERSION, FEATURES, RANKS, SHOWN, TASTED, WITHOUT_SHOWN, names_of
from recsys.lists.learned.features_kernel import LearnedRaw
from recsys.lists.sources.content import content_likeness
from recsys.lists.sources.cooccurrence import flat_weights, recent_rows

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

_TASTED: I64 = np.array([POPULARITY.index(name) for name in TASTED], np.int64)
_RANKED: I64 = np.array(
    [FEATURES.index({"popularity.1d.rank": "popularity.1d"}.get(name, name.replace(".rank", ".relative"))) for name in RANKS], np.int64
)
HOUR_S, DAY_S, WEEKDAY_OF_1970 = 3_600, 86_400, 3
MOMENT = ("hour", "weekday")
"""What of a situation is a feature: 0 to 23, and 0 to 6 from Monday on."""
_NEVER_SHOWN: F32 = np.zeros((0, len(SHOWN), 0), np.float32)


class LearnedFeatures:
    """Makes the features of a ranker that was trained beside further `sources` and with these `devices`, of candidates that a recipe has
    ranked."""

    def __init__(self, sources: Sequence[str] = (), version: int = FEATURE_VERSION, devices: Sequence[str] = ()) -> None:
        self.sources, self.version, self.devices = tuple(sources), version, tuple(devices)
        self.names = names_of(self.sources, version)

    def __call__(self, candidates: Candidates, users: Users, context: ListContext) -> Features:
        raw = learned_raw(candidates, users, context, self.sources, with_shown=self.version != WITHOUT_SHOWN, devices=self.devices)
        columns = np.empty((len(users), len(self.names), candidates.numbers.shape[1]), np.float32)
        features_kernel.features(raw, columns)
        return Features(self.names, columns.transpose(0, 2, 1))


def learned_raw(
    candidates: Candidates, users: Users, context: ListContext, sources: Sequence[str], *, with_shown: bool, devices: Sequence[str] = ()
) -> LearnedRaw:
    """Return the numbers that features are computed from. A source that is switched off, or does not serve, has no opinion, and without
    `with_shown` nothing was ever shown."""
    numbers, raw = candidates.numbers, candidates.raw
    none = np.zeros(numbers.shape, np.float32)
    readings = np.zeros((len(users), readings_kernel.N_READINGS, numbers.shape[1]), np.float32)
    if "cooccurrence" in raw:
        readings_kernel.read(recent_rows(users, context), flat_weights(users, context), numbers, readings)
    content = np.zeros((len(users), 2, numbers.shape[1]), np.float32)
    if "content" in raw:
        content_likeness(users, numbers, context, content)
    extra = np.stack([raw.get(name, none) for name in sources]) if sources else np.zeros((0, *numbers.shape), np.float32)
    return LearnedRaw(
        raw_features(candidates, users, context),
        candidates.scores,
        readings,
        content,
        _ages(numbers, context),
        np.ascontiguousarray(extra, np.float32),
        _TASTED,
        _RANKED,
        _moments(users, context, devices),
        _shown(numbers, users, context) if with_shown else _NEVER_SHOWN,
    )


def _moments(users: Users, context: ListContext, devices: Sequence[str]) -> F32:
    """Return the hour and the weekday in UTC and the number of the device, (U, 3): those of the users' situations, else those of the list's
    moment and of no device."""
    now_s = context.now_s
    moments = np.tile(np.array([now_s // HOUR_S % 24, (now_s // DAY_S + WEEKDAY_OF_1970) % 7, 0], np.float32), (len(users), 1))
    for moment, situation in zip(moments, users.situations or (), strict=False):
        for column, name in enumerate(MOMENT):
            moment[column] = situation.get(name, moment[column])
        moment[len(MOMENT)] = number_of(situation, devices)
    return moments


def _shown(numbers: I64, users: Users, context: ListContext) -> F32:
    """Return logarithms of how often items were shown and of the hours since they last were, (U, 2, P); (0, 2, 0) where nobody counts."""
    counted = users.shown_counts(numbers, context)
    if counted is None:
        return _NEVER_SHOWN
    found = np.empty((len(users), len(SHOWN), numbers.shape[1]), np.float32)
    features_kernel.shown_features(counted.counts, counted.shown_s, context.now_s, found)
    return found


def _ages(numbers: I64, context: ListContext) -> F32:
    """Return the logarithms of the hours since items were published, (U, P); −1 where nobody said when."""
    published_s = context.catalogue.published_s[numbers]
    known = published_s != UNKNOWN_S
    hours = np.maximum(context.now_s - np.where(known, published_s, context.now_s), 0) / HOUR_S
    return np.where(known, np.log2(1.0 + hours), -1.0).astype(np.float32)
