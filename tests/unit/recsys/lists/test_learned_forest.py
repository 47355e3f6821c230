"""Trees score candidates as a walk from root to leaf does, their parts add up, and what is no tree is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import ModelError, ShapeError
from recsys.lists.learned.feature_names import SHOWN, WITHOUT_SHOWN
from recsys.lists.learned.forest import MAX_LEAVES, NO_NODE, Forest
from recsys.lists.learned.forest_kernel import add_rows, add_scores, find_leaves, leaf_scores
from recsys.lists.learned.ranker import LearnedRanker

N_FEATURES = 6


def grown(n_leaves: int, random: np.random.Generator) -> Forest:
    """Return a random tree, whose inner values are means of those below."""
    features, thresholds, left, right, leaves = [0], [0.0], [NO_NODE], [NO_NODE], [0]
    while len(leaves) < n_leaves:
        node = leaves.pop(int(random.integers(len(leaves))))
        features[node], thresholds[node] = int(random.integers(N_FEATURES)), float(np.float32(random.integers(-3, 4)))
        for side in (left, right):
            side[node] = len(features)
            leaves.append(len(features))
            for column, one in ((features, 0), (thresholds, 0.0), (left, NO_NODE), (right, NO_NODE)):
                column.append(one)  # type: ignore[attr-defined]
    values = random.standard_normal(len(features)).astype(np.float32)
    of_nodes, below, above, root = (np.array(one, np.int32) for one in (features, left, right, [0]))
    return Forest(of_nodes, np.array(thresholds, np.float32), below, above, values, root)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, MAX_LEAVES), min_size=1, max_size=6))
def test_scores_and_parts_are_those_of_a_walk(seed: int, n_leaves: list[int]) -> None:
    random = np.random.default_rng(seed)
    forest = Forest.joined([grown(n, random) for n in n_leaves])
    features = random.integers(-4, 5, (N_FEATURES, 37)).astype(np.float32)  # on thresholds, too
    trees, fast, plain = forest.compiled(), np.zeros(37, np.float32), np.zeros(37, np.float32)
    found = np.empty((len(n_leaves), 37), np.uint8)
    add_scores(trees, features, fast)
    leaf_scores(trees, features, plain)
    np.testing.assert_array_equal(fast, plain)
    rows, sums = LearnedRanker(forest).rows_of_leaves(tuple(range(N_FEATURES)), N_FEATURES), np.zeros((37, 8), np.float32)
    find_leaves(trees, features, 0, found)
    add_rows(rows.values, trees.leaf_starts, found, sums)
    np.testing.assert_array_equal(sums[:, 0], plain)
    parts = np.where(rows.columns >= 0, sums[:, rows.columns], 0)
    np.testing.assert_allclose(parts, [walked_parts(forest, column) for column in features.T], atol=1e-4)
    np.testing.assert_allclose(parts.sum(axis=1), plain - forest.values[forest.roots].sum(), atol=1e-4)


def test_rows_of_leaves_are_as_wide_as_what_trees_read_and_a_multiple_of_eight() -> None:
    forest = grown(3, np.random.default_rng(1))
    for n_groups in (1, 7, 20):
        groups = tuple(feature % n_groups for feature in range(N_FEATURES))
        rows = LearnedRanker(forest).rows_of_leaves(groups, n_groups)
        read = {groups[feature] for feature in forest.features[forest.left != NO_NODE].tolist()}
        assert rows.values.shape == (len(forest.compiled().leaves), 8) and set(np.flatnonzero(rows.columns >= 0).tolist()) <= read
    wide = Forest.joined([grown(MAX_LEAVES, np.random.default_rng(seed)) for seed in range(4)])
    many = replace(wide, features=np.arange(len(wide.features), dtype=np.int32) % 12)
    assert LearnedRanker(many).rows_of_leaves(tuple(range(12)), 12).values.shape[1] == 16


def walked_parts(forest: Forest, features: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """Return what the nodes on the way of one candidate changed, by the feature that they read, (F,)."""
    parts = np.zeros(N_FEATURES)
    for root in forest.roots.tolist():
        node = root
        while forest.left[node] != NO_NODE:
            feature = int(forest.features[node])
            below = int(forest.left[node] if features[feature] <= forest.thresholds[node] else forest.right[node])
            parts[feature] += float(forest.values[below]) - float(forest.values[node])
            node = below
    return parts


def small() -> Forest:
    return grown(3, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "place", "value", "says"),
    [
        ("left", 0, 99, "node 99 is missing"),
        ("left", 0, 0, "two ways"),
        ("right", 0, NO_NODE, "node -1 is missing"),
        ("values", 1, np.inf, "beyond"),
        ("thresholds", 1, np.nan, "no number"),
        ("features", 1, -1, "below 0"),
        ("roots", 0, 1, "belongs to no tree|two ways"),
    ],
)
def test_numbers_that_are_no_trees_are_refused(name: str, place: int, value: float, says: str) -> None:
    forest = small()
    changed = getattr(forest, name).copy()
    changed[place] = value
    with pytest.raises(ModelError, match=says):
        replace(forest, **{name: changed})


def test_shapes_types_and_sizes_are_checked() -> None:
    forest = small()
    with pytest.raises(ShapeError, match="tensor values of the ranker"):
        replace(forest, values=forest.values[:2])
    with pytest.raises(ShapeError, match="tensor left of the ranker"):
        replace(forest, left=forest.left.astype(np.int64))
    with pytest.raises(ModelError, match="more than 32 leaves"):
        grown(MAX_LEAVES + 1, np.random.default_rng(0))
    with pytest.raises(ModelError, match="at most 1000 trees"):
        replace(forest, roots=np.zeros(0, np.int32))


def test_a_stored_ranker_of_version_2_goes_on_serving_and_reads_nothing_that_was_shown() -> None:
    old, new = LearnedRanker(small(), ("sasrec",), feature_version=WITHOUT_SHOWN), LearnedRanker(small(), ("sasrec",))
    assert old.config["feature_version"] == 2 and new.feature_names == (*old.feature_names, *SHOWN)
    again = LearnedRanker.from_tensors(old.config, old.tensors())
    assert again.config == old.config and not again.reads_shown
    last = replace(small(), features=np.full(len(small().features), len(new.feature_names) - 1, np.int32))
    assert LearnedRanker(last, ("sasrec",)).reads_shown and not new.reads_shown
    with pytest.raises(ModelError, match=f"feature {len(new.feature_names) - 1} of {len(old.feature_names)}"):
        LearnedRanker(last, ("sasrec",), feature_version=WITHOUT_SHOWN)
    for mixed in ({**new.config, "feature_version": 2}, {**old.config, "feature_version": 3}, {**old.config, "feature_version": True}):
        with pytest.raises(ModelError, match="there are those of 2 to 4: train it again"):
            LearnedRanker.from_tensors(mixed, old.tensors())


def test_a_ranker_survives_the_way_through_its_tensors_and_names_what_does_not_fit() -> None:
    ranker = LearnedRanker(small(), ("sasrec",))
    again = LearnedRanker.from_tensors(ranker.config, ranker.tensors())
    assert again.config == ranker.config and all(np.array_equal(again.tensors()[name], one) for name, one in ranker.tensors().items())
    for config, says in (
        ({"feature_version": 1}, "features of version 1"),
        ({"features": ["x"]}, "train it again"),
        ({"sources": ["ials"]}, "train it again"),
        ({"sources": "sasrec"}, "list of names"),
        ({"learner": "pickle"}, "option learner"),
        ({"narrowed": 10**6}, "option narrowed"),
        ({"narrowed": "9"}, "option narrowed"),
    ):
        with pytest.raises(ModelError, match=says):
            LearnedRanker.from_tensors({**ranker.config, **config}, ranker.tensors())
    with pytest.raises(ModelError, match="tensor roots of the ranker is missing"):
        LearnedRanker.from_tensors(ranker.config, {name: one for name, one in ranker.tensors().items() if name != "roots"})
    far = replace(small(), features=np.full(len(small().features), 5_000, np.int32))
    with pytest.raises(ModelError, match="feature 5000 of"):
        LearnedRanker(far)
