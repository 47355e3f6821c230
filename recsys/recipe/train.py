"""Trains a recipe on a log: replay, a search over recency constants, a fit, and what it gains on the newest events.

Shapes: B cases, H half-lives.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from recsys.engine import EngineConfig
from recsys.errors import TooFewInteractions
from recsys.lists.default_recipe import default_recipe
from recsys.lists.reading import Recency
from recsys.lists.recipe import Recipe, RecipeSettings
from recsys.models.training import Progress, go_on
from recsys.recipe.cases import Cases
from recsys.recipe.fit import FitOptions, case_ranks, fit
from recsys.recipe.replay import Log, evenly, gather

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Budget and seed of a training: at most `cases`, evenly chosen from the newest `targets` events that may be cases, of which `searched`
    choose among the settings."""

    cases: int = 5_000
    searched: int = 800
    targets: int = 50_000
    seed: int = 0
    fit: FitOptions = field(default_factory=FitOptions)


def settings_grid(start: RecipeSettings) -> list[RecipeSettings]:
    """Return the settings that are tried, the start first: recency that counts minutes, hours or days, or the order alone."""
    base = start.cooccurrence
    found = [start]
    for age_s, step in ((120.0, 0.88), (3_600.0, 0.9), (86_400.0, 0.93), (1e8, 0.85)):
        content = Recency(step=0.75, age_s=max(90.0, age_s))
        found.append(replace(start, cooccurrence=replace(base, age_s=age_s, step=step), content=content))
    return list(dict.fromkeys(found))


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
    targets = (log.targets() if among is None else among)[-options.targets :]
    settings = start.settings
    if options.searched and len(targets) >= 2 * options.searched:
        settings = best_settings(config, log, evenly(targets, options.searched), start, options, progress)
    start = replace(start, settings=settings)
    (cases,) = gather(config, log, evenly(targets, options.cases), [start], _part(progress, 0.4, 0.8))
    return fit(cases, start, replace(options.fit, seed=options.seed), _part(progress, 0.8, 1.0))


def best_settings(
    config: EngineConfig, log: Log, events: I64, start: Recipe, options: TrainOptions, progress: Progress | None = None
) -> RecipeSettings:
    """Return the settings by which a fitted recipe ranks the newest of these events best."""
    grid = settings_grid(start.settings)
    recipes = [replace(start, settings=settings) for settings in grid]
    losses = []
    for recipe, cases in zip(recipes, gather(config, log, events, recipes, _part(progress, 0.0, 0.4)), strict=True):
        try:
            fitted = fit(cases, recipe, replace(options.fit, seed=options.seed, epochs=8))
        except TooFewInteractions:
            return start.settings
        newest = cases.at(slice(int(len(cases) * (1 - options.fit.validation)), None))
        ranks = case_ranks(fitted, newest)
        losses.append(-float(np.where(ranks <= 20, 1 / np.log2(1 + ranks), 0).mean()))
    return grid[int(np.argmin(losses))]


def _part(progress: Progress | None, first: float, last: float) -> Progress | None:
    """Return a progress that reports from `first` to `last` of the whole."""
    if progress is None:
        return None
    return lambda done, message: go_on(progress, first + (last - first) * done, message)


def recent_half_life(cases: Cases) -> int:
    """Return the place of the half-life whose popularity finds most of the cases' items among its first ten."""
    return int(np.argmax((cases.popular[:, :-1] <= 10).mean(axis=0)))
