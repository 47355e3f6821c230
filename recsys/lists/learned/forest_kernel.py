"""Trees, compiled: scores of many candidates at once, and what each feature on a candidate's path added.

A tree is scored by the candidates' vectors of reachable leaves, one bit a leaf: each inner node whose condition a candidate fails takes the
leaves below its left side away, and the first leaf that is left is the candidate's. No branch depends on a candidate, so that eight are
computed at once. Source: Lucchese et al. 2015, "QuickScorer".

Shapes: C candidates, F features, T trees, M nodes, L leaves, G groups of features, W columns of a leaf's row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import EIGHT, add_eight
from recsys.jit import compiled, compiled_sums

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
U8 = NDArray[np.uint8]

NODES_AT_ONCE = 7
"""Inner nodes of a tree that are read in one pass over the candidates: trees of 15 leaves, the usual ones, take two."""


class Trees(NamedTuple):
    """T trees as compiled loops read them. `features`, `thresholds`, `left`, `right` and `values` (M,) are those of `Forest`; `roots`
    (T,). `asked` and `bounds` (I,) are the features and thresholds of inner nodes, `kept` (I,) the leaves that each leaves over where its
    condition fails: tree t's from `starts[t]` to `starts[t + 1]`, with nodes that keep every leaf up to a multiple of `NODES_AT_ONCE`.
    `leaves` (L,) are the values of leaves from left to right, tree t's from `leaf_starts[t]` on."""

    features: I32
    thresholds: F32
    left: I32
    right: I32
    values: F32
    roots: I32
    asked: I64
    bounds: F32
    kept: U32
    starts: I64
    leaves: F32
    leaf_starts: I64


class Rows(NamedTuple):
    """Rows of the trees' leaves, `values` (L, W): what a leaf adds to a score, then what it adds by each group of features, and zeros up to
    a multiple of eight. Group g of a score's parts is column `columns[g]` (G,), −1 for one that no tree reads."""

    values: F32
    columns: I64


@compiled
def add_scores(trees: Trees, features: F32, scores: F32) -> None:
    """Add what the trees say of the candidates with `features` (F, C) to `scores` (C,)."""
    found = np.empty((1, features.shape[1]), np.uint8)
    for tree in range(len(trees.roots)):
        find_leaves(trees, features, tree, found)
        _add_leaves(found[0], trees.leaves[trees.leaf_starts[tree] : trees.leaf_starts[tree + 1]], scores)


@compiled_sums
def find_leaves(trees: Trees, features: F32, first: int, found: U8) -> None:
    """Write the leaf that each candidate with `features` (F, C or more) reaches in tree `first` and those that follow it into `found` (T,
    C), counted from the left of its tree."""
    asked, bounds, kept = trees.asked, trees.bounds, trees.kept
    left = np.empty(found.shape[1], np.uint32)
    for tree in range(len(found)):
        for i in range(len(left)):
            left[i] = np.uint32(0xFFFFFFFF)
        for at in range(trees.starts[first + tree], trees.starts[first + tree + 1], NODES_AT_ONCE):
            f0, f1, f2, f3, f4, f5, f6 = (
                asked[at], asked[at + 1], asked[at + 2], asked[at + 3], asked[at + 4], asked[at + 5], asked[at + 6],
            )  # fmt: skip
            b0, b1, b2, b3, b4, b5, b6 = (
                bounds[at], bounds[at + 1], bounds[at + 2], bounds[at + 3], bounds[at + 4], bounds[at + 5], bounds[at + 6],
            )  # fmt: skip
            k0, k1, k2, k3, k4, k5, k6 = (
                kept[at], kept[at + 1], kept[at + 2], kept[at + 3], kept[at + 4], kept[at + 5], kept[at + 6],
            )  # fmt: skip
            for i in range(len(left)):  # one loop for all seven: calls and slices would cost more than what they do
                a = k0 if features[f0, i] > b0 else np.uint32(0xFFFFFFFF)
                b = k1 if features[f1, i] > b1 else np.uint32(0xFFFFFFFF)
                c = k2 if features[f2, i] > b2 else np.uint32(0xFFFFFFFF)
                d = k3 if features[f3, i] > b3 else np.uint32(0xFFFFFFFF)
                e = k4 if features[f4, i] > b4 else np.uint32(0xFFFFFFFF)
                f = k5 if features[f5, i] > b5 else np.uint32(0xFFFFFFFF)
                g = k6 if features[f6, i] > b6 else np.uint32(0xFFFFFFFF)
                left[i] = left[i] & (a & b & c) & (d & e & f & g)
        for i in range(len(left)):  # the place of the lowest bit: the exponent of the number that has this bit alone
            lowest = np.uint32(left[i] & (~left[i] + np.uint32(1)))
            found[tree, i] = np.uint8((np.float32(lowest).view(np.int32) >> np.int32(23)) - np.int32(127))


@compiled_sums
def _add_leaves(found: U8, leaves: F32, scores: F32) -> None:
    for i in range(len(found)):
        scores[i] += leaves[found[i]]


@compiled
def parts_of_leaves(trees: Trees, groups: I64, n_groups: int) -> F32:
    """Return what the nodes on the path to each leaf changed, by the group of the feature that they read (`groups` (F,)), (L, G); what a
    tree gives to every candidate is not part of it. Source: Saabas 2014, "Interpreting random forests"."""
    changed, waiting = np.zeros((len(trees.left), n_groups), np.float32), np.empty(len(trees.left) + 1, np.int32)
    parts, n_leaves = np.empty((len(trees.leaves), n_groups), np.float32), 0
    for tree in range(len(trees.roots)):
        waiting[0], n_waiting = trees.roots[tree], 1
        while n_waiting:
            n_waiting -= 1
            node = waiting[n_waiting]
            if trees.left[node] < 0:
                parts[n_leaves] = changed[node]
                n_leaves += 1
                continue
            for below in (trees.left[node], trees.right[node]):
                changed[below] = changed[node]
                changed[below, groups[trees.features[node]]] += trees.values[below] - trees.values[node]
            waiting[n_waiting], waiting[n_waiting + 1] = trees.right[node], trees.left[node]
            n_waiting += 2
    return parts


@compiled
def add_rows(rows: F32, leaf_starts: I64, found: U8, sums: F32) -> None:
    """Add the rows of the leaves, `rows` (L, W), that the candidates have `found` (T, C) to `sums` (C, W). W is a multiple of `EIGHT`."""
    width = rows.shape[1]
    added, total = rows.reshape(rows.size), sums.reshape(sums.size)
    for tree in range(len(found)):
        start = leaf_starts[tree]
        for place in range(len(sums)):
            row = (start + np.int64(found[tree, place])) * width
            for first in range(0, width, EIGHT):
                add_eight(total, place * width + first, added, row + first)


@compiled
def leaf_scores(trees: Trees, features: F32, scores: F32) -> None:
    """Add what `add_scores` adds, by walking each candidate from the root to its leaf: the plain way."""
    for tree in range(len(trees.roots)):
        for column in range(features.shape[1]):
            node = trees.roots[tree]
            while trees.left[node] >= 0:
                goes_left = features[trees.features[node], column] <= trees.thresholds[node]
                node = trees.left[node] if goes_left else trees.right[node]
            scores[column] += trees.values[node]
