"""The search for a kind's options in a round of training: made when it is due, stored with the model, and the default of later rounds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from recsys.errors import ModelError
from recsys.evaluation.search import METRIC, Found, search, temporal_validation
from recsys.models.kind import ModelKind
from recsys.models.registry import MODELS
from recsys.models.training_set import TrainingSet
from workers.errors import WorkerError
from workers.models.manifest import SearchOutcome
from workers.models.store import ModelStore
from workers.settings import TrainerSettings
from workers.trainer.progress import report, reporter

GROWTH = 2
"""A kind is searched again when the log has this many times the events of the last search."""


def searched_config(
    kind: ModelKind, training: TrainingSet, settings: TrainerSettings, store: ModelStore
) -> tuple[Any, SearchOutcome | None]:
    """Return the configuration that a kind trains with, and the search that found its options; None if there is none.

    Options of `trainer.options`, and `trainer.factors` where it is not the default, win over what a search finds. Without
    `trainer.search_minutes` stored searches count for nothing. Raises CoreError where the start of the search cannot be trained.
    """
    name = kind.model.kind
    given: dict[str, Any] = dict(settings.options.get(name, {}))
    shared = {"factors": settings.factors, "seed": settings.seed}
    outcome = None
    if settings.search_minutes and kind.space:
        fixed = dict(given)
        if "factors" in kind.option_names and settings.factors != TrainerSettings.model_fields["factors"].default:
            fixed.setdefault("factors", settings.factors)
        outcome = _outcome(kind, training, settings, store, fixed, shared)
        given = {**outcome.options, **fixed}
    return kind.configure(given, shared), outcome


def _outcome(
    kind: ModelKind,
    training: TrainingSet,
    settings: TrainerSettings,
    store: ModelStore,
    fixed: Mapping[str, Any],
    shared: Mapping[str, Any],
) -> SearchOutcome:
    """Return the newest stored search of the kind, or a new one if that is due: the log has grown, or the time was too short."""
    name = kind.model.kind
    n_kinds = sum(bool(one in MODELS and MODELS[one].space) for one in settings.kinds)
    budget_s = 60 * settings.search_minutes / max(n_kinds, 1)
    earlier = _earlier(kind, store)
    if earlier is not None:
        had_time = earlier.found is not None or budget_s < GROWTH * earlier.seconds
        if had_time and len(training) < GROWTH * earlier.n_events:
            return earlier
    began = time.monotonic()
    begin = {} if earlier is None else earlier.options
    found = Found(dict(begin), [])
    cases = replace(temporal_validation(training), descriptions=training.descriptions)
    if len(cases):
        found = search(
            kind,
            cases,
            fixed,
            budget_s=budget_s,
            clock=time.monotonic,
            seed=settings.seed,
            shared=shared,
            start=begin,
            progress=reporter(float("inf")),
        )
    full = [trial.ndcg for trial in found.trials if trial.share == 1]
    outcome = SearchOutcome(
        options={option: value for option, value in found.options.items() if option not in fixed},
        metric=METRIC,
        start=full[0] if full else None,
        found=max(full, default=None),
        n_trials=len(found.trials),
        n_events=len(training),
        seconds=round(time.monotonic() - began, 3),
        seed=settings.seed,
        at_ts_ms=int(time.time() * 1000),
    )
    if full:
        chosen = ", ".join(f"{option} {value}" for option, value in outcome.options.items()) or "the defaults"
        report(f"{name}: {len(found.trials)} trials, validation {METRIC} {full[0]:.4f} at the start and {max(full):.4f} with {chosen}")
    else:
        report(f"{name}: the search could not judge its start within trainer.search_minutes; the options stay")
    return outcome


def _earlier(kind: ModelKind, store: ModelStore) -> SearchOutcome | None:
    """Return the search of the newest version that can be read, promoted or not, if its options still fit the kind."""
    name = kind.model.kind
    for version in reversed(store.versions(name)):
        try:
            outcome = store.manifest(name, version)[0].search
        except WorkerError as error:
            report(f"WARNING {name}: {error}")
            continue
        if outcome is None:
            return None
        try:
            kind.configure(outcome.options)
        except ModelError as error:
            report(f"WARNING {name}: the options of an earlier search do not fit and are left out: {error}")
            return None
        return outcome
    return None
