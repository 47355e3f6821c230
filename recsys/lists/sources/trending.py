"""Items that many users chose lately."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.lists.context import ListContext, Users
from recsys.lists.sources.base import Source, Tops
from recsys.state.half_lives import HALF_LIVES_S

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

_MARGIN = 80
"""Items beyond a user's share of a ranking from which those that the user has seen are made up for."""


class TrendingSource(Source):
    """Names the best items at each half-life of the bank, for all users alike; its raw score is `Popularity.trending`."""

    name = "trending"
    reason = "popular_now"
    size = 12
    """Candidates from each half-life."""

    def prepare(self, context: ListContext) -> None:
        self.tops(context)

    def tops(self, context: ListContext) -> Tops:
        def made() -> Tops:
            tops = context.popularity.tops(self.size + _MARGIN)
            tops[tops >= context.n_items] = -1
            return Tops(tops, np.full(len(HALF_LIVES_S), self.size, np.int64))

        return context.once("trending.tops", made)

    def nominate(self, users: Users, context: ListContext, size: int) -> I64:
        distinct = np.unique(self.tops(context).tops)
        distinct = distinct[distinct >= 0]
        return np.broadcast_to(distinct, (len(users), len(distinct)))

    def score(self, users: Users, numbers: I64, context: ListContext) -> F32:
        return context.of_items("trending.scores", numbers, context.popularity.trending_of)
