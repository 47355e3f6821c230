"""Items that were published lately."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.items import Catalogue, freshness
from recsys.lists.context import ListContext, Users
from recsys.lists.sources.base import Source, Tops

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

_MARGIN = 24
"""Items beyond a user's share from which those that the user has seen are made up for."""


class NewSource(Source):
    """Scores an item by its freshness: 1 for one published now or since, 0 at age `new_s`."""

    name = "new"
    reason = "new_in"
    size = 12

    def __init__(self) -> None:
        self._by_time = _ByTime()

    def prepare(self, context: ListContext) -> None:
        self.tops(context)

    def tops(self, context: ListContext) -> Tops:
        def made() -> Tops:
            catalogue, new_s = context.catalogue, context.options.new_s
            newest = self._by_time.newest(catalogue, context.now_s, new_s, context.valid_s, self.size + _MARGIN)
            return Tops(newest[None, :], np.array([self.size], np.int64))

        return context.once("new.tops", made)

    def nominate(self, users: Users, context: ListContext, size: int) -> I64:
        newest = self.tops(context).tops[0]
        return np.broadcast_to(newest, (len(users), len(newest)))

    def score(self, users: Users, numbers: I64, context: ListContext) -> F32:
        published_s, new_s = context.catalogue.published_s, context.options.new_s
        return context.of_items("new.scores", numbers, lambda some: freshness(published_s[some], context.now_s, new_s, context.valid_s))


class _ByTime:
    """New items in the order of their publication, kept between batches and sorted again when a time of publication changed."""

    def __init__(self) -> None:
        self._changes = -1
        self._times_s: I64 = np.zeros(0, np.int64)
        self._numbers: I64 = np.zeros(0, np.int64)
        self._since_s = 0

    def newest(self, catalogue: Catalogue, now_s: int, new_s: float, valid_s: int, size: int) -> I64:
        """Return the `size` newest at `now_s` that are published at `valid_s`, newest first."""
        self._follow(catalogue, now_s, new_s)
        first, valid_end = np.searchsorted(self._times_s, [now_s - new_s, valid_s], side="right")
        return self._numbers[max(valid_end - size, first) : valid_end][::-1]

    def _follow(self, catalogue: Catalogue, now_s: int, new_s: float) -> None:
        since_s = int(now_s - new_s)
        if catalogue.changes == self._changes and since_s >= self._since_s:
            return
        self._changes, self._since_s = catalogue.changes, int(now_s - 2 * new_s)
        published = catalogue.published_s[: catalogue.n_items]
        new = np.flatnonzero(published > self._since_s)
        order = np.argsort(published[new], kind="stable")
        self._numbers, self._times_s = new[order], published[new][order]
