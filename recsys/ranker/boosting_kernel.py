"""Gradient-boosted trees for ranking, compiled: gradients of a softmax over each case, histograms, splits.

Shapes: n rows (candidates), B cases, F features, J bins, N nodes of a level.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

N_BINS = 64
"""Values of a feature that splits tell apart, at most."""


@compiled
def gradients(scores: F32, starts: I64, targets: I64, weights: F32, slopes: F32, curves: F32) -> None:
    """Write first and second derivatives (n,) by the `scores` (n,) of −log p of each case's item, p from a softmax over the case; of −log(1
    − p) where a case has a weight below 0."""
    for case in range(len(targets)):
        start, end, target, weight = starts[case], starts[case + 1], targets[case], abs(weights[case])
        most, total = np.float32(-np.inf), np.float32(0)
        for row in range(start, end):
            most = max(most, scores[row])
        for row in range(start, end):
            slopes[row] = np.exp(scores[row] - most)
            total += slopes[row]
        own = slopes[target] / total
        push = np.float32(1) if weights[case] > 0 else -own / max(np.float32(1) - own, np.float32(1e-3))
        for row in range(start, end):
            share = slopes[row] / total
            slopes[row] = push * weight * (share - np.float32(row == target))
            curves[row] = abs(push) * weight * share * (1 - share)


@compiled
def bin_of(features: F32, edges: F32, bins: U8) -> None:
    """Write which of the values `edges` (F, J), ascending and filled up with infinity, is the first that is not below each of the features
    (n, F), into `bins` (F, n)."""
    for f in range(len(edges)):
        for row in range(len(features)):
            low, high, value = 0, edges.shape[1] - 1, features[row, f]
            while low < high:
                middle = (low + high) // 2
                if edges[f, middle] < value:
                    low = middle + 1
                else:
                    high = middle
            bins[f, row] = low


@compiled
def histogram(bins: U8, rows: I32, slopes: F32, curves: F32, chosen: I64, sums: F64) -> None:
    """Write sums of slopes, of curves and the number of `rows` (m,) by the `chosen` features and their bins into `sums` (F, J, 3)."""
    sums[:] = 0
    for place in range(len(chosen)):
        of_feature, own = bins[chosen[place]], sums[chosen[place]]
        for row in rows:
            at = of_feature[row]
            own[at, 0] += slopes[row]
            own[at, 1] += curves[row]
            own[at, 2] += 1


@compiled
def best_split(sums: F64, chosen: I64, ridge: float, least_rows: int) -> tuple[float, int, int]:
    """Return by how much the best split of a node lowers the loss, with its feature and last bin on the left; a feature of −1 for none."""
    best, feature, edge = 0.0, -1, -1
    for f in chosen:
        slope, curve, n_rows = sums[f, :, 0].sum(), sums[f, :, 1].sum(), sums[f, :, 2].sum()
        before = slope * slope / (curve + ridge)
        of_left, curve_left, n_left = 0.0, 0.0, 0.0
        for j in range(sums.shape[1] - 1):
            of_left += sums[f, j, 0]
            curve_left += sums[f, j, 1]
            n_left += sums[f, j, 2]
            if n_left < least_rows or n_rows - n_left < least_rows:
                continue
            of_right = slope - of_left
            gain = of_left * of_left / (curve_left + ridge) + of_right * of_right / (curve - curve_left + ridge) - before
            if gain > best + 1e-12:
                best, feature, edge = gain, f, j
    return best, feature, edge


@compiled
def divide(bins: U8, rows: I32, edge: int) -> int:
    """Order `rows` (m,) so that those whose bin (n,) is at most `edge` come first; return how many these are. Order is kept."""
    right, n_left, n_right = np.empty(len(rows), np.int32), 0, 0
    for row in rows:
        if bins[row] <= edge:
            rows[n_left] = row
            n_left += 1
        else:
            right[n_right] = row
            n_right += 1
    rows[n_left:] = right[:n_right]
    return n_left


@compiled
def add_tree(bins: U8, features: I32, edges: I32, left: I32, right: I32, values: F32, scores: F32) -> None:
    """Add a tree's values to the `scores` (n,) of all rows."""
    for row in range(len(scores)):
        node = 0
        while left[node] >= 0:
            node = left[node] if bins[features[node], row] <= edges[node] else right[node]
        scores[row] += values[node]
