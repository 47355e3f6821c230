"""From features to scores.

Shapes: U users, C candidates, F features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.lists import features_kernel
from recsys.lists.candidates import Candidates, flat
from recsys.lists.context import ListContext, Users
from recsys.lists.default_recipe import default_recipe
from recsys.lists.fading import Pair, columns_of, untrained, weights_of
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
        """Return the `size` best candidates, with what rules add to scores, which the scores returned do not hold: in the order of both
        together, best first."""
        recipe = context.options.recipe or default_recipe()
        others = [name for name in found.raw if name not in SOURCES]
        extras = [name for name in others if found.scales[name].any()]  # those with an opinion
        raw = [found.raw[name] for name in extras]
        weights = [extra_pairs(recipe, name, found.fades, context.options.weights[name]) for name in extras]
        if users.preferred and "content" in found.raw:
            raw.append(_preferred(found.raw["content"], users))
            weights.append({"": (PREFERRED_WEIGHT / 2, PREFERRED_WEIGHT / 2)})
        scores = np.stack(raw) if raw else np.zeros((0, *found.numbers.shape), np.float32)
        added, by_user = added_by_rules(found.numbers, context), weights_of(weights, context.table.lengths[users.slots])
        of_extras = Extra(scores, by_user, np.zeros((0, 0), np.float32) if added is None else added)
        shape, names = (len(found), size), (*SOURCES, REST, *extras)
        n_explained = size + context.options.reasons
        ranked = Ranked(
            np.zeros(shape, np.int64),
            np.full(shape, -1, np.int64),
            np.full(shape, -np.inf, np.float32),
            np.empty((len(SOURCES) + 1 + len(weights), len(found), n_explained), np.float32),
        )
        made_from = raw_features(found, users, context)
        features_kernel.rank(made_from, self._compiled(recipe), of_extras, _GROUPS, ranked)
        shown = [name for name in (*SOURCES, *extras) if name in found.raw] + [REST]
        parts, totals = _shown(ranked.parts, names, shown), np.empty(shape, np.float32)
        features_kernel.settle(ranked.numbers, parts, totals)
        none, reference = np.zeros(shape, np.float32), None
        if context.options.reasons:
            average = dict(zip(shown, np.ascontiguousarray(parts[:, :, size]), strict=True))
            reference = {name: average.get(name, none[:, 0]) for name in (*found.raw, REST)}
            parts = np.ascontiguousarray(parts[:, :, :size])
        of_shown = dict(zip(shown, parts, strict=True))
        by_name = {name: of_shown.get(name, none) for name in (*SOURCES, *others, REST) if name in found.raw or name == REST}
        places = flat(ranked.columns, found.numbers.shape[1])
        ones, wide = np.ones(shape, np.float32), None if context.options.ranker is None else made_from.wide.ravel()[places]
        return Candidates(ranked.numbers, found.raw_at(places), found.scales, totals, by_name, ones, wide, reference=reference)

    def _compiled(self, recipe: Recipe) -> Weights:
        if self._weights is None or self._weights[0] is not recipe:
            self._weights = (recipe, compiled_weights(recipe))
        return self._weights[1]


def _shown(parts: F32, names: Sequence[str], shown: Sequence[str]) -> F32:
    """Return the parts of a score by the sources that are `shown` (S, …), from those by the `names` of all sources, (G, …), and one more if
    there are preferred categories. What a source that is switched off adds is the same for all but for hidden units: it is no source's."""
    if len(parts) > len(names):
        parts[SOURCES.index("content")] += parts[-1]
    for place, name in enumerate(SOURCES):
        if name not in shown:
            parts[names.index(REST)] += parts[place]
    return parts[[names.index(name) for name in shown]]


def extra_pairs(recipe: Recipe, name: str, fades: Mapping[str, Sequence[int]], weight: float) -> dict[str, Pair]:
    """Return the weights of a source without features by column: those of the recipe, or what a `weight` of the settings stands for."""
    columns = columns_of(name, fades)
    if any(column in recipe.extras for column in columns):
        return {column: recipe.extras.get(column, (0.0, 0.0)) for column in columns}
    return untrained(name, fades, plain_weights(weight))


def added_by_rules(numbers: I64, context: ListContext) -> F32 | None:
    """Return what rules add to the scores of items (U, C), −1 for none; None where they add nothing."""
    effects = context.effects
    if effects is None or effects.added is None:
        return None
    return np.where(numbers >= 0, effects.added[np.maximum(numbers, 0)], np.float32(0))


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
