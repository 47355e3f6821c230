"""Items that were published lately."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.items import Catalogue, freshness
from recsys.lists.context import ListContext, Users
from recsys.lists.sources.base import Source

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


class NewSource(Source):
    """Scores an item by its freshness: 1 for one published now or since, 0 at age `new_s`."""

    name = "new"
    size = 32

    def __init__(self) -> None:
        self._by_time = _ByTime()

    def prepare(self, context: ListContext) -> None:
        if context.is_large:
            self._newest(context)
        else:
            self.everybody(context)

    def nominate(self, users: Users, context: ListContext, size: int) -> I64:
        newest = self._newest(context).numbers
        return np.broadcast_to(newest, (len(users), len(newest)))

    def score(self, users: Users, numbers: I64, context: ListContext) -> F32:
        published_s = context.catalogue.published_s[numbers]
        return freshness(published_s, context.now_s, context.options.new_s, context.valid_s)

    def scale(self, users: Users, context: ListContext) -> F32:
        return np.full(len(users), self._newest(context).scale, np.float32)

    def everybody(self, context: ListContext) -> F32:
        return context.once("new", lambda: context.catalogue.freshness(context.now_s, context.options.new_s, context.valid_s))

    def _newest(self, context: ListContext) -> _Newest:
        def made() -> _Newest:
            return self._by_time.newest(context.catalogue, context.now_s, context.options.new_s, context.valid_s, self.size)

        return context.once("new.newest", made)


@dataclass(frozen=True, slots=True)
class _Newest:
    """The newest items that are published, newest first, (≤ size,); and 1 / root mean square of all items' freshness."""

    numbers: I64
    scale: float


class _ByTime:
    """New items in the order of their publication, kept between batches and sorted again when a time of publication changed."""

    def __init__(self) -> None:
        self._changes = -1
        self._times_s: I64 = np.zeros(0, np.int64)
        self._numbers: I64 = np.zeros(0, np.int64)
        self._sums = np.zeros((3, 1))
        self._since_s, self._origin_s = 0, 0

    def newest(self, catalogue: Catalogue, now_s: int, new_s: float, valid_s: int, size: int) -> _Newest:
        """Return the `size` newest at `now_s`; what was published since, until `valid_s`, is as new as can be."""
        self._follow(catalogue, now_s, new_s)
        first, end, valid_end = np.searchsorted(self._times_s, [now_s - new_s, min(now_s, valid_s), valid_s], side="right")
        ones, linear, quadratic = self._sums[:, end] - self._sums[:, first]
        # (1 − (now − t)/T)² summed over what is new, in days
        period = new_s / 86_400.0
        offset = 1 - (now_s - self._origin_s) / 86_400.0 / period
        squares = float(offset * offset * ones + 2 * offset / period * linear + quadratic / period**2) + float(valid_end - end)
        scale = float((squares / max(catalogue.n_items, 1)) ** -0.5) if squares > 1e-12 else 0.0
        return _Newest(self._numbers[max(valid_end - size, first) : valid_end][::-1], scale)

    def _follow(self, catalogue: Catalogue, now_s: int, new_s: float) -> None:
        since_s = int(now_s - new_s)
        if catalogue.changes == self._changes and since_s >= self._since_s:
            return
        self._changes, self._since_s = catalogue.changes, int(now_s - 2 * new_s)
        published = catalogue.published_s[: catalogue.n_items]
        new = np.flatnonzero(published > self._since_s)
        order = np.argsort(published[new], kind="stable")
        self._numbers, self._times_s = new[order], published[new][order]
        self._origin_s = int(self._times_s[-1]) if len(order) else 0
        t = (self._times_s - self._origin_s) / 86_400.0
        self._sums = np.concatenate((np.zeros((3, 1)), np.cumsum((np.ones_like(t), t, t * t), axis=1)), axis=1)
