"""Items that many users chose lately."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.lists.context import ListContext, Users
from recsys.lists.sources.base import Source
from recsys.state.large_popularity import LargePopularity

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


class TrendingSource(Source):
    """Scores an item by `Popularity.trending`, for all users alike."""

    name = "trending"
    size = 64

    def prepare(self, context: ListContext) -> None:
        _trending(context)
        if context.is_large:
            _best(context, self.size)
            _scale(context)

    def nominate(self, users: Users, context: ListContext, size: int) -> I64:
        best = _best(context, size)
        return np.broadcast_to(best, (len(users), len(best)))

    def score(self, users: Users, numbers: I64, context: ListContext) -> F32:
        scores: F32 = _trending(context)[numbers]
        return scores

    def scale(self, users: Users, context: ListContext) -> F32:
        return np.full(len(users), _scale(context), np.float32)

    def everybody(self, context: ListContext) -> F32:
        return _trending(context)


def _trending(context: ListContext) -> F32:
    return context.once("trending", lambda: context.popularity.trending()[: context.n_items])


def _best(context: ListContext, size: int) -> I64:
    def made() -> I64:
        best = _large(context).best(size)
        return best[best < context.n_items]

    return context.once("trending.best", made)


def _scale(context: ListContext) -> float:
    return context.once("trending.scale", lambda: _large(context).trending_scale(context.n_items))


def _large(context: ListContext) -> LargePopularity:
    assert isinstance(context.popularity, LargePopularity), "made when the catalogue grew large"
    return context.popularity
