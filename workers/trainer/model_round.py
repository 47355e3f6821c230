"""A round for one kind of model: train a challenger, judge it against champion and popularity, store and settle."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ShapeError, TooFewInteractions
from recsys.evaluation.gate import GATE_METRIC
from recsys.evaluation.protocol import Slice
from recsys.evaluation.ranking import evaluate
from recsys.models.base import Model, ScoresPairs
from recsys.models.checks import check_model
from recsys.models.content_map import MappedModel, ReadsContent
from recsys.models.kind import ModelKind
from recsys.models.neighbour import NeighbourModel
from recsys.models.ranks import ALONE, Ranks
from recsys.models.registry import MODELS
from recsys.models.training_set import TrainingSet
from workers.errors import describe
from workers.models.checkpoints import RoundKey, StoredCheckpoints
from workers.models.manifest import Refit, SearchOutcome
from workers.models.store import ModelStore
from workers.settings import TrainerSettings
from workers.trainer.judgement import CHALLENGER, HeldOut, NoModel, choose_slice, decide, judge
from workers.trainer.map_round import MapMaker
from workers.trainer.progress import report, report_traceback, reporter
from workers.trainer.search_round import searched_config
from workers.trainer.settling import Candidate, Champion, KindResult, champion_of, settle
from workers.trainer.training_columns import TrainingColumns


@dataclass(frozen=True, slots=True)
class _Trained:
    """A challenger with what it was judged on."""

    model: Model
    config: Any
    part: Slice
    newest: NDArray[np.bool_]
    train_s: float
    training_set: TrainingSet
    search: SearchOutcome | None


def train_model(
    kind: str,
    columns: TrainingColumns,
    next_offsets: Mapping[int, int],
    settings: TrainerSettings,
    store: ModelStore,
    maps: MapMaker | None = None,
    job: str = "",
    ranks: Ranks = ALONE,
) -> tuple[KindResult, HeldOut | None]:
    """Train, judge and store one kind of model, with its map from content if there are `maps`. `job` names the round for checkpoints, and
    `ranks` train along if the kind can.

    Return what came of it, and the model that serves now as it was before it saw the newest events; None if none serves.
    Raises NoModel, CoreError, WorkerError.
    """
    if kind not in MODELS:
        raise ShapeError(f"trainer.kinds names {kind}, which is not among {', '.join(MODELS)}")
    recipe, champion = MODELS[kind], champion_of(kind, columns, settings, store)
    trained = _challenger(recipe, columns, RoundKey(job, next_offsets), settings, champion, store, ranks)
    ranked = judge(trained.model, champion.stored, trained.part)
    decision = decide(ranked, settings, kind)
    candidate = Candidate(trained.model, trained.train_s, trained.newest, search=trained.search)
    judged: Model | MappedModel = trained.model
    if decision.promote:
        model, refit = _refit(recipe, trained, ranked[CHALLENGER].metrics(), columns, settings, ranks)
        content: Model | MappedModel = model
        if maps is not None and not isinstance(model, NeighbourModel | ScoresPairs | ReadsContent):  # no vectors, or a map of their own
            trained_on = trained.training_set if refit is None else columns.training_set()
            judged, content = _mapped(maps, trained, model, trained_on, settings.seed)
        candidate = replace(candidate, content=content, refit=refit)
    result = settle(kind, champion, candidate, ranked, decision, columns, next_offsets, settings, store)
    if result.action == "promoted":
        return result, HeldOut(judged, trained.newest)
    return result, None if champion.stored is None else HeldOut(champion.stored.served, trained.newest)


def _mapped(
    maps: MapMaker, trained: _Trained, model: Model, trained_on: TrainingSet, seed: int
) -> tuple[Model | MappedModel, Model | MappedModel]:
    """Return the judged model and the one that is to serve, `trained_on` these interactions, both with their maps from content. A map that
    cannot be learnt keeps no model from serving."""
    try:
        learnt = maps.learn(trained.model, trained.training_set, seed)
        return maps.mapped(trained.model, trained.training_set, learnt), maps.mapped(model, trained_on, learnt)
    except Exception as error:
        report(f"WARNING {model.kind}: no map from content: {describe(error)}")
        report_traceback(error)
        return trained.model, model


def _challenger(
    recipe: ModelKind,
    columns: TrainingColumns,
    key: RoundKey,
    settings: TrainerSettings,
    champion: Champion,
    store: ModelStore,
    ranks: Ranks,
) -> _Trained:
    """Train a challenger on everything but the slice, with the options that a search found, if one is due or was made. Raises NoModel,
    CoreError."""
    judging = choose_slice(columns, settings, champion.trained_on, key.next_offsets, champion.version)
    part = _part(columns, judging.newest)
    training_set = columns.training_set(judging.newest, unseen=judging.unseen)
    warm_start = None if champion.stored is None else champion.stored.model
    checkpoints = None
    if settings.checkpoint_s and recipe.resume is not None:
        checkpoints = StoredCheckpoints(store, recipe.model.kind, key, settings.checkpoint_s, report)
    try:
        config, search = searched_config(recipe, training_set, settings, store)
        started = time.monotonic()
        model = recipe.train(training_set, config, time.monotonic, reporter(settings.max_seconds), warm_start, checkpoints, ranks)
        check_model(model)
    except Exception as error:
        if checkpoints is not None:  # it would fail again from there
            checkpoints.remove()
        if isinstance(error, TooFewInteractions):
            raise NoModel(str(error), champion.version) from None
        raise
    return _Trained(model, config, part, judging.newest, time.monotonic() - started, training_set, search)


def _part(columns: TrainingColumns, newest: NDArray[np.bool_]) -> Slice:
    """Return the slice that judges, with what workers know beside histories: what items say, and profiles of its users."""
    own = columns.user_codes, columns.item_codes, columns.item_ids, columns.weights, columns.ts_ms
    part, profiles = Slice.cut(*own, newest, columns.types), columns.profiles
    of_users = None if profiles is None else profiles.at(np.unique(columns.user_codes[columns.weights != 0]).astype(np.int64)).columns
    return replace(part, descriptions=columns.descriptions, user_profiles=of_users)


def _refit(
    recipe: ModelKind, trained: _Trained, judged: Mapping[str, float], columns: TrainingColumns, settings: TrainerSettings, ranks: Ranks
) -> tuple[Model, Refit | None]:
    """A short warm-started pass over all events, the slice included; the judged model itself if the pass made it worse even there."""
    model = trained.model
    try:
        config, progress = recipe.refit(trained.config), reporter(settings.max_seconds)
        short = recipe.train(columns.training_set(), config, time.monotonic, progress, model, ranks=ranks)
        check_model(short)
    except Exception as error:  # the judged model is good as it is
        report(f"WARNING {model.kind}: the pass over the newest slice failed, the judged model serves without it: {describe(error)}")
        report_traceback(error)
        return model, None
    after = evaluate(short, trained.part)[GATE_METRIC]
    if after < judged[GATE_METRIC]:
        report(f"{model.kind}: the pass over the newest slice made it worse ({after:.4f}); the judged model serves as it is")
        return model, None
    return short, Refit(split_ts_ms=trained.part.split_ts_ms, metric=GATE_METRIC, judged=judged[GATE_METRIC], after=after)
