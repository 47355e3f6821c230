"""Full ranking of the cases of a slice: by a model, by popularity, and by recent popularity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.metrics import F64, I64, mean_ranks, ranking_metrics
from recsys.evaluation.model_scores import laid_over, scores_of
from recsys.evaluation.protocol import Slice
from recsys.evaluation.user_scores import UserScores
from recsys.models.base import Model, ReadsProfiles, ScoresPairs
from recsys.models.neighbour import NeighbourModel
from recsys.models.user_vectors import best_products, has_vector

MAX_CASES = 5_000
HALF_LIVES = (30, 100, 300, 1_000, 3_000, 10_000)
"""Half-lives of recent popularity, in preferences of the log."""
_BLOCK_SCORES = 4_000_000
"""Scores ranked at once: 16 MB."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """The ranks that one contender gave to the T targets of a slice, and counts that belong to them.

    Shapes (T,): `users` are whole numbers, `ranks` begin at 1 and are infinite for a miss.
    """

    users: NDArray[np.integer]
    ranks: F64
    counts: dict[str, float]

    @property
    def scores(self) -> UserScores:
        """Return the outcome by user."""
        return UserScores.of(self.users, self.ranks)

    def metrics(self) -> dict[str, float]:
        """Return recall at 1, 5, 10 and 20 and NDCG at 5, 10 and 20 over all targets, and the counts."""
        scores = self.scores
        counts = {"n_targets": float(scores.n_targets), "n_users": float(len(scores.users)), **self.counts}
        return ranking_metrics(self.ranks) | counts


def rank_by_model(model: Model, part: Slice, *, limit: int = MAX_CASES) -> Ranked:
    """Rank the cases of a slice by one model.

    Each case is ranked from its user's history up to it, as lists are made while events stream in; the model itself was trained on events
    outside the slice. All items of the log are ranked except those that the user touched before. A model cannot recommend an item that it
    does not know: such a target is a miss (`n_unknown_items`), unless the slice has `descriptions` and the model a map from content of its
    own. So is the target of a user whose history holds nothing that the model can read (`n_unreadable_histories`), unless the slice has
    profiles and the model reads them. `limit` bounds the number of cases.
    """
    cases = part.cases(limit)
    known = {item_id: position for position, item_id in enumerate(model.item_ids)}
    to_model = np.array([known.get(item_id, -1) for item_id in part.item_ids], np.int32)
    item_vectors, in_model = laid_over(model, part.item_ids, to_model, part.descriptions)
    ranks = np.full(len(cases), np.inf)
    blank, repeats = np.zeros(len(cases), bool), part.repeats()
    for rows in blocks(len(cases), len(part.item_ids)):
        histories = part.histories(cases[rows], model.history_length, to_model, repeats)
        if isinstance(model, NeighbourModel | ScoresPairs):
            of_model, readable = scores_of(model, histories)
            scores, blank[rows] = of_model[:, to_model], ~readable
        else:
            vectors = model.encode(histories)  # (B, D) or (B, V, D)
            if part.user_profiles is not None and isinstance(model, ReadsProfiles) and model.reads_attributes:
                vectors = model.with_profiles(vectors, part.user_profiles.at(part.users[cases[rows]].astype(np.int64)))
            blank[rows] = ~has_vector(vectors)
            scores = best_products(vectors, item_vectors)
        scores[:, ~in_model] = -np.inf
        ranks[rows] = mean_ranks(scores, part.items[cases[rows]].astype(np.int64), part.seen(cases[rows]))
    unknown = ~in_model[part.items[cases]]
    ranks[unknown | blank] = np.inf
    counts = {"n_unknown_items": int(unknown.sum()), "n_unreadable_histories": int(blank.sum())}
    counts |= {"n_without_history": part.n_without_history()}
    return Ranked(part.users[cases], ranks, {name: float(count) for name, count in counts.items()})


def rank_by_popularity(part: Slice, *, half_life: float | None = None, limit: int = MAX_CASES) -> Ranked:
    """Rank the same cases by the number of preferences outside the slice: what was known when the models were trained.

    With a `half_life` a preference counts half as much for every `half_life` newer ones.
    """
    chosen = np.flatnonzero((part.weights > 0) & ~part.is_newest)
    weights: F64 | None = None
    if half_life is not None:
        chosen = chosen[np.argsort(part.ts_ms[chosen], kind="stable")]
        weights = np.exp2((np.arange(len(chosen)) - (len(chosen) - 1)) / half_life)
    counts = np.bincount(part.items[chosen], weights=weights, minlength=len(part.item_ids)).astype(np.float64)
    cases = part.cases(limit)
    return Ranked(part.users[cases], shared_ranks(counts, part, cases), {} if half_life is None else {"half_life_events": float(half_life)})


def rank_by_recent_popularity(part: Slice, *, limit: int = MAX_CASES) -> Ranked:
    """Rank the same cases by recent popularity, at that of the half-lives which is best on them: an advantage over models."""
    tried = [rank_by_popularity(part, half_life=half_life, limit=limit) for half_life in HALF_LIVES]
    return max(tried, key=lambda ranked: ranked.scores.mean_ndcg)


def shared_ranks(scores: F64, part: Slice, cases: I64) -> F64:
    """Return the mean rank of each case's item, among all that its user has not touched before, by scores that all users share.

    Shapes: scores (I,), cases (T,), row numbers. Returns (T,).
    """
    ordered = np.sort(scores)
    targets = scores[part.items[cases]]
    n_above = len(scores) - np.searchsorted(ordered, targets, "right")
    n_same = np.searchsorted(ordered, targets, "right") - np.searchsorted(ordered, targets, "left") - 1
    is_first = part.first_touches()
    starts = np.searchsorted(part.users, part.users[cases])
    ranks = np.zeros(len(cases))
    for at, (start, case) in enumerate(zip(starts.tolist(), cases.tolist(), strict=True)):
        touched = scores[part.items[start:case][is_first[start:case]]]
        above, same = n_above[at] - np.count_nonzero(touched > targets[at]), n_same[at] - np.count_nonzero(touched == targets[at])
        ranks[at] = 1.0 + above + same / 2.0
    return ranks


def evaluate(model: Model, part: Slice, *, limit: int = MAX_CASES) -> dict[str, float]:
    """Return one model's metrics on one slice."""
    return rank_by_model(model, part, limit=limit).metrics()


def evaluate_popularity(part: Slice, *, limit: int = MAX_CASES) -> dict[str, float]:
    """Return popularity's metrics on one slice."""
    return rank_by_popularity(part, limit=limit).metrics()


def blocks(n_rows: int, n_items: int) -> list[slice]:
    """Return the rows that are ranked at once."""
    step = max(1, _BLOCK_SCORES // max(n_items, 1))
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]
