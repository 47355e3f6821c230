"""Learned rankers made by hand."""

from __future__ import annotations

import numpy as np

from recsys.lists.learned.feature_names import WITH_DEVICES, names_of
from recsys.lists.learned.forest import Forest
from recsys.lists.learned.ranker import LearnedRanker

TV_OR_PHONE = ("tv", "phone")


def evening_ranker(age: float = 6.0) -> LearnedRanker:
    """Return a ranker of one tree, which says nothing until noon, and puts items of more than this logarithm of hours first after it."""
    names = names_of(())
    integers = ([names.index("time.hour"), 0, names.index("age"), 0, 0], [1, -1, 3, -1, -1], [2, -1, 4, -1, -1], [0])
    features, left, right, root = (np.array(one, np.int32) for one in integers)
    thresholds, values = np.array([12, 0, age, 0, 0], np.float32), np.array([0, 0, 0, 0, 50], np.float32)
    return LearnedRanker(Forest(features, thresholds, left, right, values, root))


def tv_ranker(age: float, devices: tuple[str, ...] = TV_OR_PHONE) -> LearnedRanker:
    """Return a ranker of one tree, which on the first of its `devices` alone puts items of more than this logarithm of hours first."""
    names = names_of((), WITH_DEVICES)
    device, at_age = names.index("device"), names.index("age")
    integers = ([device, device, 0, at_age, 0, 0, 0], [1, 2, -1, 4, -1, -1, -1], [6, 3, -1, 5, -1, -1, -1], [0])
    features, left, right, root = (np.array(one, np.int32) for one in integers)
    thresholds, values = np.array([1, 0, 0, age, 0, 0, 0], np.float32), np.array([0, 0, 0, 0, 0, 50, 0], np.float32)
    forest = Forest(features, thresholds, left, right, values, root)
    return LearnedRanker(forest, feature_version=WITH_DEVICES, devices=devices)
