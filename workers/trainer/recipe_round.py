"""A round for the recipe: replay the log, fit, and judge whole lists of challenger and champion on the newest events, point in time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.item_vectors import ItemVectors, with_texts
from recsys.catalogue.items import ItemContent
from recsys.engine import EngineConfig
from recsys.errors import TooFewInteractions
from recsys.evaluation.gate import CHAMPION, gate
from recsys.evaluation.protocol import thinned
from recsys.evaluation.ranking import Ranked
from recsys.lists.default_recipe import default_recipe
from recsys.lists.recipe import Recipe
from recsys.models.registry import PROFILE_MODELS
from recsys.ranker.budget import RankerOptions
from recsys.recipe.fit import LEAST_CASES
from recsys.recipe.gains import with_and_without_models
from recsys.recipe.judge import judge
from recsys.recipe.options import RecipeOptions
from recsys.recipe.replay import Log, Serving, evenly, with_beginnings
from recsys.recipe.train import train_recipe, with_model_weights
from recsys.state.profiles import ProfileColumns
from recsys.state.user_table import quantise_weights
from workers.lists.engine_config import engine_config_of
from workers.models.store import ModelStore
from workers.plugins import load_plugins
from workers.settings import ListSettings, StateSettings, TrainerSettings
from workers.trainer.catalogue_file import read_catalogue
from workers.trainer.gains_round import Gains, of_gains
from workers.trainer.impressions import replayed_impressions
from workers.trainer.judgement import CHALLENGER, POPULARITY, RECENT_POPULARITY, HeldOut, NoModel, choose_slice
from workers.trainer.profiles_file import Profiles
from workers.trainer.progress import report, reporter
from workers.trainer.settling import Candidate, KindResult, champion_of, settle
from workers.trainer.training_columns import TrainingColumns

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Replayed:
    """The newest events of the log by event time, their `order` among all, and the places of those that train and of those that judge,
    ascending. Where models are `serving`, the places of those that train the models' weights, and those that judge came after these."""

    log: Log
    order: I64
    training: I64
    judging: I64
    serving: Serving | None
    weighing: I64


@dataclass(frozen=True, slots=True)
class RecipeSections:
    """Settings that a recipe depends on, and the file with the catalogue; None: nothing is known of the content of items. `texts` are the
    vectors of their texts, if there are some."""

    trainer: TrainerSettings
    state: StateSettings
    lists: ListSettings
    catalogue: Path | None
    texts: ItemVectors | None = None

    def contents(self, item_ids: Sequence[str]) -> dict[int, ItemContent]:
        """Return what is known of these items, by their position."""
        found = {} if self.catalogue is None else read_catalogue(self.catalogue, item_ids)
        return found if self.texts is None else with_texts(found, item_ids, self.texts)

    def engine_config(self) -> EngineConfig:
        """Return the configuration of the engine that workers run."""
        return engine_config_of(self.state, self.lists, load_plugins())


def train_recipe_kind(
    columns: TrainingColumns,
    next_offsets: Mapping[int, int],
    sections: RecipeSections,
    store: ModelStore,
    held_out: Mapping[str, HeldOut] = MappingProxyType({}),
    profiles: Profiles | None = None,
) -> list[KindResult]:
    """Train, judge and store a recipe, with the weights of the models `held_out` by kind, and judge it by lists that they take part in.

    Return what came of it, and with `trainer.least_gain` also of the kind that it retires, if any.

    Where segments are among them, `profiles` make users' first touches cases too.

    Models have seen every event but the newest, so the older half of these trains their weights and the other half judges. Without a
    champion the recipe has to beat the default one. Raises NoModel, CoreError, WorkerError.
    """
    settings, config = sections.trainer, sections.engine_config()
    champion = champion_of(Recipe.kind, columns, settings, store)
    chosen = choose_slice(columns, settings, champion.trained_on, next_offsets, champion.version)
    options = RecipeOptions.of(settings.options.get(Recipe.kind, {}), settings.seed)
    contents = sections.contents(columns.item_ids)
    replayed = replayed_log(config, columns, contents, chosen.newest, options, held_out, settings.min_targets, profiles)
    serving = default_recipe() if champion.stored is None else champion.stored.recipe
    started = time.monotonic()
    try:
        challenger = train_recipe(config, replayed.log, options.training, serving, reporter(settings.max_seconds), among=replayed.training)
        challenger, without = _weighed(config, replayed, challenger, options, settings)
    except TooFewInteractions as error:
        raise NoModel(str(error), champion.version) from None
    train_s = time.monotonic() - started
    contenders = {CHALLENGER: challenger, CHAMPION: serving, **of_gains(without, serving)}
    ranked = _judge(config, replayed, contenders, settings)
    gains = Gains.of(ranked, without, settings)
    if gains.useless is not None:
        challenger, ranked = gains.without_it(without, ranked)
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
    candidate = Candidate(challenger, train_s, chosen.newest, gains=gains.records())
    result = settle(Recipe.kind, champion, candidate, ranked, decision, columns, next_offsets, settings, store)
    return [result, *gains.retired(result, store, len(columns))]


def _profiles_for(profiles: Profiles | None, held_out: Mapping[str, HeldOut]) -> ProfileColumns | None:
    """Return the profiles by user where a model that reads them takes part."""
    return None if profiles is None or not set(PROFILE_MODELS) & set(held_out) else profiles.columns


def _weighed(
    config: EngineConfig, replayed: Replayed, recipe: Recipe, options: RecipeOptions, settings: TrainerSettings
) -> tuple[Recipe, dict[str, Recipe]]:
    """Return the recipe with weights of the models that are serving; and where gains are measured, one without each of them, by kind."""
    if replayed.serving is None:
        return recipe, {}
    kinds, events = " and ".join(replayed.serving.models), with_beginnings(replayed.log, replayed.weighing, options.cases)
    report(f"recipe: weights of {kinds} from {len(events):,} events that they have not seen")
    try:
        progress = reporter(settings.max_seconds)
        if settings.least_gain:
            return with_and_without_models(config, replayed.log, events, recipe, replayed.serving, options.training, progress)
        return with_model_weights(config, replayed.log, events, recipe, replayed.serving, options.training, progress), {}
    except TooFewInteractions as error:
        report(f"recipe: the weights of {kinds} stay as they are: {error}")
        return recipe, {}


def replayed_log(
    config: EngineConfig,
    columns: TrainingColumns,
    contents: Mapping[int, ItemContent],
    newest: NDArray[np.bool_],
    options: RecipeOptions | RankerOptions,
    held_out: Mapping[str, HeldOut],
    min_targets: int,
    profiles: Profiles | None,
) -> Replayed:
    """Return the log in the order in which its events happened: that of the newest `options.events`. Models that are sources of lists take
    part, if enough events that they have not seen are left to judge."""
    held_out = {kind: held for kind, held in held_out.items() if config.source_weights.get(kind, 0.0) > 0}
    order = np.lexsort((columns.arrivals(), columns.ts_ms))[-options.events :]
    log = Log(
        columns.user_codes[order].astype(np.int64),
        columns.item_codes[order].astype(np.int64),
        columns.ts_ms[order] // 1000,
        quantise_weights(columns.weights[order]),
        contents,
        columns.types[order],
        _profiles_for(profiles, held_out),
        replayed_impressions(columns, order),
    )
    targets, judges = log.targets(repeats=log.repeats(config)), newest[order]
    training, judging = targets[~judges[targets]], targets[judges[targets]]
    unseen = judging[np.all([held.newest[order][judging] for held in held_out.values()], axis=0)] if held_out else judging[:0]
    weighing, after = np.split(unseen, [len(unseen) // 2])
    after = evenly(thinned(after, log.users), options.judged)
    if len(after) >= min_targets and len(weighing) >= LEAST_CASES:
        serving = Serving({kind: held.model for kind, held in held_out.items()}, {item: code for code, item in enumerate(columns.item_ids)})
        return Replayed(log, order, training, after, serving, weighing)
    return Replayed(log, order, training, evenly(thinned(judging, log.users), options.judged), None, judging[:0])


def _judge(config: EngineConfig, replayed: Replayed, recipes: Mapping[str, Recipe], settings: TrainerSettings) -> dict[str, Ranked]:
    """Rank the judging events by the lists of each recipe, by popularity and by recent popularity; fewer where the time is up."""
    judged = judge(
        config, replayed.log, replayed.judging, recipes, progress=reporter(settings.max_seconds), serving=replayed.serving
    )
    return {name: Ranked(judged.users, ranks, {}) for name, ranks in judged.ranks.items()}
