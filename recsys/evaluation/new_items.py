"""Judging a model that takes in new items while the events of a test come in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recsys.errors import ShapeError
from recsys.evaluation.cases import Cases
from recsys.evaluation.metrics import I64
from recsys.evaluation.outcome import Outcome, outcome_of
from recsys.models.base import Model
from recsys.models.kind import Extend
from recsys.models.training_set import TrainingSet


def outcome_with_new_items(model: Model, extend: Extend, cases: Cases, n_parts: int) -> Outcome:
    """Rank cases of one target each, in `n_parts` parts of about one size in the order of time.

    Before each part the trained model gets vectors of the items that it does not know from all events before the part's first case.
    Raises: ShapeError for cases with several targets, or with candidates of their own.
    """
    if len(cases.targets) != len(cases) or cases.candidates is not None:
        raise ShapeError("new items are taken in where each event is a case by itself: discovery or again")
    if not len(cases):
        return outcome_of(model, cases)
    order = np.argsort(cases.part.ts_ms[cases.rows], kind="stable")
    parts = [np.sort(chosen) for chosen in np.array_split(order, min(n_parts, len(cases)))]
    found = [outcome_of(extend(model, _before(cases, chosen)), _only(cases, chosen)) for chosen in parts]
    back = np.argsort(np.concatenate(parts))
    metrics = {name: np.concatenate([one.metrics[name] for one in found])[back] for name in found[0].metrics}
    lists = np.concatenate([one.lists for one in found])[back]
    return Outcome(metrics, lists, sum(one.n_unknown_items for one in found), sum(one.n_unreadable_histories for one in found))


def _only(cases: Cases, chosen: I64) -> Cases:
    return replace(cases, rows=cases.rows[chosen], targets=cases.targets[chosen], case_of=np.arange(len(chosen)))


def _before(cases: Cases, chosen: I64) -> TrainingSet:
    """Return all events before the first of the chosen cases."""
    part = cases.part
    kept = part.ts_ms < part.ts_ms[cases.rows[chosen]].min()
    return TrainingSet.from_columns(part.users[kept], part.items[kept], part.item_ids, part.weights[kept], part.ts_ms[kept])
