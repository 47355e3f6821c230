"""Train kinds of models on the training part of a log and judge them on the test part, which is looked at once.

Everything is trained by the code of the trainer: the kinds of `recsys.models.registry`, their options and their `TrainingSet`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import permutations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recsys.errors import CoreError
from recsys.evaluation.cases import Cases
from recsys.evaluation.ensemble import Ensemble, learnt
from recsys.evaluation.new_items import outcome_with_new_items
from recsys.evaluation.outcome import Outcome, group_means, list_metrics, outcome_of
from recsys.evaluation.search import Found, last_item_validation, random_item_validation, search, temporal_validation
from recsys.evaluation.significance import intervals, paired
from recsys.models.base import Model
from recsys.models.checks import MAX_HISTORY, check_model
from recsys.models.kind import ModelKind
from recsys.models.registry import MODELS
from recsys.models.training_set import TrainingSet

Protocol = Literal["last-item", "full", "negatives", "temporal", "discovery", "again"]
COMPARED = ("hr@10", "recall@20", "ndcg@10", "ndcg@20")
"""Metrics with tests between kinds, and means by group of users."""
MIN_TOGETHER = 2
"""Kinds of an ensemble, at least."""
DIGITS = 5


@dataclass(frozen=True)
class Request:
    """Kinds to train, in their order, `options` of each over what is `shared` by all; `search_s` seconds of search for all together.

    Without a `history_length` in `shared`, kinds that have this option read histories to their beginning, up to MAX_HISTORY items.
    With `new_item_parts` above 0, kinds that can take in new items do so that often during the test (`recsys.evaluation.new_items`).
    With `ensemble`, the kinds are judged as one ranking, too (`recsys.evaluation.ensemble`). With `train_once` no kind learns from the
    validation part, which chooses the ensemble's weights: histories hold it, and nothing is trained a second time.
    """

    kinds: Sequence[str]
    protocol: Protocol
    seed: int = 0
    search_s: float = 0.0
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    shared: Mapping[str, Any] = field(default_factory=dict)
    new_item_parts: int = 0
    ensemble: bool = False
    train_once: bool = False


@dataclass(frozen=True)
class _Judged:
    """One kind after training: its outcome, or why there is none; and the model, with what trained it."""

    outcome: Outcome | None
    figures: dict[str, Any]
    model: Model | None = None
    trained_by: Any = None


def evaluate_kinds(
    cases: Cases, request: Request, content: NDArray[np.floating] | None = None, say: Callable[[str], None] | None = None
) -> dict[str, dict[str, Any]]:
    """Return the figures of each kind by its name, as JSON can hold them; a kind that cannot be trained has `error` instead of metrics.

    Names of metrics are those of `recsys.evaluation.case_metrics`. `intervals` are of 95 %, by users; `against` compares with each other
    kind on the same cases. `say` gets lines of progress.
    """
    training = cases.training()
    validation = _validation(training, request) if request.ensemble else None
    if validation is not None and request.train_once:
        training = validation.training()
    judged: dict[str, _Judged] = {}
    ends = time.monotonic() + request.search_s
    for at, kind in enumerate(request.kinds):
        budget_s = max(0.0, ends - time.monotonic()) / (len(request.kinds) - at) if request.search_s else 0.0
        judged[kind] = _judge(MODELS[kind], kind, cases, training, request, budget_s, content, say)
        ends += judged[kind].figures.get("train_s", 0.0)  # the budget is that of the searches
    if validation is not None:
        judged[Ensemble.kind] = _together(judged, cases, validation, request, content, say)
    for one, other in permutations(judged, 2):
        ours, theirs = judged[one].outcome, judged[other].outcome
        if ours is not None and theirs is not None:
            pairs = {name: (ours.metrics[name], theirs.metrics[name]) for name in COMPARED}
            tests = {name: _rounded(asdict(paired(*pair, cases.users, seed=request.seed))) for name, pair in pairs.items()}
            judged[one].figures.setdefault("against", {})[other] = tests
    return {kind: found.figures for kind, found in judged.items()}


def _judge(
    recipe: ModelKind,
    kind: str,
    cases: Cases,
    training: TrainingSet,
    request: Request,
    budget_s: float,
    content: NDArray[np.floating] | None,
    say: Callable[[str], None] | None,
) -> _Judged:
    options = dict(request.options.get(kind, {}))
    longest = min(int(np.diff(training.user_starts()).max(initial=1)), MAX_HISTORY)
    shared = {"history_length": longest, **request.shared, "seed": request.seed}
    report = _reporter(say)
    try:
        config, figures = recipe.configure(options, shared), dict[str, Any]()
        if budget_s > 0 and recipe.space:
            began = time.monotonic()
            found = _searched(recipe, training, options, shared, request, budget_s, report)
            config = recipe.configure(found.options, shared)
            figures = {"search_s": round(time.monotonic() - began, 3), "trials": [_rounded(asdict(trial)) for trial in found.trials]}
        began, cpu = time.monotonic(), time.process_time()
        model = recipe.train(training, config, time.monotonic, report)
        took = {"train_s": round(time.monotonic() - began, 3), "train_cpu_s": round(time.process_time() - cpu, 3)}
        figures = {**took, "config": model.config, **figures}
        check_model(model)
    except CoreError as error:
        return _Judged(None, {"error": str(error)})
    if request.new_item_parts and recipe.extend is not None:
        outcome = outcome_with_new_items(model, recipe.extend, cases, request.new_item_parts)
    else:
        outcome = outcome_of(model, cases)
    return _Judged(outcome, {**_figures(outcome, cases, request.seed, content), **figures}, model, config)


def _together(
    judged: Mapping[str, _Judged],
    cases: Cases,
    validation: Cases,
    request: Request,
    content: NDArray[np.floating] | None,
    say: Callable[[str], None] | None,
) -> _Judged:
    """Judge all kinds that were trained as one ranking. Its weights are learnt on a validation part: by models trained on the rest with the
    same options, or by the kinds' own models where they were trained once."""
    trained = {kind: (found.model, found.trained_by) for kind, found in judged.items() if found.model is not None}
    if len(trained) < MIN_TOGETHER:
        return _Judged(None, {"error": f"ensemble: it needs {MIN_TOGETHER} kinds that can be trained, there are {len(trained)}"})
    began, cpu = time.monotonic(), time.process_time()
    report = _reporter(say)
    try:
        parts = [model for model, _ in trained.values()]
        if not request.train_once:
            part = validation.training()
            parts = [MODELS[kind].train(part, config, time.monotonic, report) for kind, (_, config) in trained.items()]
        weights = learnt(parts, validation, among_random=cases.candidates is not None, seed=request.seed)
    except CoreError as error:
        return _Judged(None, {"error": str(error)})
    ensemble = Ensemble.of([model for model, _ in trained.values()], weights)
    outcome = outcome_of(ensemble, cases)
    took = {
        "train_s": round(time.monotonic() - began + sum(judged[kind].figures["train_s"] for kind in trained), 3),
        "train_cpu_s": round(time.process_time() - cpu + sum(judged[kind].figures["train_cpu_s"] for kind in trained), 3),
    }
    config = {"kinds": list(trained), "weights": {name: _rounded(own) for name, own in ensemble.named_weights().items()}}
    return _Judged(outcome, {**_figures(outcome, cases, request.seed, content), **took, "config": config})


def _searched(
    recipe: ModelKind,
    training: TrainingSet,
    options: Mapping[str, Any],
    shared: Mapping[str, Any],
    request: Request,
    budget_s: float,
    report: Callable[[float, str], bool],
) -> Found:
    """Search on a validation part."""
    validation = _validation(training, request)
    if not len(validation):
        return Found(dict(options), [])
    return search(
        recipe, validation, options, budget_s=budget_s, clock=time.monotonic, seed=request.seed, shared=shared, progress=report
    )


def _validation(training: TrainingSet, request: Request) -> Cases:
    """Return a validation part that is cut from the training data as the protocol cuts the test."""
    if request.protocol in ("last-item", "negatives"):
        validation = last_item_validation(training, request.seed)
    elif request.protocol == "full":
        validation = random_item_validation(training, request.seed)
    else:
        validation = temporal_validation(training)
    return replace(validation, descriptions=training.descriptions)


def _figures(outcome: Outcome, cases: Cases, seed: int, content: NDArray[np.floating] | None) -> dict[str, Any]:
    names = list(outcome.metrics)
    values = np.stack([outcome.metrics[name] for name in names], axis=1)
    bounds = intervals(values, cases.users, seed=seed)
    figures: dict[str, Any] = _rounded(outcome.means() | list_metrics(outcome, cases, content))
    figures["intervals"] = {name: [round(float(bound), DIGITS) for bound in own] for name, own in zip(names, bounds, strict=True)}
    figures["groups"] = {group: _rounded(means) for group, means in group_means(outcome, cases, COMPARED).items()}
    return figures | {
        "n_cases": len(cases),
        "n_users": len(np.unique(cases.users)),
        "n_targets": len(cases.targets),
        "n_unknown_items": outcome.n_unknown_items,
        "n_unreadable_histories": outcome.n_unreadable_histories,
        "n_without_history": cases.n_without_history,
        "n_repeats": cases.n_repeats,
    }


def _reporter(say: Callable[[str], None] | None) -> Callable[[float, str], bool]:
    """Return a progress function that says a line at most once a second."""
    last = [0.0]

    def report(done: float, message: str) -> bool:
        now = time.monotonic()
        if say is not None and (now - last[0] > 1.0 or done >= 1):
            last[0] = now
            say(f"{100 * done:3.0f} % {message}")
        return True

    return report


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: round(value, DIGITS) if isinstance(value, float) else value for name, value in values.items()}
