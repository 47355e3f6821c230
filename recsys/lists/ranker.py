"""From features to scores.

Shapes: U users, C candidates, F features.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.lists import features_kernel
from recsys.lists.candidates import Candidates, flat
from recsys.lists.context import ListContext, Users
from recsys.lists.default_recipe import default_recipe
from recsys.lists.feature_names import ITEM_FEATURES, SOURCE_OF
from recsys.lists.features import Features, raw_features
from recsys.lists.features_kernel import Extra, Ranked, Weights
from recsys.lists.recipe import CLIP, Recipe

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

SOURCES = ("cooccurrence", "content", "trending", "new")
"""Sources that a recipe has features of."""
REST = "context"
"""The part of the score that belongs to no source: what a user's own features and the bounds of hidden units add."""
EXTRA_WEIGHT = 5.0
"""A source of weight 1 that the recipe has neither features nor trained weights of adds this to the score of its best candidate."""
PREFERRED_WEIGHT = 40.0
"""For a user without a history who named categories, these come before all else."""
_GROUPS: I64 = np.array([SOURCES.index(SOURCE_OF[name]) for name in ITEM_FEATURES], np.int64)


class Ranker(Protocol):
    """Scores candidates. Higher is better."""

    def score(self, features: Features, valid: Bools) -> F32:
        """Return a score for each candidate, (U, C). Where `valid` (U, C) is False there is none, and any score will do."""
        ...

    def parts(self, features: Features) -> F32:
        """Return what each feature added to the score, (U, C, F): a list shows it as its sources."""
        ...


class ByRecipe:
    """Scores candidates by the recipe in use, or by the default one: features, hidden units and scores of a user in one compiled pass.

    Scores and parts are ≥ 0: each source's part counts from the least that it gave to any of the user's ranked candidates, which changes no
    order.
    """

    def __init__(self) -> None:
        self._weights: tuple[Recipe, Weights] | None = None

    def ranked(self, found: Candidates, users: Users, context: ListContext, size: int) -> Candidates:
        """Return the `size` best candidates, best first."""
        recipe = context.options.recipe or default_recipe()
        others = [name for name in found.raw if name not in SOURCES]
        extras = [name for name in others if found.scales[name].any()]  # those with an opinion
        raw = [found.raw[name] for name in extras]
        weights = [recipe.extras.get(name) or plain_weights(context.options.weights[name]) for name in extras]
        if users.preferred and "content" in found.raw:
            raw.append(_preferred(found.raw["content"], users))
            weights.append((PREFERRED_WEIGHT / 2, PREFERRED_WEIGHT / 2))
        scores = np.stack(raw) if raw else np.zeros((0, *found.numbers.shape), np.float32)
        of_extras = Extra(scores, np.array(weights, np.float32).reshape(-1, 2))
        shape, names = (len(found), size), (*SOURCES, REST, *extras)
        ranked = Ranked(
            np.zeros(shape, np.int64),
            np.full(shape, -1, np.int64),
            np.full(shape, -np.inf, np.float32),
            np.empty((len(SOURCES) + 1 + len(weights), *shape), np.float32),
        )
        features_kernel.rank(raw_features(found, users, context), self._compiled(recipe), of_extras, _GROUPS, ranked)
        parts = ranked.parts
        if len(parts) > len(names):
            parts[SOURCES.index("content")] += parts[-1]
        for place, name in enumerate(SOURCES):
            if name not in found.raw:  # it is switched off: what is left of it is the same for all but for hidden units
                parts[names.index(REST)] += parts[place]
        shown = [name for name in (*SOURCES, *extras) if name in found.raw] + [REST]
        parts, totals = parts[[names.index(name) for name in shown]], np.empty(shape, np.float32)
        features_kernel.settle(ranked.numbers, parts, totals)
        of_shown, none = dict(zip(shown, parts, strict=True)), np.zeros(shape, np.float32)
        by_name = {name: of_shown.get(name, none) for name in (*SOURCES, *others, REST) if name in found.raw or name == REST}
        places = flat(ranked.columns, found.numbers.shape[1])
        ones = np.ones(shape, np.float32)
        return Candidates(ranked.numbers, found.raw_at(places), found.scales, totals, by_name, ones)

    def _compiled(self, recipe: Recipe) -> Weights:
        if self._weights is None or self._weights[0] is not recipe:
            self._weights = (recipe, compiled_weights(recipe))
        return self._weights[1]


def plain_weights(weight: float) -> tuple[float, float]:
    """Return the weights of a source's share and of its logarithm that a `weight` of the settings stands for."""
    return EXTRA_WEIGHT * weight / 2, EXTRA_WEIGHT * weight / 2


def _preferred(content: F32, users: Users) -> F32:
    """Return the scores of content (U, C) for users without a history who named categories, 0 for all others."""
    found = np.zeros_like(content)
    rows = [row for row in users.preferred if not (users.recent.strengths[row] > 0).any()]
    found[rows] = content[rows]
    return found


def compiled_weights(recipe: Recipe) -> Weights:
    """Return a recipe as the compiled loops read it."""
    inverse = (1 / recipe.scale).astype(np.float32)
    hidden = np.ascontiguousarray(recipe.hidden.T)
    return Weights(recipe.mean, inverse, recipe.linear, hidden, recipe.bias, recipe.output, np.float32(CLIP))
