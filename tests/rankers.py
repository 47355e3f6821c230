"""Learned rankers made by hand."""

from __future__ import annotations

import numpy as np

from recsys.lists.learned.feature_names import names_of
from recsys.lists.learned.forest import Forest
from recsys.lists.learned.ranker import LearnedRanker


def evening_ranker(age: float = 6.0) -> LearnedRanker:
    """Return a ranker of one tree, which says nothing until noon, and puts items of more than this logarithm of hours first after it."""
    names = names_of(())
    integers = ([names.index("time.hour"), 0, names.index("age"), 0, 0], [1, -1, 3, -1, -1], [2, -1, 4, -1, -1], [0])
    features, left, right, root = (np.array(one, np.int32) for one in integers)
    thresholds, values = np.array([12, 0, age, 0, 0], np.float32), np.array([0, 0, 0, 0, 50], np.float32)
    return LearnedRanker(Forest(features, thresholds, left, right, values, root))
