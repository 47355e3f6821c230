"""Trees, compiled: scores of many candidates at once, and what each feature on a candidate's path added.

A tree is scored by the candidates' vectors of reachable leaves, one bit a leaf: each inner node whose condition a candidate fails takes the
leaves below its left side away, and the first leaf that is left is the candidate's. No branch depends on a candidate, so that eight are
computed at once. Source: Lucchese et al. 2015, "QuickScorer".

Shapes: C candidates, F features, T trees, M nodes, L leaves, G groups of features, P places.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled, compiled_sums

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
U8 = NDArray[np.uint8]


class Trees(NamedTuple):
    """T trees as compiled loops read them. `features`, `thresholds`, `left`, `right` and `values` (M,) are those of `Forest`; `roots`
    (T,). `inner` (I,) are the inner nodes and `kept` (I,) the leaves that each leaves over where its condition fails, tree t's from
    `inner_starts[t]` to `inner_starts[t + 1]`; `leaves` (L,) the values of leaves from left to right, tree t's from `leaf_starts[t]` on."""

    features: I32
    thresholds: F32
    left: I32
    right: I32
    values: F32
    roots: I32
    inner: I32
    kept: U32
    inner_starts: I32
    leaves: F32
    leaf_starts: I32


@compiled
def add_scores(trees: Trees, features: F32, scores: F32, found: U8) -> None:
    """Add what the trees say of the candidates with `features` (F, C) to `scores` (C,), and write the leaf that each of them reaches into
    `found` (T, C), counted from the left of its tree; (1, C) where nobody asks."""
    left = np.empty(features.shape[1], np.uint32)
    for tree in range(len(trees.roots)):
        left[:] = np.uint32(0xFFFFFFFF)
        for at in range(trees.inner_starts[tree], trees.inner_starts[tree + 1]):
            node = trees.inner[at]
            _take_away(features[trees.features[node]], trees.thresholds[node], trees.kept[at], left)
        own = found[min(tree, len(found) - 1)]
        _lowest(left, own)
        _add_leaves(own, trees.leaves[trees.leaf_starts[tree] : trees.leaf_starts[tree + 1]], scores)


@compiled_sums
def _take_away(values: F32, threshold: np.float32, kept: np.uint32, left: U32) -> None:
    for i in range(len(left)):
        left[i] = left[i] & (kept if values[i] > threshold else np.uint32(0xFFFFFFFF))


@compiled_sums
def _lowest(left: U32, found: U8) -> None:
    """Write the place of the lowest leaf that is left: the exponent of the number that has this bit alone."""
    for i in range(len(left)):
        lowest = np.uint32(left[i] & (~left[i] + np.uint32(1)))
        found[i] = np.uint8((np.float32(lowest).view(np.int32) >> np.int32(23)) - np.int32(127))


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
def add_parts(of_leaves: F32, leaf_starts: I32, found: U8, columns: I64, work: F32, parts: F32) -> None:
    """Add the parts of the leaves, `of_leaves` (L, G), that the candidates in `columns` (P,) have `found` (T, C) to `parts` (G, P). `work`
    (P, G) is room for them."""
    work[:] = 0
    for tree in range(len(found)):
        own = of_leaves[leaf_starts[tree] : leaf_starts[tree + 1]]
        for place in range(len(columns)):
            _add_row(work[place], own[found[tree, columns[place]]])
    for place in range(len(columns)):
        for group in range(len(parts)):
            parts[group, place] += work[place, group]


@compiled_sums
def _add_row(row: F32, added: F32) -> None:
    for i in range(len(row)):
        row[i] += added[i]


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
