"""Finds out what each model adds to lists: recipes with and without it, and how much better the lists of the one are than of the other.

Shapes: B cases, C candidates, E sources without features, U users.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from recsys.engine import EngineConfig
from recsys.errors import ShapeError
from recsys.evaluation.gate import lead_bounds
from recsys.evaluation.metrics import I64
from recsys.evaluation.user_scores import UserScores
from recsys.lists.fading import source_of
from recsys.lists.recipe import Recipe
from recsys.models.training import Progress
from recsys.recipe.budget import TrainOptions
from recsys.recipe.cases import Cases
from recsys.recipe.fit import fit
from recsys.recipe.replay import Log, Serving, gather
from recsys.recipe.train import part_of, with_extras


@dataclass(frozen=True, slots=True)
class ListGain:
    """Holds what a model adds to the NDCG@10 of lists: the mean over targets, and the ends of its interval of 95 %."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, with_it: UserScores, without_it: UserScores, seed: int) -> ListGain:
        """Compare two contenders on the same targets, by resampling users. Raises ShapeError for different targets."""
        if not (np.array_equal(with_it.users, without_it.users) and np.array_equal(with_it.targets, without_it.targets)):
            raise ShapeError("lists with and without a model were judged on different targets")
        leads = (with_it.ndcg - without_it.ndcg)[None]
        ((low, high),) = lead_bounds(leads, with_it.targets, seed=seed).tolist()
        return cls(float(leads.sum()) / max(with_it.n_targets, 1), low, high)


def least_useful(gains: Mapping[str, ListGain], ndcg: float, least_gain: float) -> str | None:
    """Return the kind that adds least, of those that add less than the share `least_gain` of the list's NDCG@10 beyond chance: the upper
    end of the interval is below it. None if there is none."""
    small = {kind: gain.mean for kind, gain in gains.items() if gain.high < least_gain * ndcg}
    return min(small, key=lambda kind: small[kind]) if small else None


def with_and_without_models(
    config: EngineConfig,
    log: Log,
    events: I64,
    recipe: Recipe,
    serving: Serving,
    options: TrainOptions | None = None,
    progress: Progress | None = None,
) -> tuple[Recipe, dict[str, Recipe]]:
    """Return the recipe as `with_model_weights` does, and by kind of model the one whose other models are weighed without it.

    All are fitted to the same cases, so a model that another one can stand in for adds little. Raises: TooFewInteractions if fewer than 100
    events make a case.
    """
    options = options or TrainOptions()
    (cases,) = gather(config, log, events, [recipe], part_of(progress, 0.0, 0.6), serving)
    start, cases = with_extras(recipe, cases, config), cases.of_next_choices()
    kinds, fit_options = list(serving.models), replace(options.fit, seed=options.seed)
    whole = fit(cases, start, fit_options, part_of(progress, 0.6, 0.8), only=kinds)
    without, share = {}, 0.2 / len(kinds)
    for at, kind in enumerate(kinds):
        others, rest = [one for one in kinds if one != kind], silenced(start, kind)
        if others:
            within = part_of(progress, 0.8 + share * at, 0.8 + share * (at + 1))
            rest = silenced(fit(_blanked(cases, kind), rest, fit_options, within, only=others), kind)
        without[kind] = rest
    return whole, without


def silenced(recipe: Recipe, kind: str) -> Recipe:
    """Return the recipe with no weight for a kind of model."""
    return replace(recipe, extras={**forgotten(recipe, kind).extras, kind: (0.0, 0.0)})


def forgotten(recipe: Recipe, kind: str) -> Recipe:
    """Return the recipe as one that was never trained with a kind of model: if that serves, it has the weight of the settings."""
    return replace(recipe, extras={column: pair for column, pair in recipe.extras.items() if source_of(column) != kind})


def _blanked(cases: Cases, kind: str) -> Cases:
    """Return the cases without the scores of a kind of model."""
    own = np.repeat([source_of(column) == kind for column in cases.extra_names], 2)
    return replace(cases, extras=np.where(own, np.float32(0), cases.extras))
