"""Trees boosted on top of the recipe's scores, without further libraries: a softmax over each case, histograms of at most 64 bins,
trees that grow at the leaf with the most to gain.

Shapes: n rows, F features, J bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.lists.learned.forest import MAX_LEAVES, NO_NODE, Forest
from recsys.models.training import Progress, go_on
from recsys.ranker import boosting_kernel
from recsys.ranker.boosting_kernel import N_BINS
from recsys.ranker.budget import RankerOptions
from recsys.ranker.rows import Rows, log_likelihood

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

FEATURE_SHARE, CASE_SHARE = 0.7, 0.5
"""Parts of the features and of the cases that each tree is grown on, drawn for each: trees differ, and take half of the time."""


def fit(training: Rows, newest: Rows, options: RankerOptions, progress: Progress | None = None) -> Forest | None:
    """Return the trees that rank the `newest` cases best, None if no tree does better than the recipe alone.

    The same input gives the same output.
    """
    random = np.random.default_rng(options.seed)
    edges = bin_edges(training.features)
    binned = [_binned(rows.features, edges) for rows in (training, newest)]
    scores, later = training.scores.copy(), newest.scores.copy()
    slopes, curves = np.empty((2, len(scores)), np.float32)
    trees, kept, best, since = list[_Tree](), 0, log_likelihood(newest, later), 0
    case_of = np.repeat(np.arange(len(training)), training.counts)
    for place in range(options.trees):
        boosting_kernel.gradients(scores, training.starts, training.targets, training.weights, slopes, curves)
        drawn = random.random(len(training)) < CASE_SHARE
        chosen = np.sort(random.permutation(len(edges))[: max(int(FEATURE_SHARE * len(edges)), 1)])
        rows = np.flatnonzero(drawn[case_of] & (curves > 0)).astype(np.int32)
        tree = _Tree.grown(binned[0], rows, slopes, curves, chosen, options)
        if tree is None:
            break
        trees.append(tree)
        for bins, of_rows in zip(binned, (scores, later), strict=True):
            tree.add(bins, of_rows)
        since += 1
        if (found := log_likelihood(newest, later)) > best:
            best, kept, since = found, place + 1, 0
        said = f"ranker: log-likelihood {best:.4f} by {kept} trees"
        if since >= options.patience or not go_on(progress, (place + 1) / options.trees, said):
            break
    return Forest.joined([tree.forest(edges) for tree in trees[:kept]]) if kept else None


def bin_edges(features: F32) -> F32:
    """Return the values (F, J) that end the bins of each feature, ascending, filled up with infinity: about as many rows are in each."""
    edges = np.full((features.shape[1], N_BINS), np.inf, np.float32)
    step = max(len(features) // 50_000, 1)
    for column, own in zip(features[::step].T, edges, strict=True):
        values = np.unique(column)
        if len(values) >= N_BINS:
            values = np.unique(np.quantile(column, np.arange(1, N_BINS) / N_BINS, method="lower"))
        own[: min(len(values), N_BINS - 1)] = values[: N_BINS - 1]
    return edges


def _binned(features: F32, edges: F32) -> U8:
    bins = np.empty((len(edges), len(features)), np.uint8)
    boosting_kernel.bin_of(np.ascontiguousarray(features), edges, bins)
    return bins


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A leaf that may be split: its node, its rows, the histogram of them, and the best split."""

    node: int
    rows: I32
    sums: F64
    split: tuple[float, int, int]


@dataclass(slots=True)
class _Tree:
    """A tree whose thresholds are bins."""

    features: list[int]
    edges: list[int]
    left: list[int]
    right: list[int]
    values: list[float]

    @classmethod
    def grown(cls, bins: U8, rows: I32, slopes: F32, curves: F32, chosen: I64, options: RankerOptions) -> _Tree | None:
        """Return a tree grown at the leaf with the most to gain until it has all leaves; None if nothing is gained."""
        tree, leaves = cls([], [], [], [], []), list[_Leaf]()
        shape = len(bins), N_BINS, 3

        def new(rows: I32, sums: F64) -> _Leaf:
            slope, curve = sums[chosen[0], :, 0].sum(), sums[chosen[0], :, 1].sum()
            tree.add_node(float(-options.learning_rate * slope / (curve + options.ridge)))
            split = boosting_kernel.best_split(sums, chosen, options.ridge, options.least_rows)
            return _Leaf(len(tree.values) - 1, rows, sums, split)

        def counted(rows: I32) -> F64:
            sums = np.zeros(shape)
            boosting_kernel.histogram(bins, rows, slopes, curves, chosen, sums)
            return sums

        if not len(rows):
            return None
        leaves.append(new(rows, counted(rows)))
        for _ in range(min(options.leaves, MAX_LEAVES) - 1):
            best = max(range(len(leaves)), key=lambda place: leaves[place].split[0])
            leaf = leaves[best]
            _, feature, edge = leaf.split
            if feature < 0:
                break
            n_left = boosting_kernel.divide(bins[feature], leaf.rows, edge)
            parts = leaf.rows[:n_left], leaf.rows[n_left:]
            fewer = int(len(parts[1]) < len(parts[0]))
            of_fewer = counted(parts[fewer])
            sums = (of_fewer, leaf.sums - of_fewer) if fewer == 0 else (leaf.sums - of_fewer, of_fewer)
            tree.features[leaf.node], tree.edges[leaf.node] = feature, edge
            del leaves[best]
            for side, own_rows, own_sums in zip((tree.left, tree.right), parts, sums, strict=True):
                leaves.append(new(own_rows, own_sums))
                side[leaf.node] = leaves[-1].node
        return tree if len(tree.values) > 1 else None

    def add_node(self, value: float) -> None:
        """Add a leaf."""
        for column, one in ((self.features, 0), (self.edges, 0), (self.left, NO_NODE), (self.right, NO_NODE)):
            column.append(one)
        self.values.append(value)

    def add(self, bins: U8, scores: F32) -> None:
        """Add the tree to the scores of all rows."""
        features, edges, left, right = (np.array(one, np.int32) for one in (self.features, self.edges, self.left, self.right))
        boosting_kernel.add_tree(bins, features, edges, left, right, np.array(self.values, np.float32), scores)

    def forest(self, edges: F32) -> Forest:
        """Return the tree with values of features as thresholds."""
        features, left, right = (np.array(one, np.int32) for one in (self.features, self.left, self.right))
        thresholds = edges[features, np.array(self.edges)].astype(np.float32)
        values = np.array(self.values, np.float32)
        return Forest(features, np.where(left >= 0, thresholds, np.float32(0)), left, right, values, np.zeros(1, np.int32))
