"""Outcome of one model on cases: places of the targets, the lists, and the metrics of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.case_metrics import (
    PLACES,
    case_metrics,
    coverage,
    diversity,
    gini,
    miscalibration,
    novelty,
    places_of_ties,
    thirds,
)
from recsys.evaluation.cases import Cases
from recsys.evaluation.metrics import F64, I64
from recsys.evaluation.ranking import blocks
from recsys.models.base import F32, Histories, Model
from recsys.models.user_vectors import best_products, has_vector


@runtime_checkable
class ScoringModel(Protocol):
    """A model that scores all its items itself, instead of by vectors. A history that it cannot read gets zeros."""

    @property
    def item_ids(self) -> list[str]:
        """Return the items on the model's axis."""
        ...

    @property
    def history_length(self) -> int:
        """Return how many of the newest interactions it reads."""
        ...

    def scores(self, histories: Histories) -> F32:
        """Return the scores of all items, (U, I)."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """Holds what one model did on C cases. `metrics` (C,) each; `lists` (C, 10), positions in the log's `item_ids`, −1 for an empty place.

    `n_unknown_items` counts targets that the model does not know, `n_unreadable_histories` cases of whose history it knows nothing; both
    are misses.
    """

    metrics: dict[str, F64]
    lists: I64
    n_unknown_items: int
    n_unreadable_histories: int

    def means(self) -> dict[str, float]:
        """Return the mean of each metric over all cases, 0 without cases."""
        return {name: float(values.mean()) if len(values) else 0.0 for name, values in self.metrics.items()}


def outcome_of(model: Model | ScoringModel, cases: Cases) -> Outcome:
    """Rank the cases by one model. Items that the model does not know are not ranked."""
    part = cases.part
    known = {item_id: position for position, item_id in enumerate(model.item_ids)}
    to_model = np.array([known.get(item_id, -1) for item_id in part.item_ids], np.int32)
    places = np.flatnonzero(to_model >= 0)
    above, tied = np.full(len(cases.targets), -1, np.int64), np.zeros(len(cases.targets), np.int64)
    lists = np.full((len(cases), PLACES), -1, np.int64)
    repeats, n_blank = part.repeats(), 0
    length = min(model.history_length, max(1, int(cases.history_lengths().max(initial=0))))  # more would be padding
    for block in blocks(len(cases), len(part.item_ids)):
        histories = part.histories(cases.rows[block], length, to_model, repeats)
        scores, readable = _scores(model, histories, to_model, places)
        n_blank += int(np.count_nonzero(~readable))
        scores[~cases.ranked(block)] = -np.inf
        lists[block] = _best(scores)
        own = cases.of_block(block)
        above[own], tied[own] = _counts(scores, cases.case_of[own] - block.start, cases.targets[own])
    unknown = to_model[cases.targets] < 0
    ranks = places_of_ties(above, tied, cases.case_of)
    return Outcome(case_metrics(ranks, cases.case_of, len(cases)), lists, int(unknown.sum()), n_blank)


def list_metrics(outcome: Outcome, cases: Cases, content: NDArray[np.floating] | None = None) -> dict[str, float]:
    """Return coverage, Gini coefficient and novelty of the lists, and with `content` (I, K) diversity and calibration.

    Content are categories or other features ≥ 0 of the log's items; a row of zeros is an item without content.
    """
    part, n_items = cases.part, len(cases.part.item_ids)
    liked = ~part.is_newest & (part.weights > 0)
    pairs = np.unique(part.users[liked] * np.int64(max(n_items, 1)) + part.items[liked])
    users_of_item = np.bincount(pairs % max(n_items, 1), minlength=n_items)
    found = {
        f"coverage@{PLACES}": coverage(outcome.lists, n_items),
        f"gini@{PLACES}": gini(outcome.lists, n_items),
        f"novelty@{PLACES}": _mean(novelty(outcome.lists, users_of_item, len(np.unique(part.users[liked])))),
    }
    if content is not None:
        tastes = _tastes(cases, content)
        found |= {
            f"diversity@{PLACES}": _mean(diversity(outcome.lists, content)),
            f"miscalibration@{PLACES}": _mean(miscalibration(outcome.lists, tastes, content)),
        }
    return found


def group_means(outcome: Outcome, cases: Cases, names: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Return the number of cases and the means of some metrics for users with short, middle and long histories, by terciles."""
    lengths = cases.history_lengths()
    found = {}
    for group, marked in thirds(lengths).items():
        if marked.any():
            means = {name: float(outcome.metrics[name][marked].mean()) for name in names}
            found[group] = {"n_cases": float(marked.sum()), "longest_history": float(lengths[marked].max()), **means}
    return found


def _scores(model: Model | ScoringModel, histories: Histories, to_model: NDArray[np.int32], places: I64) -> tuple[F32, NDArray[np.bool_]]:
    """Return the scores of all items (B, I), −∞ for what the model does not know, and which histories it can read (B,)."""
    scores = np.full((len(histories), len(to_model)), -np.inf, np.float32)
    if isinstance(model, ScoringModel):
        own = model.scores(histories)
        readable: NDArray[np.bool_] = np.asarray(own.any(axis=1), bool)
    else:
        vectors = model.encode(histories)
        own, readable = best_products(vectors, model.item_vectors), has_vector(vectors)
    scores[:, places] = own[:, to_model[places]]
    scores[~readable | np.isnan(scores).any(axis=1)] = -np.inf
    return scores, readable


def _best(scores: F32) -> I64:
    """Return the best items of each row, best first, the smaller number first among equal ones, (B, 10); −1 where there is none."""
    n = min(PLACES, scores.shape[1])
    lists = np.full((len(scores), PLACES), -1, np.int64)
    if not n:
        return lists
    bound = -np.partition(-scores, n - 1, axis=1)[:, n - 1]
    for row, (own, least) in enumerate(zip(scores, bound, strict=True)):
        able = np.flatnonzero((own >= least) & (own > -np.inf))
        best = able[np.argsort(-own[able], kind="stable")[:n]]
        lists[row, : len(best)] = best
    return lists


def _counts(scores: F32, rows: I64, targets: I64) -> tuple[I64, I64]:
    """Return how many items score higher than each target and how many others the same, (t,) each; −1 above for one that is not ranked."""
    above, tied = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    for part in blocks(len(rows), scores.shape[1]):
        wanted = scores[rows[part], targets[part]]
        own = scores[rows[part]]
        above[part] = np.count_nonzero(own > wanted[:, None], axis=1)
        tied[part] = np.count_nonzero(own == wanted[:, None], axis=1) - 1
        above[part][wanted == -np.inf] = -1
    return above, tied


def _tastes(cases: Cases, content: NDArray[np.floating]) -> F64:
    """Return the sums of category shares over the items of each case's history, (C, K)."""
    part = cases.part
    sums = content.sum(axis=1, keepdims=True)
    shares = content / np.where(sums > 0, sums, 1.0)
    liked = part.first_touches() & (part.weights > 0)
    starts = np.searchsorted(part.users, part.users[cases.rows])
    tastes = np.zeros((len(cases), content.shape[1]))
    for at, (start, row) in enumerate(zip(starts.tolist(), cases.rows.tolist(), strict=True)):
        tastes[at] = shares[part.items[start:row][liked[start:row]]].sum(axis=0)
    return tastes


def _mean(values: F64) -> float:
    return float(values.mean()) if len(values) else 0.0
