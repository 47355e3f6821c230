"""Trees as trained numbers, checked before they serve.

Shapes: M nodes of all trees, T trees, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ModelError, ShapeError
from recsys.lists.learned.forest_kernel import NODES_AT_ONCE, Trees

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

MAX_LEAVES = 32
"""Leaves of a tree: its leaves are bits of a 32-bit number."""
MAX_TREES = 1_000
MAX_VALUE = 1e4
"""Largest magnitude of a node's value."""
NO_NODE = -1
_EVERY_LEAF = 0xFFFFFFFF
NAMES = ("features", "thresholds", "left", "right", "values", "roots")


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """T trees of M nodes. `features` (M,) int32 and `thresholds` (M,) float32: a candidate goes to the left where its feature is at most
    the threshold. `left` and `right` (M,) int32 are nodes, −1 of a leaf. `values` (M,) float32: of a leaf what it adds to a score, of an
    inner node the mean of that over its training candidates. `roots` (T,) int32.

    Raises: ShapeError for arrays that do not fit; ModelError for numbers that are no trees, are not finite or out of bounds.
    """

    features: I32
    thresholds: F32
    left: I32
    right: I32
    values: F32
    roots: I32

    def __post_init__(self) -> None:
        for name in NAMES:
            array, wanted = getattr(self, name), np.float32 if name in ("thresholds", "values") else np.int32
            if array.dtype != wanted or array.ndim != 1 or (name != "roots" and len(array) != len(self.features)):
                expected = f"one number of {np.dtype(wanted)} for each of {len(self.features)} nodes"
                raise ShapeError(f"tensor {name} of the ranker is {array.dtype} of shape {array.shape}, expected {expected}")
        if not 1 <= len(self.roots) <= MAX_TREES or len(self.features) > MAX_TREES * 2 * MAX_LEAVES:
            raise ModelError(f"the ranker has {len(self.roots)} trees of {len(self.features)} nodes, at most {MAX_TREES} trees serve")
        for name in ("thresholds", "values"):
            if np.isnan(getattr(self, name)).any():
                raise ModelError(f"tensor {name} of the ranker: it holds what is no number")
        if not (np.abs(self.values) <= MAX_VALUE).all():
            raise ModelError(f"tensor values of the ranker: it holds numbers beyond ±{MAX_VALUE:g}")
        if (self.features < 0).any():
            raise ModelError("tensor features of the ranker: it holds numbers below 0")
        self.compiled()

    def __len__(self) -> int:
        return len(self.roots)

    def compiled(self) -> Trees:
        """Return the trees as compiled loops read them. Raises: ModelError for nodes that are not T trees of at most 32 leaves each."""
        inner, kept, starts, leaves, leaf_starts = list[int](), list[int](), [0], list[float](), [0]
        seen = np.zeros(len(self.features), np.bool_)
        for root in self.roots.tolist():
            ordered = self._leaves_of(root, seen)
            place_of = {node: place for place, node in enumerate(ordered)}
            self._add_inner(root, place_of, inner, kept)
            n_missing = -len(inner) % NODES_AT_ONCE
            inner += n_missing * [root]
            kept += n_missing * [_EVERY_LEAF]
            starts.append(len(inner))
            leaves += self.values[ordered].tolist()
            leaf_starts.append(len(leaves))
        if not seen.all():
            raise ModelError("tensor roots of the ranker: a node belongs to no tree")
        own, nodes = (self.features, self.thresholds, self.left, self.right, self.values, self.roots), np.array(inner, np.int64)
        asked = self.features[nodes].astype(np.int64), self.thresholds[nodes], np.array(kept, np.uint32), np.array(starts, np.int64)
        return Trees(*own, *asked, np.array(leaves, np.float32), np.array(leaf_starts, np.int64))

    def _leaves_of(self, root: int, seen: NDArray[np.bool_]) -> list[int]:
        """Return the leaves below a root from left to right, and mark its nodes."""
        found, waiting = list[int](), [root]
        while waiting:
            node = waiting.pop()
            if not 0 <= node < len(self.features) or seen[node]:
                raise ModelError(f"tensors left and right of the ranker: node {node} is missing, or there are two ways to it")
            seen[node] = True
            below = int(self.left[node]), int(self.right[node])
            if below == (NO_NODE, NO_NODE):
                found.append(node)
            else:
                waiting += [below[1], below[0]]
            if len(found) > MAX_LEAVES:
                raise ModelError(f"a tree of the ranker has more than {MAX_LEAVES} leaves")
        return found

    def _add_inner(self, root: int, place_of: dict[int, int], inner: list[int], kept: list[int]) -> None:
        """Add the inner nodes below a root, each with the bits of the leaves that are not below its left side."""
        bits = {node: 1 << place for node, place in place_of.items()}
        order, waiting = list[int](), [root]
        while waiting:
            node = waiting.pop()
            if node not in place_of:
                order.append(node)
                waiting += [int(self.right[node]), int(self.left[node])]
        for node in reversed(order):
            bits[node] = bits[int(self.left[node])] | bits[int(self.right[node])]
        for node in order:
            inner.append(node)
            kept.append(_EVERY_LEAF & ~bits[int(self.left[node])])

    @classmethod
    def joined(cls, trees: Sequence[Forest]) -> Forest:
        """Return the trees of all of these."""
        starts = np.cumsum([0, *(len(one.features) for one in trees)])[:-1].astype(np.int32)

        def below(name: str) -> I32:
            columns = [getattr(one, name) for one in trees]
            moved = [np.where(own >= 0, own + start, NO_NODE) for own, start in zip(columns, starts, strict=True)]
            return np.concatenate(moved).astype(np.int32)

        features, thresholds = np.concatenate([one.features for one in trees]), np.concatenate([one.thresholds for one in trees])
        roots = np.concatenate([one.roots + start for one, start in zip(trees, starts, strict=True)]).astype(np.int32)
        return cls(features, thresholds, below("left"), below("right"), np.concatenate([one.values for one in trees]), roots)
