"""Coordinate descent of SLIM, compiled. Shape: I items."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import add
from recsys.jit import compiled

F32 = NDArray[np.float32]


@compiled
def descend(gram: F32, first: int, last: int, l1: float, l2: float, max_sweeps: int, tolerance: float, weights: F32) -> None:
    """Solve the items from `first` to `last`: write the weights w ≥ 0, w_i = 0, that minimise ½‖xᵢ − Xw‖² + l1 Σ w + ½ l2 ‖w‖² into
    `weights` (last − first, I).

    `gram` (I, I) is XᵀX. A sweep visits all items, and costs I operations for each weight that changes; an item is done when no weight
    changes by more than `tolerance`.
    Source: Ning & Karypis 2011, eq. 4; Friedman, Hastie & Tibshirani 2010, 2.2 (updates by covariance).
    """
    n_items = len(gram)
    rest = np.empty(n_items, np.float32)  # Xᵀ(xᵢ − Xw)
    for item in range(first, last):
        own = weights[item - first]
        own[:] = 0
        rest[:] = gram[item]
        for _ in range(max_sweeps):
            change = np.float32(0)
            for j in range(n_items):
                before, curvature = own[j], gram[j, j]
                if j == item or curvature <= 0 or (before == 0 and rest[j] <= l1):
                    continue
                after = max(rest[j] + curvature * before - np.float32(l1), np.float32(0)) / (curvature + np.float32(l2))
                if after != before:
                    own[j] = after
                    add(rest, gram[j], before - after)
                    change = max(change, abs(after - before))
            if change <= tolerance:
                break
