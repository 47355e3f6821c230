"""A recipe is stored and read again as it was, and one that cannot serve is refused with the part that is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recsys.errors import CoreError
from recsys.lists.default_recipe import default_recipe
from recsys.lists.feature_names import FEATURES
from recsys.lists.reading import Recency
from recsys.lists.recipe import Recipe, RecipeSettings

SETTINGS = RecipeSettings(cooccurrence=Recency(0.9, 3_600.0, long_share=0.2), wide=Recency(0.8, 7_200.0), source_power=0.5)


def recipe(n_hidden: int = 3) -> Recipe:
    random = np.random.default_rng(n_hidden)
    n = len(FEATURES)
    shapes = ((n,), (n,), (n,), (n, n_hidden), (n_hidden,), (n_hidden,))
    return Recipe(*(random.uniform(0.1, 1, shape).astype(np.float32) for shape in shapes), settings=SETTINGS, extras={"again": (2.5, 0.0)})


@pytest.mark.parametrize("n_hidden", [0, 3])
def test_a_recipe_is_read_as_it_was_stored(n_hidden: int) -> None:
    before = recipe(n_hidden)
    after = Recipe.from_tensors(json.loads(json.dumps(before.config)), before.tensors())
    assert after.settings == before.settings == SETTINGS and after.extras == before.extras == {"again": (2.5, 0.0)}
    for name in ("mean", "scale", "linear", "hidden", "bias", "output"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert all(array.size for array in before.tensors().values())


def test_options_of_a_later_version_are_passed_over() -> None:
    config = json.loads(json.dumps(recipe().config))
    config["settings"] |= {"later": 1}
    config["settings"]["wide"] |= {"later": 1}
    assert Recipe.from_tensors(config | {"later": 1}, recipe().tensors()).settings == SETTINGS


WRONG: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], object], str]] = {
    "version": (lambda config, _: config.update(feature_version=99), "needs features of version 99"),
    "names": (lambda config, _: config["features"].pop(), "train it again"),
    "settings": (lambda config, _: config.update(settings=7), "settings: it must be an object"),
    "extras": (lambda config, _: config.update(extras=[]), "extras: it must be an object"),
    "weight": (lambda config, _: config.update(extras={"again": [1, -1.0]}), "extras: again has .*, needs two numbers from 0"),
    "weight of a kind": (lambda config, _: config.update(extras={"again": "much"}), "extras: again has 'much'"),
    "weight not finite": (lambda config, _: config.update(extras={"again": [float("nan"), 1]}), "extras: again has"),
    "many weights": (lambda config, _: config.update(extras={str(n): [1, 1] for n in range(65)}), "65 sources, at most 64"),
    "bounds": (lambda config, _: config["settings"].update(source_power=99), "source_power: got 99"),
    "kind": (lambda config, _: config["settings"].update(source_power="high"), "source_power: got 'high'"),
    "recency": (lambda config, _: config["settings"].update(wide={"step": 1}), "wide: got"),
    "recency bounds": (lambda config, _: config["settings"]["wide"].update(step=2.0), "step: got 2.0"),
    "missing": (lambda _, tensors: tensors.pop("linear"), "linear of the recipe is missing"),
    "half a layer": (lambda _, tensors: tensors.pop("bias"), "hidden of the recipe has shape"),
    "shape": (lambda _, tensors: tensors.update(mean=tensors["mean"][1:]), "mean of the recipe has shape"),
    "not finite": (lambda _, tensors: tensors["linear"].__setitem__(0, np.nan), "linear of the recipe: it holds numbers"),
    "huge": (lambda _, tensors: tensors["hidden"].__setitem__(0, 1e9), "hidden of the recipe: it holds numbers"),
    "scale": (lambda _, tensors: tensors["scale"].__setitem__(0, 0), "scale of the recipe: it must be above 0"),
    "dtype": (lambda _, tensors: tensors.update(mean=tensors["mean"].astype(np.int64)), "int64, expected float32"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_recipe_that_cannot_serve_is_refused_and_the_message_names_the_part(case: str) -> None:
    spoil, message = WRONG[case]
    config, tensors = json.loads(json.dumps(recipe().config)), {name: array.copy() for name, array in recipe().tensors().items()}
    spoil(config, tensors)
    with pytest.raises(CoreError, match=message):
        Recipe.from_tensors(config, tensors)


def test_a_recipe_of_before_there_were_weights_of_other_sources_is_read() -> None:
    config = recipe().config
    del config["extras"]
    assert Recipe.from_tensors(config, recipe().tensors()).extras == {}


def test_too_many_hidden_units_are_refused() -> None:
    with pytest.raises(CoreError, match="at most 128 serve"):
        recipe(129)


def test_the_default_recipe_serves() -> None:
    found = default_recipe()
    assert replace(found) is not found and np.abs(found.linear).max() > 0
