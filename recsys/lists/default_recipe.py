"""The recipe that serves before the first training."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

import numpy as np

from recsys.lists.recipe import Recipe


@cache
def default_recipe() -> Recipe:
    """Return the recipe fitted on the first 40 % of logs of films, news, check-ins and a shop's sessions, with the same weight each."""
    stored = json.loads(resources.files("recsys.lists").joinpath("default_recipe.json").read_text("utf-8"))
    return Recipe.from_tensors(stored["config"], {name: np.array(rows, np.float32) for name, rows in stored["tensors"].items()})
