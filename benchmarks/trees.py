"""A generated ranker: as large as a trained one, it ranks at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys.lists.learned.feature_names import names_of
from recsys.lists.learned.forest import NO_NODE, Forest
from recsys.lists.learned.ranker import LearnedRanker

SEED = 27
TREES, LEAVES = 120, 15
"""The most that a ranker has by default."""


def generated_ranker(sources: Sequence[str] = ()) -> LearnedRanker:
    """Return a ranker of trees that compare random features with random numbers, as deep as trained ones, beside models `sources`."""
    random, trees, n_features = np.random.default_rng(SEED), [], len(names_of(sources))
    for _ in range(TREES):
        n_nodes, leaves = 2 * LEAVES - 1, [0]
        left, right = np.full((2, n_nodes), NO_NODE, np.int32)
        for split in range(LEAVES - 1):
            node = leaves.pop(int(random.integers(len(leaves))))
            left[node], right[node] = 2 * split + 1, 2 * split + 2
            leaves += [2 * split + 1, 2 * split + 2]
        features, values = random.integers(0, n_features, n_nodes), 0.05 * random.standard_normal(n_nodes)
        thresholds, root = random.uniform(-4, 4, n_nodes).astype(np.float32), np.zeros(1, np.int32)
        trees.append(Forest(features.astype(np.int32), thresholds, left, right, values.astype(np.float32), root))
    return LearnedRanker(Forest.joined(trees), tuple(sources))
