"""One round of training: log ▸ train ▸ judge ▸ store ▸ promote or refuse, for each kind of model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from recsys.errors import CoreError, ShapeError, TooFewInteractions
from recsys.evaluation.gate import GATE_METRIC, GateDecision
from recsys.evaluation.protocol import Slice
from recsys.evaluation.ranking import evaluate
from recsys.models.base import Model
from recsys.models.checks import check_model
from recsys.models.registry import MODELS, ModelKind
from workers.errors import Fatal, WorkerError, describe, one_line
from workers.models.manifest import ChampionMoved, Metrics, Refit, TrainedOn
from workers.models.model_files import StoredModel
from workers.models.store import ModelStore
from workers.settings import ListSettings, Settings, StateSettings, TrainerSettings, WeightSettings
from workers.trainer.event_log import EventLog
from workers.trainer.judgement import CHALLENGER, NoModel, choose_slice, decide, judge
from workers.trainer.progress import report, report_traceback, reporter
from workers.trainer.training_columns import TrainingColumns


class TrainingJob(BaseModel):
    """Input of a round; it names neither Kafka nor Redis and holds no secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trainer: TrainerSettings
    weights: WeightSettings
    state: StateSettings = StateSettings()
    lists: ListSettings = ListSettings()
    next_offsets: dict[int, int] | None = None
    """Partition ▸ first offset to leave out; None reads the whole log."""

    @classmethod
    def of(cls, settings: Settings, next_offsets: Mapping[int, int] | None = None) -> TrainingJob:
        """Return the job of these settings."""
        return cls(
            trainer=settings.trainer,
            weights=settings.weights,
            state=settings.state,
            lists=settings.lists,
            next_offsets=None if next_offsets is None else dict(next_offsets),
        )


@dataclass(frozen=True, slots=True)
class KindResult:
    """Result of one kind. `figures` are the gate's; `champion` is the version that served before."""

    kind: str
    action: Literal["promoted", "refused", "skipped", "failed"]
    version: str | None
    champion: str | None
    reason: str
    figures: dict[str, float]
    train_s: float

    def __str__(self) -> str:
        """Say what happened, in one line."""
        return f"{self.kind if self.version is None else self.version}: {self.action}, {self.reason}"


@dataclass(frozen=True, slots=True)
class _Trained:
    """A challenger with what it was judged on."""

    model: Model
    config: Any
    part: Slice
    newest: NDArray[np.bool_]
    train_s: float


def run_job(job: TrainingJob) -> list[KindResult]:
    """Train, judge and store every kind of the job. One kind that fails does not keep the others from being trained."""
    log, store = EventLog(job.trainer.log_url, duplicate_chunk=job.state.duplicate_chunk), ModelStore(job.trainer.model_url)
    next_offsets = log.next_offsets() if job.next_offsets is None else job.next_offsets
    columns = TrainingColumns.of(log.read(next_offsets), job.weights)
    results = []
    for kind in job.trainer.kinds:
        started = time.monotonic()
        try:
            results.append(_train_kind(kind, columns, next_offsets, job.trainer, store))
        except NoModel as error:
            results.append(KindResult(kind, "skipped", None, error.champion, f"no model because {error}", {}, time.monotonic() - started))
        except Exception as error:
            expected = isinstance(error, CoreError | WorkerError)
            why = str(error) if expected else f"unexpected {describe(error)}"
            results.append(KindResult(kind, "failed", None, None, f"no model because {why}", {}, time.monotonic() - started))
            report_traceback(error)
        report(str(results[-1]))
    return results


def _train_kind(
    kind: str, columns: TrainingColumns, next_offsets: Mapping[int, int], settings: TrainerSettings, store: ModelStore
) -> KindResult:
    """Train, judge and store one kind. Raises NoModel, CoreError, WorkerError."""
    if kind not in MODELS:
        raise ShapeError(f"trainer.kinds names {kind}, which is not among {', '.join(MODELS)}")
    recipe = MODELS[kind]
    champion_version = store.champion(kind)
    if store.is_retired(kind):
        raise NoModel(f"the kind is retired; `recsys models rollback {kind}` or `promote` brings it back", None)
    if len(columns) < settings.min_events:
        raise NoModel(f"only {len(columns)} events count, fewer than trainer.min_events ({settings.min_events})", champion_version)
    champion = _readable(store, kind, champion_version)
    trained = _challenger(recipe, columns, next_offsets, settings, champion, champion_version)
    ranked = judge(trained.model, champion, trained.part)
    metrics = {who: found.metrics() for who, found in ranked.items()}
    decision = decide(ranked, settings, kind)
    if champion is None and champion_version is not None:
        decision = replace(decision, reason=f"{champion_version} cannot be read and counts as none; {decision.reason}")
    model, refit = trained.model, None
    if decision.promote:
        model, refit = _refit(recipe, trained, metrics[CHALLENGER], columns, settings)
    manifest = store.save(
        model,
        parent=None if champion is None else champion_version,
        metrics=metrics,
        decision=decision.reason,
        trained_on=_trained_on(columns, None if refit is not None else trained.newest, next_offsets),
        trained_ts_ms=int(time.time() * 1000),
        train_s=round(trained.train_s, 3),
        refit=refit,
        code_version=code_version(),
    )
    return _settle(store, kind, manifest.version, champion_version, decision, metrics[CHALLENGER], trained.train_s, settings)


def _challenger(
    recipe: ModelKind,
    columns: TrainingColumns,
    next_offsets: Mapping[int, int],
    settings: TrainerSettings,
    champion: StoredModel | None,
    champion_version: str | None,
) -> _Trained:
    """Train a challenger on everything but the slice. Raises NoModel, CoreError."""
    trained_on = None if champion is None else champion.manifest.trained_on
    judging = choose_slice(columns, settings, trained_on, next_offsets, champion_version)
    part = Slice.cut(columns.user_codes, columns.item_codes, columns.item_ids, columns.weights, columns.ts_ms, judging.newest)
    config = recipe.configure(settings.options.get(recipe.model.kind, {}), {"factors": settings.factors, "seed": settings.seed})
    started = time.monotonic()
    training_set = columns.training_set(judging.newest, unseen=judging.unseen)
    try:
        model = recipe.fit(training_set, config, reporter(settings.max_seconds), None if champion is None else champion.model)
    except TooFewInteractions as error:
        raise NoModel(str(error), champion_version) from None
    return _Trained(model, config, part, judging.newest, time.monotonic() - started)


def _settle(
    store: ModelStore,
    kind: str,
    version: str,
    champion_version: str | None,
    decision: GateDecision,
    metrics: Metrics,
    train_s: float,
    settings: TrainerSettings,
) -> KindResult:
    """Promote a stored version if the gate said so and nobody was faster; remove old versions."""
    if decision.promote:
        try:
            store.promote(kind, version, metrics=metrics, reason=decision.reason, judged_against=champion_version)
        except ChampionMoved as moved:  # somebody promoted or rolled back since: their choice stays
            decision = replace(decision, promote=False, reason=f"{moved}; {decision.reason}")
    try:
        store.prune(kind, settings.keep_versions)
    except (WorkerError, OSError) as error:  # the decision stands whatever becomes of old versions
        report(f"ERROR {kind}: old versions could not be removed: {one_line(error)}")
    action: Literal["promoted", "refused"] = "promoted" if decision.promote else "refused"
    return KindResult(kind, action, version, champion_version, decision.reason, decision.figures, round(train_s, 3))


def _readable(store: ModelStore, kind: str, version: str | None) -> StoredModel | None:
    """The champion; None if there is none, or none that can be read, which would otherwise fail its kind in every round from here on."""
    if version is None:
        return None
    try:
        return store.load_stored(kind, version)
    except Fatal as error:
        report(f"ERROR {kind}: the champion {version} cannot be read, a challenger has to beat popularity instead: {error}")
        return None


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


def _trained_on(columns: TrainingColumns, left_out: NDArray[np.bool_] | None, next_offsets: Mapping[int, int]) -> TrainedOn:
    """Say what a model has seen: one event at least, or there would be no model."""
    ts_ms = columns.ts_ms if left_out is None else columns.ts_ms[~left_out]
    return TrainedOn(
        n_events=len(ts_ms),
        first_event_ts_ms=int(ts_ms.min()),
        last_event_ts_ms=int(ts_ms.max()),
        next_offsets=dict(next_offsets),
    )


def code_version() -> str:
    """Return the version of this program, for the manifest."""
    try:
        return version("recsys-stream")
    except PackageNotFoundError:
        return "unknown"
