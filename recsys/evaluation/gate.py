"""Judging models: full ranking on the newest time slice, and the gate between champion and challenger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ShapeError
from recsys.models.base import F32, I32, Histories, Model

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
CUTOFFS = (1, 5, 10, 20)
GATE_METRIC = "ndcg@10"
_BLOCK_SCORES = 4_000_000
"""Scores ranked at once: 16 MB."""


def mean_ranks(scores: F32, targets: I64, mask: NDArray[np.bool_] | None = None) -> F64:
    """Rank (1 = first) of one target for each user; ties share their mean rank.

    Shapes: scores (U, I); targets (U,), −1 for an item that is not ranked, whose rank is infinite; mask (U, I), True for items left out
    of the ranking (the target itself always takes part). rank = 1 + (items scored above) + (other items scored the same) / 2. A score
    that is not a number counts as −∞."""
    n_users, n_items = scores.shape
    if targets.shape != (n_users,) or (mask is not None and mask.shape != scores.shape):
        raise ShapeError(f"targets {targets.shape} and mask must fit the scores {scores.shape}")
    if not n_items:
        return np.full(n_users, np.inf)
    scores = np.where(np.isnan(scores), np.float32(-np.inf), scores)
    known = targets >= 0
    place = np.where(known, targets, 0)
    wanted = scores[np.arange(n_users), place][:, None]
    ranked = np.ones(scores.shape, bool) if mask is None else ~mask
    ranked[np.arange(n_users), place] = False
    above = np.count_nonzero((scores > wanted) & ranked, axis=1)
    same = np.count_nonzero((scores == wanted) & ranked, axis=1)
    return np.where(known, 1.0 + above + same / 2.0, np.inf)


def recall_at_k(ranks: F64, k: int) -> float:
    """Share of targets ranked k-th or better; 0 without targets. With one target for each list this is also the hit rate."""
    return float(np.mean(ranks <= k)) if len(ranks) else 0.0


def ndcg_at_k(ranks: F64, k: int) -> float:
    """Mean of 1 / log₂(1 + rank) over targets, 0 beyond rank k; 0 without targets."""
    return float(np.mean(np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks), 0.0))) if len(ranks) else 0.0


def temporal_split(ts_ms: I64, holdout: float, seen_until_ms: int | None = None) -> int:
    """Event time (ms) at which the newest share `holdout` of the events begins: train on what is before it, judge from it on.

    The slice never reaches back past the newer half of the events after `seen_until_ms`, the newest event that the champion has seen: no
    model is judged on what it was trained on, and the challenger has something the champion has not. Events of one millisecond stay
    together, on the newer side. Raises: ShapeError without events, or without any after `seen_until_ms`.
    """
    if not 0 < holdout < 1:
        raise ValueError("holdout must lie between 0 and 1")
    if not len(ts_ms):
        raise ShapeError("a temporal split needs events")
    n_unseen = len(ts_ms) if seen_until_ms is None else int(np.count_nonzero(ts_ms > seen_until_ms))
    if not n_unseen:
        raise ShapeError("no event is newer than those the champion has seen")
    at = len(ts_ms) - _slice_size(len(ts_ms), holdout, n_unseen if seen_until_ms is not None else None)
    return int(np.partition(ts_ms, at)[at])


def newest_events(
    ts_ms: I64, arrivals: F64, holdout: float, *, seen_until_ms: int | None = None, unseen: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Which events judge, (n,): those from `temporal_split` on; all others train.

    Where events of one time would leave less than half of what should be trained on, they are divided by arrival: the later ones judge.
    Where no event is newer than `seen_until_ms` but some are `unseen` (n,) because they arrived after the champion's training, the
    later half of these judges at most. Shapes: (n,) each; `arrivals` are any numbers that grow with arrival. Raises: ShapeError without
    events, or without any that the champion has not seen.
    """
    if seen_until_ms is not None and len(ts_ms) and not (ts_ms > seen_until_ms).any():
        places = np.flatnonzero(unseen) if unseen is not None else np.zeros(0, np.int64)
        if not len(places):
            raise ShapeError("no event is newer than those the champion has seen")
        n_slice = _slice_size(len(ts_ms), holdout, len(places))
        return _marked(places[np.argsort(arrivals[places], kind="stable")[-n_slice:]], len(ts_ms))
    split_ts_ms = temporal_split(ts_ms, holdout, seen_until_ms)
    is_newest: NDArray[np.bool_] = ts_ms >= split_ts_ms
    n_unseen = None if seen_until_ms is None else int(np.count_nonzero(ts_ms > seen_until_ms))
    n_slice = _slice_size(len(ts_ms), holdout, n_unseen)
    if 2 * np.count_nonzero(~is_newest) >= len(ts_ms) - n_slice:
        return is_newest
    return _marked(np.lexsort((arrivals, ts_ms))[-n_slice:], len(ts_ms))


def _slice_size(n_events: int, holdout: float, n_unseen: int | None) -> int:
    """How many events judge: the share `holdout`, at most half of those that the champion has not seen, and at least one."""
    n_slice = max(1, int(np.ceil(n_events * holdout)))
    return n_slice if n_unseen is None else min(n_slice, max(1, n_unseen // 2))


def _marked(places: NDArray[np.integer], n_events: int) -> NDArray[np.bool_]:
    marked = np.zeros(n_events, bool)
    marked[places] = True
    return marked


@dataclass(frozen=True, slots=True)
class Slice:
    """The log and its newest slice: judged on the events in it, trained on all others.

    Columns, (n,) each, sorted by user and oldest first: user number, position in `item_ids`, weight, event time, whether the event is in
    the slice. `split_ts_ms` is the oldest event time in the slice.
    """

    users: I32
    items: I32
    weights: F32
    ts_ms: I64
    item_ids: list[str]
    is_newest: NDArray[np.bool_]
    split_ts_ms: int

    @classmethod
    def cut(
        cls,
        users: NDArray[np.integer],
        items: NDArray[np.integer],
        item_ids: list[str],
        weights: F32,
        ts_ms: I64,
        newest: int | NDArray[np.bool_],
    ) -> Slice:
        """From a log's columns in any order; `newest` marks the slice (n,), or is the event time at which it begins.

        Shapes: (n,) each. Events of weight 0 are dropped. Events of one user and time keep their order.
        """
        is_newest = ts_ms >= newest if isinstance(newest, int) else newest
        split_ts_ms = newest if isinstance(newest, int) else int(ts_ms[newest].min(initial=np.iinfo(np.int64).max))
        kept = weights != 0
        _, dense = np.unique(users[kept], return_inverse=True)
        order = np.lexsort((ts_ms[kept], dense))
        return cls(
            dense[order].astype(np.int32),
            items[kept][order].astype(np.int32),
            weights[kept][order].astype(np.float32),
            ts_ms[kept][order].astype(np.int64),
            item_ids,
            is_newest[kept][order],
            split_ts_ms,
        )

    def cases(self, limit: int) -> I64:
        """Rows that are targets, (T,):

        preferences of the slice for items that their user has not touched before, at most `limit` evenly chosen.
        """
        keys = self.users * np.int64(max(len(self.item_ids), 1)) + self.items
        _, first_touch = np.unique(keys, return_index=True)
        fresh: I64 = np.sort(first_touch).astype(np.int64)
        fresh = fresh[self.is_newest[fresh] & (self.weights[fresh] > 0)]
        if len(fresh) > limit:
            fresh = fresh[np.linspace(0, len(fresh) - 1, limit).astype(np.int64)]
        return fresh

    def histories(self, cases: I64, length: int, to_model: I32) -> Histories:
        """The `length` interactions just before each case, items moved to a model's axis by `to_model` (−1: unknown)."""
        rows = cases[:, None] - np.arange(length, 0, -1)  # (T, L), newest last
        starts = np.searchsorted(self.users, self.users[cases])
        inside = rows >= starts[:, None]
        rows = np.where(inside, rows, 0)
        ages = np.where(inside, (self.ts_ms[np.maximum(cases - 1, 0), None] - self.ts_ms[rows]) / 1000.0, 0.0)
        return Histories(
            np.where(inside, to_model[self.items[rows]], -1).astype(np.int32),
            np.where(inside, self.weights[rows], 0.0).astype(np.float32),
            ages.astype(np.float32),
        )

    def seen(self, cases: I64) -> NDArray[np.bool_]:
        """Items that each case's user touched before it, (T, I)."""
        mask = np.zeros((len(cases), len(self.item_ids)), bool)
        starts = np.searchsorted(self.users, self.users[cases])
        lengths = cases - starts
        rows = np.repeat(np.arange(len(cases)), lengths)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        mask[rows, self.items[np.repeat(starts, lengths) + within]] = True
        return mask


def evaluate(model: Model, part: Slice, *, limit: int = 5_000) -> dict[str, float]:
    """Metrics of one model on one slice: recall and ndcg at 1, 5, 10, 20, and counts.

    Each case is one preference of the slice, ranked from the user's history up to it, as lists are made while events stream in; the
    model's own numbers are from before the slice. All items of the log are ranked but those the user touched before. A model cannot
    recommend an item it does not know: as a target it is a miss (`n_unknown_items`). So is the target of a user whose history holds
    nothing the model can read (`n_without_history`)."""
    cases = part.cases(limit)
    known = {item_id: position for position, item_id in enumerate(model.item_ids)}
    to_model = np.array([known.get(item_id, -1) for item_id in part.item_ids], np.int32)
    in_model = to_model >= 0
    item_vectors = np.zeros((len(part.item_ids), model.item_vectors.shape[1]), np.float32)
    item_vectors[in_model] = model.item_vectors[to_model[in_model]]
    ranks = np.full(len(cases), np.inf)
    blank = np.zeros(len(cases), bool)
    for rows in _blocks(len(cases), len(part.item_ids)):
        vectors = model.encode(part.histories(cases[rows], model.history_length, to_model))  # (B, D)
        blank[rows] = ~np.any(vectors, axis=1)
        scores = vectors @ item_vectors.T
        scores[:, ~in_model] = -np.inf
        ranks[rows] = mean_ranks(scores, part.items[cases[rows]].astype(np.int64), part.seen(cases[rows]))
    unknown = ~in_model[part.items[cases]]
    ranks[unknown | blank] = np.inf
    counts = {"n_targets": len(cases), "n_users": len(np.unique(part.users[cases]))}
    counts |= {"n_unknown_items": int(unknown.sum()), "n_without_history": int(blank.sum())}
    return _metrics(ranks) | {name: float(count) for name, count in counts.items()}


def evaluate_popularity(part: Slice, *, limit: int = 5_000) -> dict[str, float]:
    """The same cases ranked by the number of preferences before the slice; it needs no history, so no user is a miss."""
    cases = part.cases(limit)
    chosen = (part.weights > 0) & ~part.is_newest
    counts = np.bincount(part.items[chosen], minlength=len(part.item_ids)).astype(np.float32)
    ranks = np.full(len(cases), np.inf)
    for rows in _blocks(len(cases), len(part.item_ids)):
        scores = np.broadcast_to(counts, (len(cases[rows]), len(counts)))
        ranks[rows] = mean_ranks(scores, part.items[cases[rows]].astype(np.int64), part.seen(cases[rows]))
    return _metrics(ranks) | {"n_targets": float(len(cases))}


def _metrics(ranks: F64) -> dict[str, float]:
    recalls = {f"recall@{k}": recall_at_k(ranks, k) for k in CUTOFFS}
    return recalls | {f"ndcg@{k}": ndcg_at_k(ranks, k) for k in CUTOFFS if k > 1}


def _blocks(n_rows: int, n_items: int) -> list[slice]:
    step = max(1, _BLOCK_SCORES // max(n_items, 1))
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]


@dataclass(frozen=True, slots=True)
class GateDecision:
    """Whether a challenger serves from now on, why, and the figures that decided."""

    promote: bool
    reason: str
    figures: dict[str, float]


def gate(
    champion: Mapping[str, float] | None,
    challenger: Mapping[str, float],
    *,
    popularity: Mapping[str, float] | None = None,
    tolerance: float = 0.0,
    metric: str = GATE_METRIC,
) -> GateDecision:
    """Compare two models' metrics on the same slice. A first model is promoted if it hits anything, and more than popularity where given.

    A challenger must reach champion · (1 − tolerance). Refused as well: a figure that is not finite, and a slice without targets. Raises:
    KeyError if the metric is missing."""
    new = float(challenger[metric])
    figures = {"challenger": new, "n_targets": float(challenger.get("n_targets", 0.0))}
    if not np.isfinite(new):
        return GateDecision(False, f"{metric} of the challenger is not a finite number", {"n_targets": figures["n_targets"]})
    if figures["n_targets"] <= 0:
        return GateDecision(False, "the newest slice holds no targets to judge on", figures)
    if champion is None:
        if new <= 0:
            return GateDecision(False, f"first model of its kind, but {metric} is 0", figures)
        if popularity is None:
            return GateDecision(True, f"first model of its kind: {metric} {new:.4f}", figures)
        figures["needed"] = float(popularity[metric])
        if not new > figures["needed"]:
            return GateDecision(False, f"first model of its kind, but {metric} {new:.4f} is no better than popularity", figures)
        return GateDecision(True, f"first model of its kind: {metric} {new:.4f}, better than popularity", figures)
    old = float(champion[metric])
    figures["champion"] = old
    figures["needed"] = old * (1 - tolerance)
    compared = f"{metric} {new:.4f}, champion {old:.4f}, needed {figures['needed']:.4f}"
    return GateDecision(new >= figures["needed"], compared, figures)
