"""A round for the recipe: replay the log, fit, and judge whole lists of challenger and champion on the newest events, point in time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.items import ItemContent
from recsys.engine import EngineConfig
from recsys.errors import TooFewInteractions
from recsys.evaluation.gate import CHAMPION, gate
from recsys.evaluation.protocol import thinned
from recsys.evaluation.ranking import Ranked
from recsys.lists.default_recipe import default_recipe
from recsys.lists.recipe import Recipe
from recsys.recipe.judge import judge
from recsys.recipe.options import RecipeOptions
from recsys.recipe.replay import Log, evenly
from recsys.recipe.train import train_recipe
from recsys.state.user_table import quantise_weights
from workers.lists.engine_config import engine_config_of
from workers.models.store import ModelStore
from workers.plugins import load_plugins
from workers.settings import ListSettings, StateSettings, TrainerSettings
from workers.trainer.catalogue_file import read_catalogue
from workers.trainer.judgement import CHALLENGER, POPULARITY, RECENT_POPULARITY, NoModel, choose_slice
from workers.trainer.progress import reporter
from workers.trainer.settling import Candidate, KindResult, champion_of, settle
from workers.trainer.training_columns import TrainingColumns

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Replayed:
    """The newest events of the log by event time, and the places of those that train and of those that judge, ascending."""

    log: Log
    training: I64
    judging: I64


@dataclass(frozen=True, slots=True)
class RecipeSections:
    """Settings that a recipe depends on, and the file with the catalogue; None: nothing is known of the content of items."""

    trainer: TrainerSettings
    state: StateSettings
    lists: ListSettings
    catalogue: Path | None

    def engine_config(self) -> EngineConfig:
        """Return the configuration of the engine that workers run."""
        return engine_config_of(self.state, self.lists, load_plugins())


def train_recipe_kind(columns: TrainingColumns, next_offsets: Mapping[int, int], sections: RecipeSections, store: ModelStore) -> KindResult:
    """Train, judge and store a recipe. Without a champion it has to beat the default recipe. Raises NoModel, CoreError, WorkerError."""
    settings, config = sections.trainer, sections.engine_config()
    champion = champion_of(Recipe.kind, columns, settings, store)
    chosen = choose_slice(columns, settings, champion.trained_on, next_offsets, champion.version)
    options = RecipeOptions.of(settings.options.get(Recipe.kind, {}), settings.seed)
    contents = {} if sections.catalogue is None else read_catalogue(sections.catalogue, columns.item_ids)
    replayed = _replayed(config, columns, contents, chosen.newest, options)
    serving = default_recipe() if champion.stored is None else champion.stored.recipe
    started = time.monotonic()
    try:
        challenger = train_recipe(config, replayed.log, options.training, serving, reporter(settings.max_seconds), among=replayed.training)
    except TooFewInteractions as error:
        raise NoModel(str(error), champion.version) from None
    train_s = time.monotonic() - started
    ranked = _judge(config, replayed, {CHALLENGER: challenger, CHAMPION: serving}, settings)
    decision = gate(
        ranked[CHALLENGER].scores,
        ranked[CHAMPION].scores,
        floors={name: ranked[name].scores for name in (POPULARITY, RECENT_POPULARITY)},
        min_targets=settings.min_targets,
        tolerance=settings.tolerance,
        seed=settings.seed,
    )
    n_judged, n_chosen = ranked[CHALLENGER].scores.n_targets, len(replayed.judging)
    if n_judged < n_chosen:
        decision = replace(decision, reason=f"{decision.reason}; trainer.max_seconds was up after {n_judged} of {n_chosen} targets")
    candidate = Candidate(challenger, train_s, chosen.newest)
    return settle(Recipe.kind, champion, candidate, ranked, decision, columns, next_offsets, settings, store)


def _replayed(
    config: EngineConfig, columns: TrainingColumns, contents: Mapping[int, ItemContent], newest: NDArray[np.bool_], options: RecipeOptions
) -> _Replayed:
    """Return the log in the order in which its events happened: that of the newest `options.events`."""
    order = np.lexsort((columns.arrivals(), columns.ts_ms))[-options.events :]
    log = Log(
        columns.user_codes[order].astype(np.int64),
        columns.item_codes[order].astype(np.int64),
        columns.ts_ms[order] // 1000,
        quantise_weights(columns.weights[order]),
        contents,
        columns.types[order],
    )
    targets, judges = log.targets(repeats=log.repeats(config)), newest[order]
    return _Replayed(log, targets[~judges[targets]], evenly(thinned(targets[judges[targets]], log.users), options.judged))


def _judge(config: EngineConfig, replayed: _Replayed, recipes: Mapping[str, Recipe], settings: TrainerSettings) -> dict[str, Ranked]:
    """Rank the judging events by the lists of each recipe, by popularity and by recent popularity; fewer where the time is up."""
    judged = judge(config, replayed.log, replayed.judging, recipes, progress=reporter(settings.max_seconds))
    return {name: Ranked(judged.users, ranks, {}) for name, ranks in judged.ranks.items()}
