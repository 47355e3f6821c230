"""One round of training, in a process of its own: log ▸ train ▸ judge ▸ store ▸ promote or refuse.

`python -m workers.trainer.child [PARENT]` reads a `TrainingJob` as JSON from standard input, reports its progress on standard error,
and prints one JSON object as the last line of standard output. The process runs at low priority and gives its memory back
by ending; SIGTERM ends it at once, and what is half written in the store counts as nothing.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.errors import CoreError, ShapeError, TooFewInteractions
from recsys.evaluation.gate import GATE_METRIC, GateDecision, gate
from recsys.evaluation.protocol import Slice, evaluate, evaluate_popularity, newest_events
from recsys.models.base import Model
from recsys.models.checks import check_model
from recsys.models.popular.model import PopularModel
from recsys.models.registry import MODELS, ModelKind
from workers.errors import Fatal, WorkerError, describe, one_line
from workers.models.manifest import ChampionMoved, Refit, TrainedOn
from workers.models.model_files import StoredModel
from workers.models.store import ModelStore
from workers.runtime.text import visible
from workers.settings import Settings, StateSettings, TrainerSettings, WeightSettings
from workers.trainer.event_log import EventLog
from workers.trainer.training_columns import TrainingColumns

_PR_SET_PDEATHSIG = 1
NICENESS = 10
"""Added to the process's niceness, so that training yields to the stream."""


class TrainingJob(BaseModel):
    """Input of a training process; it names neither Kafka nor Redis and holds no secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trainer: TrainerSettings
    weights: WeightSettings
    duplicate_chunk: int = StateSettings.model_fields["duplicate_chunk"].default
    next_offsets: dict[int, int] | None = None
    """Partition ▸ first offset to leave out; None reads the whole log."""

    @classmethod
    def of(cls, settings: Settings, next_offsets: Mapping[int, int] | None = None) -> TrainingJob:
        """Return the job of these settings."""
        return cls(
            trainer=settings.trainer,
            weights=settings.weights,
            duplicate_chunk=settings.state.duplicate_chunk,
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


def run_job(job: TrainingJob) -> list[KindResult]:
    """Train, judge and store every kind of the job. One kind that fails does not keep the others from being trained."""
    log, store = EventLog(job.trainer.log_url, duplicate_chunk=job.duplicate_chunk), ModelStore(job.trainer.model_url)
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
        report(f"{kind}: {results[-1].action}, {results[-1].reason}")
    return results


class NoModel(Exception):
    """The log has nothing that this kind could learn from or be judged on; later rounds may. `champion` goes on serving."""

    def __init__(self, why: str, champion: str | None) -> None:
        super().__init__(why)
        self.champion = champion


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
    newest = _newest_slice(columns, settings, champion, champion_version)
    part = Slice.cut(columns.user_codes, columns.item_codes, columns.item_ids, columns.weights, columns.ts_ms, newest)

    config = recipe.configure(settings.options.get(kind, {}), {"factors": settings.factors, "seed": settings.seed})
    started = time.monotonic()
    warm_start = None if champion is None else champion.model
    try:
        challenger = recipe.fit(columns.training_set(newest), config, _reporter(settings.max_seconds), warm_start)
    except TooFewInteractions as error:
        raise NoModel(str(error), champion_version) from None
    train_s = time.monotonic() - started

    judged = evaluate(challenger, part)
    metrics = {"challenger": judged, "popularity": evaluate_popularity(part)}
    if champion is not None:
        metrics["champion"] = evaluate(champion.model, part)
    decision = decide(metrics, settings, kind)
    if champion is None and champion_version is not None:
        decision = replace(decision, reason=f"{champion_version} cannot be read and counts as none; {decision.reason}")
    refit: Refit | None = None
    if decision.promote:
        challenger, refit = _refit(recipe, config, challenger, judged, columns, part, settings)
    manifest = store.save(
        challenger,
        parent=None if champion is None else champion_version,
        metrics=metrics,
        decision=decision.reason,
        trained_on=_trained_on(columns, None if refit is not None else newest, next_offsets),
        trained_ts_ms=int(time.time() * 1000),
        train_s=round(train_s, 3),
        refit=refit,
        code_version=code_version(),
    )
    if decision.promote:
        try:
            store.promote(kind, manifest.version, metrics=judged, reason=decision.reason, judged_against=champion_version)
        except ChampionMoved as moved:  # somebody promoted or rolled back since: their choice stays
            decision = replace(decision, promote=False, reason=f"{moved}; {decision.reason}")
    try:
        store.prune(kind, settings.keep_versions)
    except (WorkerError, OSError) as error:  # the decision stands whatever becomes of old versions
        report(f"ERROR {kind}: old versions could not be removed: {one_line(error)}")
    action: Literal["promoted", "refused"] = "promoted" if decision.promote else "refused"
    return KindResult(kind, action, manifest.version, champion_version, decision.reason, decision.figures, round(train_s, 3))


def _newest_slice(
    columns: TrainingColumns, settings: TrainerSettings, champion: StoredModel | None, champion_version: str | None
) -> NDArray[np.bool_]:
    """Which events judge, (n,). Raises NoModel if the others leave nothing to learn from."""
    if not (columns.weights > 0).any():
        raise NoModel(f"none of {len(columns)} events is a preference, all are dislikes", champion_version)
    seen_until: int | None = None
    unseen: NDArray[np.bool_] | None = None
    if champion is not None:
        seen_until = champion.manifest.trained_on.last_event_ts_ms
        unseen = columns.arrived_since(champion.manifest.trained_on.next_offsets)
        if not (columns.ts_ms > seen_until).any() and not unseen.any():
            raise NoModel("no event is newer than those the champion has seen", champion_version)
    newest = newest_events(columns.ts_ms, columns.arrivals(), settings.holdout, seen_until_ms=seen_until, unseen=unseen)
    if not (columns.weights[~newest] > 0).any():
        n_left = len(columns) - int(newest.sum())
        raise NoModel(f"none of the {n_left} events before the newest slice is a preference", champion_version)
    return newest


def _readable(store: ModelStore, kind: str, version: str | None) -> StoredModel | None:
    """The champion; None if there is none, or none that can be read, which would otherwise fail its kind in every round from here on."""
    if version is None:
        return None
    try:
        return store.load_stored(kind, version)
    except Fatal as error:
        report(f"ERROR {kind}: the champion {version} cannot be read, a challenger has to beat popularity instead: {error}")
        return None


def decide(metrics: Mapping[str, Mapping[str, float]], settings: TrainerSettings, kind: str) -> GateDecision:
    """The gate's answer to `challenger` and `champion` (if there is one), with popularity's figure beside it.

    The kind `popular` is popularity itself and need not beat it.
    """
    popularity = {"popularity": metrics["popularity"][GATE_METRIC]}
    if 0 < metrics["challenger"]["n_targets"] < settings.min_targets:
        n_targets = metrics["challenger"]["n_targets"]
        reason = f"the newest slice holds {n_targets:.0f} targets, fewer than trainer.min_targets ({settings.min_targets})"
        return GateDecision(False, reason, {"n_targets": n_targets, **popularity})
    rival = None if kind == PopularModel.kind else metrics["popularity"]
    decision = gate(metrics.get("champion"), metrics["challenger"], popularity=rival, tolerance=settings.tolerance)
    reason = f"{decision.reason}; popularity {popularity['popularity']:.4f}"
    return GateDecision(decision.promote, reason, {**decision.figures, **popularity})


def _refit(
    recipe: ModelKind,
    config: Any,
    challenger: Model,
    judged: Mapping[str, float],
    columns: TrainingColumns,
    part: Slice,
    settings: TrainerSettings,
) -> tuple[Model, Refit | None]:
    """A short warm-started pass over all events, the slice included; the judged model itself if the pass made it worse even there."""
    try:
        short = recipe.fit(columns.training_set(), recipe.refit(config), _reporter(settings.max_seconds), challenger)
        check_model(short)
    except Exception as error:  # the judged model is good as it is
        report(f"ERROR {challenger.kind}: the pass over the newest slice failed, the judged model serves without it: {describe(error)}")
        report_traceback(error)
        return challenger, None
    after = evaluate(short, part)[GATE_METRIC]
    if after < judged[GATE_METRIC]:
        report(f"{challenger.kind}: the pass over the newest slice made it worse ({after:.4f}); the judged model serves as it is")
        return challenger, None
    return short, Refit(split_ts_ms=part.split_ts_ms, metric=GATE_METRIC, judged=judged[GATE_METRIC], after=after)


def _trained_on(columns: TrainingColumns, left_out: NDArray[np.bool_] | None, next_offsets: Mapping[int, int]) -> TrainedOn:
    """Say what a model has seen: one event at least, or there would be no model."""
    ts_ms = columns.ts_ms if left_out is None else columns.ts_ms[~left_out]
    return TrainedOn(
        n_events=len(ts_ms),
        first_event_ts_ms=int(ts_ms.min()),
        last_event_ts_ms=int(ts_ms.max()),
        next_offsets=dict(next_offsets),
    )


class _Ended(BaseException):
    """SIGTERM came."""


def _reporter(max_seconds: float) -> Any:
    deadline = time.monotonic() + max_seconds
    last = [0.0]

    def progress(done: float, message: str) -> bool:
        now = time.monotonic()
        if now - last[0] > 1.0 or done >= 1:
            last[0] = now
            report(f"{100 * done:3.0f} % {message}")
        return now < deadline

    return progress


def report(message: str) -> None:
    """One line of progress."""
    print(visible(message), file=sys.stderr, flush=True)


def report_traceback(error: BaseException) -> None:
    """Send a traceback to the trainer, which logs it at debug."""
    for line in "".join(traceback.format_exception(error)).splitlines():
        report(f"DEBUG {line}")


def end_with(parent: int | None) -> bool:
    """On Linux, get SIGTERM when the trainer dies without ending us; elsewhere a round that is left alone ends by itself.

    False if that trainer has died already, while this process was starting.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    return parent is None or os.getppid() == parent


def code_version() -> str:
    try:
        return version("recsys-stream")
    except PackageNotFoundError:
        return "unknown"


def main() -> int:
    """The child process; its argument is the trainer's process id. Exit codes: 0 done (single kinds may have failed), 1 the round failed,
    2 an unreadable job, 143 ended by SIGTERM or by the trainer's death."""

    def end(*_: object) -> None:
        raise _Ended

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the trainer ends its child itself
    if not end_with(int(sys.argv[1]) if sys.argv[1:] and sys.argv[1].isdecimal() else None):
        return 143
    results_to = _keep_stdout()
    try:
        signal.signal(signal.SIGTERM, end)
        job = TrainingJob.model_validate_json(sys.stdin.buffer.read())
    except ValidationError as error:
        report(f"training job: {error.errors(include_url=False, include_input=False)[0]['msg']}")
        return 2
    except _Ended:
        return 143
    try:
        os.nice(NICENESS)
        torch.set_num_threads(job.trainer.torch_threads)
        results = run_job(job)
    except _Ended:
        return 143
    except Exception as error:
        report_traceback(error)
        print(json.dumps({"error": describe(error), "results": []}), file=results_to, flush=True)
        return 1
    print(json.dumps({"error": None, "results": [asdict(result) for result in results]}), file=results_to, flush=True)
    return 0


def _keep_stdout() -> TextIO:
    """Return the pipe to the trainer, and send whatever else is printed, by libraries in C too, to standard error."""
    sys.stdout.flush()
    kept = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return kept


if __name__ == "__main__":
    sys.exit(main())
