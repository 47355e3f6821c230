"""Which settings of a recipe a search tries, and when it leaves those that serve."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.lists.recipe import RecipeSettings
from recsys.recipe.train import best_beyond_noise, exponents, recencies

SERVING = RecipeSettings(source_power=0.7, candidate_power=0.2)


def test_the_settings_that_serve_are_tried_first_and_nothing_is_tried_twice() -> None:
    for tried in (recencies(SERVING), exponents(SERVING), recencies(RecipeSettings()), exponents(RecipeSettings())):
        assert len(set(tried)) == len(tried) >= 3
    assert recencies(SERVING)[0] == exponents(SERVING)[0] == SERVING
    assert {one.source_power for one in recencies(SERVING)} == {0.7}, "exponents are another stage"
    assert {one.cooccurrence for one in exponents(SERVING)} == {SERVING.cooccurrence}


@pytest.mark.parametrize(("gain", "chosen"), [(0.0, 0), (0.005, 0), (0.2, 2)])
def test_other_settings_have_to_be_better_beyond_the_noise(gain: float, chosen: int) -> None:
    first = np.random.default_rng(0).random(200)
    noise = np.where(np.arange(200) % 2, 0.3, -0.3)
    assert best_beyond_noise(np.array([first, first - 0.1, first + gain + noise])) == chosen


def test_one_case_decides_nothing() -> None:
    assert best_beyond_noise(np.array([[0.0], [1.0]])) == 0
    assert best_beyond_noise(np.array([[0.4, 0.2]])) == 0
