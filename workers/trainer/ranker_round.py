"""A round for the learned ranker: replay the log, grow trees on top of the recipe that serves, and judge whole lists, point in time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from recsys.errors import TooFewInteractions
from recsys.evaluation.gate import CHAMPION, gate
from recsys.evaluation.ranking import Ranked
from recsys.lists.learned.ranker import LearnedRanker
from recsys.lists.recipe import Recipe
from recsys.ranker.budget import RankerOptions
from recsys.ranker.position_bias import PositionWeights
from recsys.ranker.train import train_ranker
from recsys.recipe.devices import Devices
from recsys.recipe.judge import judge
from workers.errors import Fatal
from workers.models.store import ModelStore
from workers.trainer.judgement import CHALLENGER, POPULARITY, RECENT_POPULARITY, HeldOut, NoModel, choose_slice
from workers.trainer.profiles_file import Profiles
from workers.trainer.progress import report, reporter
from workers.trainer.recipe_round import RecipeSections, replayed_log
from workers.trainer.settling import Candidate, KindResult, champion_of, settle
from workers.trainer.training_columns import TrainingColumns

RECIPE_ALONE = "recipe"
"""Figures of the lists without a ranker."""


def train_ranker_kind(
    columns: TrainingColumns,
    next_offsets: Mapping[int, int],
    sections: RecipeSections,
    store: ModelStore,
    held_out: Mapping[str, HeldOut] = MappingProxyType({}),
    profiles: Profiles | None = None,
    position_weights: PositionWeights | None = None,
    devices: Devices | None = None,
) -> KindResult:
    """Train, judge and store a ranker on top of the recipe that serves, with the models `held_out` by kind.

    Models have seen every event but the newest, so the older half of these trains the ranker where models serve, and the other half judges.
    The ranker has to beat the one that serves, or the recipe alone where none does, on lists; and never less than the recipe alone.
    `position_weights` (n,) correct what positions on lists did to the events, and `devices` (n,) say where these happened. Raises NoModel,
    CoreError, WorkerError.
    """
    settings, config = sections.trainer, sections.engine_config()
    champion = champion_of(LearnedRanker.kind, columns, settings, store)
    chosen = choose_slice(columns, settings, champion.trained_on, next_offsets, champion.version)
    options = RankerOptions.of(settings.options.get(LearnedRanker.kind, {}), settings.seed)
    contents = sections.contents(columns.item_ids)
    replayed = replayed_log(config, columns, contents, chosen.newest, options, held_out, settings.min_targets, profiles)
    if devices is not None:
        replayed = replace(replayed, log=replace(replayed.log, devices=devices.at(replayed.order)))
    recipe, serving = _recipe(store), None if champion.stored is None else champion.stored.ranker
    among = replayed.training if replayed.serving is None else replayed.weighing
    started = time.monotonic()
    try:
        challenger = train_ranker(
            config,
            replayed.log,
            recipe,
            options,
            reporter(settings.max_seconds),
            among=among,
            serving=replayed.serving,
            factors=None if position_weights is None else position_weights[replayed.order],
        )
    except TooFewInteractions as error:
        raise NoModel(str(error), champion.version) from None
    train_s = time.monotonic() - started
    rankers = {CHALLENGER: challenger} | ({} if serving is None else {CHAMPION: serving})
    lists = dict.fromkeys((CHALLENGER, CHAMPION, RECIPE_ALONE), recipe)
    progress = reporter(settings.max_seconds)
    judged = judge(config, replayed.log, replayed.judging, lists, progress=progress, serving=replayed.serving, rankers=rankers)
    ranked = {name: Ranked(judged.users, ranks, {}) for name, ranks in judged.ranks.items()}
    decision = gate(
        ranked[CHALLENGER].scores,
        ranked[CHAMPION].scores,
        floors={name: ranked[name].scores for name in (RECIPE_ALONE, POPULARITY, RECENT_POPULARITY)},
        min_targets=settings.min_targets,
        tolerance=settings.tolerance,
        seed=settings.seed,
    )
    candidate = Candidate(challenger, train_s, chosen.newest)
    return settle(LearnedRanker.kind, champion, candidate, ranked, decision, columns, next_offsets, settings, store)


def _recipe(store: ModelStore) -> Recipe | None:
    """Return the recipe that serves; None for the default one, and where that which serves cannot be read."""
    version = store.champion(Recipe.kind)
    if version is None:
        return None
    try:
        return store.load_stored(Recipe.kind, version).recipe
    except Fatal as error:
        report(f"WARNING ranker: {version} cannot be read, the ranker is trained on top of the default recipe: {error}")
        return None
