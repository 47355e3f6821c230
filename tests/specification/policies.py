"""Policy stages as plain arrays say: one user, one place after the other, nothing compiled. Lists are held equal to these by
`tests/unit/recsys/lists/test_policy_stages.py`.

Shapes: P ranked candidates of one user, F features.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Gain = Callable[[list[int], int], float]
OWN, SMOOTHING = 0.1, 0.01


def relevance(scores: F64) -> F64:
    """Return the odds of each place against the first, (P,)."""
    ordered = np.sort(scores.astype(np.float64))[::-1]
    return np.exp(ordered - ordered[0])


def cosines(features: F64) -> F64:
    """Return the cosines of features (P, F): (P, P), 0 where there are none."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = np.divide(features, lengths, out=np.zeros_like(features), where=lengths > 0)
    return unit @ unit.T


def mmr_gain(worth: F64, features: F64, strength: float) -> Gain:
    """Return the gain of maximal marginal relevance."""
    alike = np.maximum(cosines(features), 0)
    return lambda chosen, i: (1 - strength) * worth[i] - strength * max((alike[i, j] for j in chosen), default=0.0)


def dpp_gain(worth: F64, features: F64, strength: float) -> Gain:
    """Return the gain of a determinantal point process: the determinants themselves."""
    kernel = (1 - OWN) * (1 + cosines(features)) / 2
    np.fill_diagonal(kernel, 1.0)

    def log_det(chosen: list[int]) -> float:
        return float(np.linalg.slogdet(kernel[np.ix_(chosen, chosen)])[1]) if chosen else 0.0

    return lambda chosen, i: (1 - strength) * worth[i] + strength * (log_det([*chosen, i]) - log_det(chosen))


def mix(items: Sequence[tuple[Sequence[str], float]]) -> dict[str, float]:
    """Return the share of each category among items, given as categories and weights."""
    found: Counter[str] = Counter()
    total = sum(weight for categories, weight in items if categories)
    for categories, weight in items:
        for category in categories:
            found[category] += weight / len(categories) / total
    return dict(found)


def divergence(wanted: Mapping[str, float], given: Mapping[str, float]) -> float:
    """Return the smoothed divergence of Steck 2018."""
    return sum(p * np.log(p / ((1 - SMOOTHING) * given.get(g, 0.0) + SMOOTHING * p)) for g, p in wanted.items())


def calibration_gain(worth: F64, categories: Sequence[Sequence[str]], wanted: Mapping[str, float], strength: float) -> Gain:
    """Return the gain of calibration: minus the divergence of the list with the item."""

    def gain(chosen: list[int], i: int) -> float:
        given = mix([(categories[j], 1.0) for j in [*chosen, i]])
        return (1 - strength) * worth[i] - strength * divergence(wanted, given)

    return gain


def assert_greedy(order: Sequence[int], gain: Gain, size: int, tolerance: float = 2e-5) -> None:
    """Check that each of the first `size` places has the largest gain but for rounding, and that the others are as they were."""
    n = len(order)
    assert sorted(order) == list(range(n))
    for place in range(min(size, n)):
        chosen = list(order[:place])
        gains = {i: gain(chosen, i) for i in range(n) if i not in chosen}
        assert gains[order[place]] >= max(gains.values()) - tolerance, f"place {place}"
    assert list(order[size:]) == sorted(order[size:])


def capped(values: Sequence[Sequence[Sequence[str]]], caps: Sequence[tuple[int, int]], size: int) -> list[int]:
    """Return the order in which candidates are placed. `values[i][r]` are those of candidate i in cap r, which is (most, first)."""
    left, placed = list(range(len(values))), list[int]()
    counts: list[Counter[str]] = [Counter() for _ in caps]
    while left and len(placed) < size:

        def broken(i: int, at: int = len(placed)) -> int:
            return sum(
                at < first and any(count[v] >= most for v in own) for own, (most, first), count in zip(values[i], caps, counts, strict=True)
            )

        best = min(left, key=lambda i: (broken(i), i))
        for own, (_, first), count in zip(values[best], caps, counts, strict=True):
            if len(placed) < first:
                count.update(own)
        placed.append(best)
        left.remove(best)
    return placed + left
