"""Propensities of places are found in impressions that were made with known ones, and weights undo them."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.errors import ShapeError
from recsys.ranker.position_bias import MAX_WEIGHT, position_weights, propensities

TRUE = 1.0 / np.arange(1, 9) ** 0.7


def impressions(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return items that better ones more often stand above, as rankers do, their places, and clicks."""
    random = np.random.default_rng(seed)
    liked = random.beta(1, 4, 40)
    items, positions = [], []
    for _ in range(n // 8):
        order = np.argsort(-(liked + 0.3 * random.standard_normal(40)))[:8]
        items.append(order)
        positions.append(np.arange(1, 9))
    of, at = np.concatenate(items), np.concatenate(positions)
    return of, at, random.random(len(of)) < TRUE[at - 1] * liked[of], liked


def test_known_propensities_are_found_and_naive_rates_are_not() -> None:
    items, positions, clicked, _ = impressions(80_000)
    found = propensities(items, positions, clicked, 8)
    naive = np.array([clicked[positions == place].mean() for place in range(1, 9)])
    np.testing.assert_allclose(found, TRUE, rtol=0.12)
    assert abs(naive / naive[0] - TRUE).max() > 1.5 * abs(found - TRUE).max()


def test_weighted_clicks_order_items_by_how_much_they_are_liked() -> None:
    items, positions, clicked, liked = impressions(80_000, seed=1)
    weights = position_weights(positions, propensities(items, positions, clicked, 8))
    shown = np.maximum(np.bincount(items, minlength=40), 1)
    plain, undone = (np.bincount(items, clicked * one, 40) / shown for one in (1.0, weights))
    often = shown > 500
    assert abs(undone[often] - liked[often]).mean() < 0.5 * abs(plain[often] - liked[often]).mean()


def test_places_never_rise_and_what_is_unknown_takes_the_place_before() -> None:
    random = np.random.default_rng(2)
    items, positions = random.integers(0, 5, 400), random.choice([1, 2, 5], 400)
    found = propensities(items, positions, random.random(400) < 0.3, 10)
    assert found[0] == 1.0 and (np.diff(found) <= 1e-12).all() and found[2] == found[3] == found[1]
    none = np.zeros(0, np.int64)
    np.testing.assert_array_equal(propensities(none, none, none.astype(bool), 4), np.ones(4))


def test_weights_are_bounded_and_events_without_a_place_keep_theirs() -> None:
    weights = position_weights(np.array([0, 1, 2, 3, 99]), np.array([1.0, 0.5, 0.01]))
    assert weights.tolist() == [1.0, 1.0, 2.0, MAX_WEIGHT, MAX_WEIGHT]
    with pytest.raises(ShapeError, match="count from 1"):
        propensities(np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, bool), 4)
    with pytest.raises(ShapeError, match="one length"):
        propensities(np.zeros(2, np.int64), np.ones(1, np.int64), np.zeros(1, bool), 4)
