"""Items that others chose after those that a user chose lately."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recsys.cooccurrence import log_likelihood_ratio
from recsys.lists.context import ListContext, Users
from recsys.lists.reading import Recency
from recsys.lists.sources import cooccurrence_kernel
from recsys.lists.sources.base import CountRows, Source
from recsys.state.neighbours import DenseNeighbours, SparseNeighbours

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


class CooccurrenceSource(Source):
    """Scores an item by Σ_r weight · row · factor over the recent items' rows of co-occurrence counts, or of their log-likelihood ratios.

    A reason is exact, but for ratios in a small catalogue: there the counts explain, which orders a recent item's neighbours alike.
    """

    name = "cooccurrence"
    reason = "because"
    size = 80

    def prepare(self, context: ListContext) -> None:
        if not context.is_large:
            _candidate_factor(context)

    def rows(self, users: Users, context: ListContext) -> CountRows:
        return recent_rows(users, context)

    def nominate(self, users: Users, context: ListContext, size: int) -> I64:
        def made() -> I64:
            numbers = np.empty((len(users), size), np.int64)
            cooccurrence_kernel.nominate(self.rows(users, context), numbers)
            return numbers

        return users.once("cooccurrence.nominated", made)

    def score(self, users: Users, numbers: I64, context: ListContext) -> F32:
        return _scores(self.rows(users, context), numbers, context)

    def explain(self, users: Users, items: I64, scale: F32, context: ListContext, added: F32) -> None:
        cooccurrence_kernel.explain(_explaining_rows(users, context), scale, items, added)


def wide_scores(users: Users, numbers: I64, context: ListContext) -> F32:
    """Return the scores of the items `numbers` (U, C) by the wide reading of co-occurrence: (U, C)."""
    rows = recent_rows(users, context)
    return _scores(rows._replace(weights=rows.wide), numbers, context)


def recent_rows(users: Users, context: ListContext) -> CountRows:
    """Return the rows of the users' recent items."""
    return users.once("cooccurrence.rows", lambda: _rows(users, context))


def flat_weights(users: Users, context: ListContext) -> F32:
    """Return weights of the recent items' rows that depend on no age, (U, R): strength by popularity, 0 where an item does not count."""
    reading, recent = context.options.reading, users.recent
    by_order = replace(reading, recency=Recency(step=1.0, age_s=1.0, power=0.0))
    weights = by_order.weights(recent, context.popularity.all_time[: context.n_items])
    return context.neighbours.relative_weights(recent.items, weights)


def _scores(rows: CountRows, numbers: I64, context: ListContext) -> F32:
    raw = np.empty(numbers.shape, np.float32)
    if isinstance(context.neighbours, DenseNeighbours):
        cooccurrence_kernel.score_dense(rows, numbers, raw)
    else:
        cooccurrence_kernel.score_sparse(rows, numbers, raw)
    return raw


def _candidate_factor(context: ListContext) -> F32:
    reading, popularity = context.options.reading, context.popularity.all_time[: context.n_items]
    return context.once("cooccurrence.factor", lambda: reading.candidate_factor(popularity))


def _weights(users: Users, context: ListContext) -> F32:
    """Return the weights of the recent items' rows, (U, R); rows of older epochs weigh less."""
    weights = context.options.reading.weights(users.recent, context.popularity.all_time[: context.n_items])
    return context.neighbours.relative_weights(users.recent.items, weights)


def _wide(users: Users, context: ListContext, weights: F32) -> F32:
    """Return the weights of a second reading of the recent items' rows (U, R), which depend on the time from each interaction until now; 0
    where `weights` (U, R) are."""
    reading, recent = replace(context.options.reading, recency=context.options.wide_recency), users.recent
    from_now = replace(recent, ages_s=recent.ages_s + users.gaps_s(context)[:, None])
    return np.where(weights > 0, reading.weights(from_now, context.popularity.all_time[: context.n_items]), np.float32(0))


def _rows(users: Users, context: ListContext) -> CountRows:
    reading, neighbours, popularity = context.options.reading, context.neighbours, context.popularity.all_time[: context.n_items]
    if isinstance(neighbours, SparseNeighbours):
        return _sparse_rows(users, context, neighbours, ratios=reading.similarity == "llr")
    weights, factor = _weights(users, context), _candidate_factor(context)
    if reading.similarity != "llr":
        return CountRows.dense(neighbours.matrix, factor, users.recent.items, weights, _wide(users, context, weights))
    read = weights > 0
    numbers, place = np.unique(users.recent.items[read], return_inverse=True)
    matrix = np.zeros((max(len(numbers), 1), context.n_items), np.float32)
    if len(numbers):
        own, total = popularity[numbers][:, None], float(popularity.sum())
        matrix[:] = log_likelihood_ratio(neighbours.rows(numbers, context.n_items), own, popularity[None, :], total)
    places = np.zeros(read.shape, np.int64)
    places[read] = place
    return CountRows.dense(matrix, factor, places, weights, _wide(users, context, weights))


def _sparse_rows(users: Users, context: ListContext, neighbours: SparseNeighbours, *, ratios: bool) -> CountRows:
    """Gather the rows of the recent items, with the factor of each neighbour, or as log-likelihood `ratios`."""
    reading, popularity, recent = context.options.reading, context.popularity.all_time[: context.n_items], users.recent
    weights = _weights(users, context)
    read = weights > 0
    numbers, place = np.unique(recent.items[read], return_inverse=True)
    rows = neighbours.gathered(numbers)
    places = np.full(recent.items.shape, -1, np.int64)
    places[read] = place
    if ratios:
        own = np.repeat(popularity[rows.numbers], np.diff(rows.starts))
        values = log_likelihood_ratio(rows.values, own, popularity[rows.neighbours], float(popularity.sum())).astype(np.float32)
    else:
        values = rows.values * reading.candidate_factor(popularity[rows.neighbours])
    return CountRows.sparse(rows.starts, rows.neighbours, values, places, weights, _wide(users, context, weights))


def _explaining_rows(users: Users, context: ListContext) -> CountRows:
    if context.is_large or context.options.reading.similarity != "llr":
        return recent_rows(users, context)
    neighbours = context.neighbours
    if isinstance(neighbours, SparseNeighbours):
        return _sparse_rows(users, context, neighbours, ratios=False)
    return CountRows.dense(neighbours.matrix, _candidate_factor(context), users.recent.items, _weights(users, context))
