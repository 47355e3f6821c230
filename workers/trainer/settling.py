"""The end of a round for one kind: what it gave, the version that is stored, and whether that serves."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.gate import GateDecision
from recsys.evaluation.ranking import Ranked
from workers.errors import Fatal, WorkerError, one_line
from workers.models.manifest import ChampionMoved, Gain, Refit, SearchOutcome, TrainedOn
from workers.models.model_files import Servable, StoredModel
from workers.models.store import ModelStore
from workers.settings import TrainerSettings
from workers.trainer.judgement import CHALLENGER, NoModel
from workers.trainer.progress import report
from workers.trainer.training_columns import TrainingColumns

SECOND_CHANCE = 2
"""A kind that added nothing to lists is tried again when the log has this many times the events."""


@dataclass(frozen=True, slots=True)
class KindResult:
    """Result of one kind. `figures` are the gate's; `champion` is the version that served before."""

    kind: str
    action: Literal["promoted", "refused", "retired", "skipped", "failed"]
    version: str | None
    champion: str | None
    reason: str
    figures: dict[str, float]
    train_s: float

    def __str__(self) -> str:
        """Say what happened, in one line."""
        return f"{self.kind if self.version is None else self.version}: {self.action}, {self.reason}"


@dataclass(frozen=True, slots=True)
class Champion:
    """The version that serves, None for none, and what is stored of it: None too if it cannot be read."""

    version: str | None
    stored: StoredModel | None

    @property
    def trained_on(self) -> TrainedOn | None:
        """Return what it has seen."""
        return None if self.stored is None else self.stored.manifest.trained_on


@dataclass(frozen=True, slots=True)
class Candidate:
    """Holds what may serve, a model or a recipe: how long its training took, which events judged it (n,), the pass that followed, the
    search that found its options, and of a recipe what each kind adds to its lists."""

    content: Servable
    train_s: float
    newest: NDArray[np.bool_]
    refit: Refit | None = None
    search: SearchOutcome | None = None
    gains: Mapping[str, Gain] = field(default_factory=dict)


def champion_of(kind: str, columns: TrainingColumns, settings: TrainerSettings, store: ModelStore) -> Champion:
    """Return the champion of a kind that is to be trained. Raises NoModel for a retired kind and for too few events.

    A kind that the trainer retired by itself is trained again when the log has `SECOND_CHANCE` times the events.
    """
    champion, retired = store.champion(kind), store.retirement(kind)
    if retired is not None and (retired.n_events is None or len(columns) < SECOND_CHANCE * retired.n_events):
        back = f"`recsys models rollback {kind}` or `promote` brings it back"
        if retired.n_events is not None:
            back = f"at {SECOND_CHANCE * retired.n_events} events it gets another chance, and {back}"
        raise NoModel(f"the kind is retired; {back}", None)
    if len(columns) < settings.min_events:
        raise NoModel(f"only {len(columns)} events count, fewer than trainer.min_events ({settings.min_events})", champion)
    return Champion(champion, None if champion is None else _readable(store, kind, champion))


def _readable(store: ModelStore, kind: str, version: str) -> StoredModel | None:
    """Return the champion; None if it cannot be read, which would otherwise fail its kind in every round from here on."""
    try:
        return store.load_stored(kind, version)
    except Fatal as error:
        report(f"WARNING {kind}: the champion {version} cannot be read, it counts as none: {error}")
        return None


def settle(
    kind: str,
    champion: Champion,
    candidate: Candidate,
    ranked: Mapping[str, Ranked],
    decision: GateDecision,
    columns: TrainingColumns,
    next_offsets: Mapping[int, int],
    settings: TrainerSettings,
    store: ModelStore,
) -> KindResult:
    """Store what was trained; promote it if the gate said so and nobody was faster; remove old versions."""
    metrics = {who: found.metrics() for who, found in ranked.items()}
    if champion.stored is None and champion.version is not None:
        decision = replace(decision, reason=f"{champion.version} cannot be read and counts as none; {decision.reason}")
    manifest = store.save(
        candidate.content,
        parent=None if champion.stored is None else champion.version,
        metrics=metrics,
        decision=decision.reason,
        trained_on=_trained_on(columns, None if candidate.refit is not None else candidate.newest, next_offsets),
        trained_ts_ms=int(time.time() * 1000),
        train_s=round(candidate.train_s, 3),
        refit=candidate.refit,
        code_version=code_version(),
        seed=settings.seed,
        search=candidate.search,
        gains=candidate.gains,
    )
    if decision.promote:
        try:
            judged = metrics[CHALLENGER]
            store.promote(kind, manifest.version, metrics=judged, reason=decision.reason, judged_against=champion.version)
        except ChampionMoved as moved:  # somebody promoted or rolled back since: their choice stays
            decision = replace(decision, promote=False, reason=f"{moved}; {decision.reason}")
    try:
        store.prune(kind, settings.keep_versions)
    except (WorkerError, OSError) as error:  # the decision stands whatever becomes of old versions
        report(f"WARNING {kind}: old versions could not be removed: {one_line(error)}")
    action: Literal["promoted", "refused"] = "promoted" if decision.promote else "refused"
    return KindResult(kind, action, manifest.version, champion.version, decision.reason, decision.figures, round(candidate.train_s, 3))


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
