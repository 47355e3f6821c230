"""Trains a recipe on a log: replay, a search over recency constants, a fit, and what it gains on the newest events.

Shapes: B cases, H half-lives.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recsys.engine import EngineConfig
from recsys.errors import TooFewInteractions
from recsys.lists.default_recipe import default_recipe
from recsys.lists.fading import Pair, half_of, source_of
from recsys.lists.ranker import extra_pairs
from recsys.lists.reading import Recency
from recsys.lists.recipe import Recipe, RecipeSettings
from recsys.models.training import Progress, go_on
from recsys.recipe.budget import TrainOptions
from recsys.recipe.cases import Cases
from recsys.recipe.fit import LEAST_CASES, case_ranks, fit
from recsys.recipe.replay import Log, Serving, evenly, gather, with_beginnings

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


def recencies(start: RecipeSettings) -> list[RecipeSettings]:
    """Return the settings of recency that are tried, the start first: one that counts minutes, hours or days, or the order alone."""
    base = start.cooccurrence
    found = [start]
    for age_s, step in ((120.0, 0.88), (3_600.0, 0.9), (86_400.0, 0.93), (1e8, 0.85)):
        content = Recency(step=0.75, age_s=max(90.0, age_s))
        found.append(replace(start, cooccurrence=replace(base, age_s=age_s, step=step), content=content))
    return list(dict.fromkeys(found))


def exponents(start: RecipeSettings) -> list[RecipeSettings]:
    """Return the exponents of co-occurrence that are tried, the start first: from the confidence that a neighbour follows to cosines."""
    tried = ((0.9, 0.1), (0.6, 0.33), (0.5, 0.5))
    return list(dict.fromkeys([start, *(replace(start, source_power=own, candidate_power=other) for own, other in tried)]))


def train_recipe(
    config: EngineConfig,
    log: Log,
    options: TrainOptions | None = None,
    start: Recipe | None = None,
    progress: Progress | None = None,
    among: I64 | None = None,
) -> Recipe:
    """Return a recipe trained on the log's newest events, point in time, from `start` (the default recipe unless given).

    `among` are the places of the events that may be cases, ascending (k,); all targets of the log unless given.
    Raises: TooFewInteractions if fewer than 100 events make a case.
    """
    options, start = options or TrainOptions(), start or default_recipe()
    targets = (log.targets(repeats=log.repeats(config)) if among is None else among)[-options.targets :]
    if not len(targets):
        raise TooFewInteractions(f"a recipe needs {LEAST_CASES} cases or more, and no event is one")
    settings = start.settings
    if options.searched and len(targets) >= 2 * options.searched:
        settings = best_settings(config, log, evenly(targets, options.searched), start, options, progress)
    start = replace(start, settings=settings)
    (cases,) = gather(config, log, with_beginnings(log, targets, options.cases), [start], part_of(progress, 0.4, 0.8))
    return fit(cases, with_extras(start, cases, config), replace(options.fit, seed=options.seed), part_of(progress, 0.8, 1.0))


def with_model_weights(
    config: EngineConfig,
    log: Log,
    events: I64,
    recipe: Recipe,
    serving: Serving,
    options: TrainOptions | None = None,
    progress: Progress | None = None,
) -> Recipe:
    """Return the recipe with weights of the models that are `serving`, fitted to the `events` (B,), ascending.

    No model may have seen these events. Nothing else of the recipe changes. Cases ask for the next choice alone: with all first choices
    the lists after one and two events would be worse (ADR 12). Raises: TooFewInteractions if fewer than 100 make a case.
    """
    options = options or TrainOptions()
    (cases,) = gather(config, log, events, [recipe], part_of(progress, 0.0, 0.8), serving)
    start, cases = with_extras(recipe, cases, config), cases.of_next_choices()
    return fit(cases, start, replace(options.fit, seed=options.seed), part_of(progress, 0.8, 1.0), only=serving.models)


def with_extras(recipe: Recipe, cases: Cases, config: EngineConfig) -> Recipe:
    """Return the recipe with weights of all sources of the cases that have no features: those of the settings where it has none."""
    fades: dict[str, list[int]] = {}
    for column in cases.extra_names:
        halves, half = fades.setdefault(source_of(column), []), half_of(column)
        halves += [half] if half is not None else []
    by_column: dict[str, Pair] = {}
    for name in fades:
        by_column |= extra_pairs(recipe, name, fades, config.source_weights.get(name, 1.0))
    return replace(recipe, extras={**by_column, **recipe.extras})


def best_settings(
    config: EngineConfig, log: Log, events: I64, start: Recipe, options: TrainOptions, progress: Progress | None = None
) -> RecipeSettings:
    """Return the settings by which a fitted recipe ranks the newest of these events best: recency first, then exponents with it. Others
    than the start's have to be better beyond the noise."""
    settings = start.settings
    for stage, tried_from in enumerate((recencies, exponents)):
        recipes = [replace(start, settings=one) for one in tried_from(settings)]
        part = part_of(progress, 0.2 * stage, 0.2 * (stage + 1))
        settings = recipes[_best_of(config, log, events, recipes, options, part)].settings
    return settings


def _best_of(config: EngineConfig, log: Log, events: I64, recipes: list[Recipe], options: TrainOptions, progress: Progress | None) -> int:
    gains = []
    for recipe, cases in zip(recipes, gather(config, log, events, recipes, progress), strict=True):
        try:
            fitted = fit(cases, with_extras(recipe, cases, config), replace(options.fit, seed=options.seed, epochs=8))
        except TooFewInteractions:
            return 0
        ranks = case_ranks(fitted, cases.at(slice(int(len(cases) * (1 - options.fit.validation)), None)))
        gains.append(np.where(ranks <= 20, 1 / np.log2(1 + np.minimum(ranks, 20)), 0))
    return best_beyond_noise(np.array(gains))


def best_beyond_noise(gains: F64) -> int:
    """Return which of the settings has the highest mean of `gains` (G, B), of those that are better than the first by more than the
    standard error of the difference; 0, the first, if none is."""
    over = gains - gains[0]
    errors = over.std(axis=1, ddof=1) / np.sqrt(over.shape[1]) if over.shape[1] > 1 else np.full(len(over), np.inf)
    return int(np.argmax(np.where(over.mean(axis=1) > errors, over.mean(axis=1), 0.0)))


def part_of(progress: Progress | None, first: float, last: float) -> Progress | None:
    """Return a progress that reports from `first` to `last` of the whole."""
    if progress is None:
        return None
    return lambda done, message: go_on(progress, first + (last - first) * done, message)


def recent_half_life(cases: Cases) -> int:
    """Return the place of the half-life whose popularity finds most of the cases' items among its first ten."""
    return int(np.argmax((cases.popular[:, :-1] <= 10).mean(axis=0)))
