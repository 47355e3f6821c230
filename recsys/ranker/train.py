"""Trains a ranker on a log: replay, trees on top of the recipe's scores.

Shapes: B cases.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recsys.engine import EngineConfig
from recsys.errors import TooFewInteractions
from recsys.lists.learned.ranker import LearnedRanker
from recsys.lists.recipe import Recipe
from recsys.models.training import Progress, go_on
from recsys.ranker import boosting, by_lightgbm
from recsys.ranker.budget import RankerOptions
from recsys.ranker.cases import RankerCases, gather, rejections
from recsys.ranker.position_bias import PositionWeights
from recsys.ranker.rows import divided
from recsys.recipe.replay import Log, Serving, evenly

I64 = NDArray[np.int64]


def train_ranker(
    config: EngineConfig,
    log: Log,
    recipe: Recipe | None = None,
    options: RankerOptions | None = None,
    progress: Progress | None = None,
    *,
    among: I64 | None = None,
    serving: Serving | None = None,
    factors: PositionWeights | None = None,
) -> LearnedRanker:
    """Return a ranker trained on the log's newest events, point in time, on top of `recipe` (None: the default one) and of the models that
    are `serving`, which must not have seen these events.

    `among` are the places of the events that may be cases, ascending (k,); all targets of the log unless given. What users rejected within
    their range counts against it. `factors` (n,) multiply the weights of the log's events, to correct what their positions did.
    Raises: TooFewInteractions if fewer than 100 events make a case, or if no tree ranks the newest of them better than the recipe alone.
    """
    options = options or RankerOptions()
    targets = (log.targets(repeats=log.repeats(config)) if among is None else among)[-options.targets :]
    if not len(targets):
        raise TooFewInteractions("a ranker needs 100 cases or more, and no event is one")
    against = rejections(log)
    against = against[(against >= targets[0]) & (against <= targets[-1])]
    events = evenly(np.union1d(targets, against), options.cases)
    cases = gather(config, log, events, recipe, part_of(progress, 0.0, 0.7), serving)
    if factors is not None:
        cases = replace(cases, weights=cases.weights * factors[cases.events])
    return fit_ranker(cases, options, part_of(progress, 0.7, 1.0))


def fit_ranker(cases: RankerCases, options: RankerOptions | None = None, progress: Progress | None = None) -> LearnedRanker:
    """Return a ranker fitted to cases in order of time. The same input gives the same output. Raises: TooFewInteractions, ModelError."""
    options = options or RankerOptions()
    training, newest = divided(cases)
    fit = by_lightgbm.fit if options.learner_name == "lightgbm" else boosting.fit
    forest = fit(training, newest, options, progress)
    if forest is None:
        raise TooFewInteractions("no tree ranks the newest cases better than the recipe alone")
    return LearnedRanker(forest, cases.sources, options.learner_name, cases.scores.shape[1], cases.version, cases.devices)


def part_of(progress: Progress | None, first: float, last: float) -> Progress | None:
    """Return a progress that reports from `first` to `last` of the whole."""
    if progress is None:
        return None
    return lambda done, message: go_on(progress, first + (last - first) * done, message)
