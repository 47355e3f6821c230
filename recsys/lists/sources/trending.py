"""Items that many users chose lately."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.lists.context import ListContext, Users
from recsys.lists.sources.base import SCALE_SAMPLE, Source

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


class TrendingSource(Source):
    """Scores an item by `Popularity.trending`, for all users alike."""

    name = "trending"
    size = 64

    def prepare(self, context: ListContext) -> None:
        if context.is_large:
            _best(context, self.size)
            _scale(context, self.size)
        else:
            self.everybody(context)

    def nominate(self, users: Users, context: ListContext, size: int) -> I64:
        best = _best(context, size)
        return np.broadcast_to(best, (len(users), len(best)))

    def score(self, users: Users, numbers: I64, context: ListContext) -> F32:
        return context.popularity.trending_of(numbers)

    def scale(self, users: Users, context: ListContext) -> F32:
        return np.full(len(users), _scale(context, self.size), np.float32)

    def everybody(self, context: ListContext) -> F32:
        return context.once("trending", lambda: context.popularity.trending()[: context.n_items])


def _best(context: ListContext, size: int) -> I64:
    return context.once("trending.best", lambda: context.popularity.best_trending(size))


def _scale(context: ListContext, size: int) -> float:
    """Return 1 / root mean square over all items, estimated: the best count as they are, all others as the mean of those in a sample."""

    def made() -> float:
        best = _best(context, size)
        sample = np.setdiff1d(np.random.default_rng(0).integers(0, context.n_items, SCALE_SAMPLE), best)
        rest = np.square(context.popularity.trending_of(sample), dtype=np.float64)
        squares = np.square(context.popularity.trending_of(best), dtype=np.float64).sum()
        squares += (rest.mean() if len(rest) else 0.0) * (context.n_items - len(best))
        return float((squares / max(context.n_items, 1)) ** -0.5) if squares > 0 else 0.0

    return context.once("trending.scale", made)
