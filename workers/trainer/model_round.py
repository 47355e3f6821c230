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
from recsys.models.base import Model
from recsys.models.checks import check_model
from recsys.models.registry import MODELS, ModelKind
from workers.errors import describe
from workers.models.manifest import Refit
from workers.models.store import ModelStore
from workers.settings import TrainerSettings
from workers.trainer.judgement import CHALLENGER, NoModel, choose_slice, decide, judge
from workers.trainer.progress import report, report_traceback, reporter
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


def train_model(
    kind: str, columns: TrainingColumns, next_offsets: Mapping[int, int], settings: TrainerSettings, store: ModelStore
) -> KindResult:
    """Train, judge and store one kind of model. Raises NoModel, CoreError, WorkerError."""
    if kind not in MODELS:
        raise ShapeError(f"trainer.kinds names {kind}, which is not among {', '.join(MODELS)}")
    recipe, champion = MODELS[kind], champion_of(kind, columns, settings, store)
    trained = _challenger(recipe, columns, next_offsets, settings, champion)
    ranked = judge(trained.model, champion.stored, trained.part)
    decision = decide(ranked, settings, kind)
    candidate = Candidate(trained.model, trained.train_s, trained.newest)
    if decision.promote:
        model, refit = _refit(recipe, trained, ranked[CHALLENGER].metrics(), columns, settings)
        candidate = replace(candidate, content=model, refit=refit)
    return settle(kind, champion, candidate, ranked, decision, columns, next_offsets, settings, store)


def _challenger(
    recipe: ModelKind,
    columns: TrainingColumns,
    next_offsets: Mapping[int, int],
    settings: TrainerSettings,
    champion: Champion,
) -> _Trained:
    """Train a challenger on everything but the slice. Raises NoModel, CoreError."""
    judging = choose_slice(columns, settings, champion.trained_on, next_offsets, champion.version)
    part = Slice.cut(columns.user_codes, columns.item_codes, columns.item_ids, columns.weights, columns.ts_ms, judging.newest)
    config = recipe.configure(settings.options.get(recipe.model.kind, {}), {"factors": settings.factors, "seed": settings.seed})
    started = time.monotonic()
    training_set = columns.training_set(judging.newest, unseen=judging.unseen)
    warm_start = None if champion.stored is None else champion.stored.model
    try:
        model = recipe.fit(training_set, config, reporter(settings.max_seconds), warm_start)
    except TooFewInteractions as error:
        raise NoModel(str(error), champion.version) from None
    return _Trained(model, config, part, judging.newest, time.monotonic() - started)


def _refit(
    recipe: ModelKind, trained: _Trained, judged: Mapping[str, float], columns: TrainingColumns, settings: TrainerSettings
) -> tuple[Model, Refit | None]:
    """A short warm-started pass over all events, the slice included; the judged model itself if the pass made it worse even there."""
    model = trained.model
    try:
        short = recipe.fit(columns.training_set(), recipe.refit(trained.config), reporter(settings.max_seconds), model)
        check_model(short)
    except Exception as error:  # the judged model is good as it is
        report(f"ERROR {model.kind}: the pass over the newest slice failed, the judged model serves without it: {describe(error)}")
        report_traceback(error)
        return model, None
    after = evaluate(short, trained.part)[GATE_METRIC]
    if after < judged[GATE_METRIC]:
        report(f"{model.kind}: the pass over the newest slice made it worse ({after:.4f}); the judged model serves as it is")
        return model, None
    return short, Refit(split_ts_ms=trained.part.split_ts_ms, metric=GATE_METRIC, judged=judged[GATE_METRIC], after=after)
