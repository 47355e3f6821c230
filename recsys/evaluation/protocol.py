"""The evaluation protocol: which events judge a model, and full ranking of each of them from its user's history.

A log is cut by time. Every event outside the newest slice trains; each preference in the slice for an item new to its user is a case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ShapeError
from recsys.evaluation.metrics import F64, I64, mean_ranks, ranking_metrics
from recsys.models.base import F32, I32, Histories, Model

_BLOCK_SCORES = 4_000_000
"""Scores ranked at once: 16 MB."""


def temporal_split(ts_ms: I64, holdout: float, seen_until_ms: int | None = None) -> int:
    """Return the event time (ms) at which the newest share `holdout` of the events begins: earlier events train, the others judge.

    `seen_until_ms` is the newest event that the champion has seen. The slice holds at most the newer half of the events after it, so no
    model is judged on its own training data, and the challenger learns from events that the champion has not seen. Events of one
    millisecond stay together, in the slice.
    Shapes: ts_ms (n,), event times in milliseconds.
    Raises: ShapeError without events, or without any after `seen_until_ms`; ValueError if `holdout` is not between 0 and 1.
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
    """Mark the events that judge, (n,): those from `temporal_split` on. All others train.

    If many events share one time, so that less than half of the intended training events would be left, they are divided by arrival: the
    later ones judge. If no event is newer than `seen_until_ms` but some are `unseen` (they arrived after the champion's training), at most
    the later half of these judges.
    Shapes: (n,) each; `ts_ms` in milliseconds, `arrivals` any numbers that grow with arrival.
    Raises: ShapeError without events, or without any that the champion has not seen; ValueError if `holdout` is not between 0 and 1.
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
    """Return the number of events that judge: the share `holdout`, at most half of those new to the champion, and at least one."""
    n_slice = max(1, int(np.ceil(n_events * holdout)))
    return n_slice if n_unseen is None else min(n_slice, max(1, n_unseen // 2))


def _marked(places: NDArray[np.integer], n_events: int) -> NDArray[np.bool_]:
    marked = np.zeros(n_events, bool)
    marked[places] = True
    return marked


@dataclass(frozen=True, slots=True)
class Slice:
    """A log and its newest slice: events in the slice judge, all others train.

    Shapes: `users`, `items`, `weights`, `ts_ms` and `is_newest` are (n,), sorted by user, oldest first within a user. `items` are positions
    in `item_ids`, `weights` unitless preferences, `is_newest` marks the slice. `split_ts_ms` is the oldest event time in the slice, in
    milliseconds.
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
        """Sort a log's columns, given in any order; `newest` marks the slice (n,), or is the event time (ms) at which it begins.

        Events of weight 0 are dropped. Events of one user and time keep their order.
        Shapes: (n,) each; `items` are positions in `item_ids`, `users` any whole numbers.
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
        """Return the rows that are targets, (T,): preferences in the slice for items new to their user, at most `limit`, evenly chosen."""
        keys = self.users * np.int64(max(len(self.item_ids), 1)) + self.items
        _, first_touch = np.unique(keys, return_index=True)
        fresh: I64 = np.sort(first_touch).astype(np.int64)
        fresh = fresh[self.is_newest[fresh] & (self.weights[fresh] > 0)]
        if len(fresh) > limit:
            fresh = fresh[np.linspace(0, len(fresh) - 1, limit).astype(np.int64)]
        return fresh

    def histories(self, cases: I64, length: int, to_model: I32) -> Histories:
        """Return the `length` interactions just before each case, as histories of T users.

        Shapes: cases (T,), row numbers; to_model (I,), each item's position on the model's item axis (−1: unknown to the model).
        """
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
        """Mark the items that each case's user touched before it, (T, I)."""
        mask = np.zeros((len(cases), len(self.item_ids)), bool)
        starts = np.searchsorted(self.users, self.users[cases])
        lengths = cases - starts
        rows = np.repeat(np.arange(len(cases)), lengths)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        mask[rows, self.items[np.repeat(starts, lengths) + within]] = True
        return mask


def evaluate(model: Model, part: Slice, *, limit: int = 5_000) -> dict[str, float]:
    """Return one model's metrics on one slice: recall at 1, 5, 10 and 20, NDCG at 5, 10 and 20, and counts.

    Each case is one preference of the slice. It is ranked from the user's history up to it, as lists are made while events stream in; the
    model itself was trained on events before the slice. All items of the log are ranked except those that the user touched before.
    A model cannot recommend an item that it does not know: such a target is a miss (`n_unknown_items`). So is the target of a user whose
    history holds nothing that the model can read (`n_without_history`). `limit` bounds the number of cases.
    """
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
    return ranking_metrics(ranks) | {name: float(count) for name, count in counts.items()}


def evaluate_popularity(part: Slice, *, limit: int = 5_000) -> dict[str, float]:
    """Rank the same cases by the number of preferences before the slice. This needs no history, so no user is a miss."""
    cases = part.cases(limit)
    chosen = (part.weights > 0) & ~part.is_newest
    counts = np.bincount(part.items[chosen], minlength=len(part.item_ids)).astype(np.float32)
    ranks = np.full(len(cases), np.inf)
    for rows in _blocks(len(cases), len(part.item_ids)):
        scores = np.broadcast_to(counts, (len(cases[rows]), len(counts)))
        ranks[rows] = mean_ranks(scores, part.items[cases[rows]].astype(np.int64), part.seen(cases[rows]))
    return ranking_metrics(ranks) | {"n_targets": float(len(cases))}


def _blocks(n_rows: int, n_items: int) -> list[slice]:
    step = max(1, _BLOCK_SCORES // max(n_items, 1))
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]
