"""Popularity of a large catalogue: what trends is updated as counts come in, instead of being summed over all items after each batch."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.state.popularity import _ALL_TIME_SHARE as ALL_TIME_SHARE
from recsys.state.popularity import _HALF_LIFE_BUCKETS as HALF_LIFE_BUCKETS
from recsys.state.popularity import _WINDOW_SHARE as WINDOW_SHARE
from recsys.state.popularity import Popularity

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]

_POOL = 4_096
"""Best items remembered: with those touched since, they hold the best ones until event time reaches another bucket."""
_TOUCHED = 16_384


class _Bucket:
    """Counts of the items that have any, (n,) ascending; what was added since waits unsorted."""

    def __init__(self) -> None:
        self._items: U32 = np.zeros(0, np.uint32)
        self._counts: F32 = np.zeros(0, np.float32)
        self._more: list[tuple[U32, F32]] = []

    def add(self, items: U32, counts: F32) -> None:
        self._more.append((items, counts))
        if len(self._more) > 64:
            self.counts()

    def counts(self) -> tuple[U32, F32]:
        """Return items and their counts."""
        if self._more:
            items = np.concatenate((self._items, *(part[0] for part in self._more)))
            counts = np.concatenate((self._counts, *(part[1] for part in self._more)))
            self._items, place = np.unique(items, return_inverse=True)
            self._counts = np.bincount(place, counts, len(self._items)).astype(np.float32)
            self._more = []
        return self._items, self._counts

    def at(self, items: U32) -> F32:
        """Return the counts of these items."""
        held, counts = self.counts()
        if not len(held):
            return np.zeros(len(items), np.float32)
        place = np.minimum(np.searchsorted(held, items), len(held) - 1)
        return np.where(held[place] == items, counts[place], np.float32(0))


class LargePopularity(Popularity):
    """As `Popularity`, with sparse buckets, and `trending` in one array that is changed in place."""

    def __init__(self, n_items: int = 256) -> None:
        super().__init__(n_items)
        self._sparse: dict[str, dict[int, _Bucket]] = {window: {} for window in self._newest}
        self._sums: dict[str, F64] = {window: np.zeros(n_items) for window in WINDOW_SHARE}
        self._score: F32 = np.zeros(n_items, np.float32)
        self._squares = 0.0
        self._pool: I64 | None = None
        self._touched: list[U32] = []
        self._n_touched = 0

    @classmethod
    def of(cls, other: Popularity) -> Self:
        """Return the same counts."""
        made = cls(len(other.all_time))
        for window, newest in other._newest.items():
            made._newest[window] = newest
        made._put_all(other.all_time)
        for window, kept in other._buckets.items():
            for bucket, counts in kept.items():
                items = np.flatnonzero(counts).astype(np.uint32)
                made.add(window, bucket, items, counts[items])
        return made

    def _put_all(self, counts: F32) -> None:
        items = np.flatnonzero(counts).astype(np.uint32)
        self.add("all", 0, items, counts[items])

    def grow(self, n_items: int) -> None:
        held = len(self.all_time)
        if n_items > held:
            more = (0, max(n_items, 2 * held) - held)
            self.all_time, self._score = np.pad(self.all_time, more), np.pad(self._score, more)
            self._sums = {window: np.pad(sums, more) for window, sums in self._sums.items()}

    def clear(self) -> None:
        self.__init__(len(self.all_time))  # type: ignore[misc]

    def _advance(self, window: str, bucket: int) -> None:
        newest = self._newest[window]
        if bucket <= newest:
            return
        self._newest[window] = bucket
        if window not in self._sums:
            return
        if self._sparse[window]:
            self._sums[window] *= 0.5 ** ((bucket - newest) / HALF_LIFE_BUCKETS[window])
            for old in [held for held in self._sparse[window] if not self.holds(window, held)]:
                items, counts = self._sparse[window].pop(old).counts()
                self._sums[window][items] -= counts * self._worth(window, old)
            np.maximum(self._sums[window], 0, out=self._sums[window])
        self._pool = None

    def add(self, window: str, bucket: int, items: U32, counts: F32) -> None:
        if window == "all":
            self.all_time[items] += counts
        else:
            self._advance(window, bucket)
            if not self.holds(window, bucket):
                return
            self._sparse[window].setdefault(bucket, _Bucket()).add(items, counts)
            self._sums[window][items] += counts * self._worth(window, bucket)
        if self._pool is None:
            return
        before = self._score[items].astype(np.float64)
        self._score[items] = now = self._scores(items)
        self._squares += float(now.astype(np.float64) @ now - before @ before)
        self._touched.append(items)
        self._n_touched += len(items)
        if self._n_touched > _TOUCHED:
            self._pool = None

    def put(self, window: str, bucket: int, items: U32, counts: F32) -> None:
        if window == "all":
            held = self.all_time[items]
        else:
            kept = self._sparse[window].get(bucket)
            held = np.zeros(len(items), np.float32) if kept is None else kept.at(items)
        self.add(window, bucket, items, counts - held)

    def window(self, window: str) -> F32:
        total = np.zeros_like(self.all_time)
        for kept in self._sparse[window].values():
            items, counts = kept.counts()
            total[items] += counts
        return total

    def trending(self) -> F32:
        """Return `Popularity.trending`; the array goes on changing."""
        self._refresh()
        return self._score

    def trending_scale(self, n_items: int) -> float:
        """Return 1 / root mean square over `n_items`, 0 where nothing trends."""
        self._refresh()
        return float((self._squares / max(n_items, 1)) ** -0.5) if self._squares > 0 else 0.0

    def best(self, size: int) -> I64:
        """Return the `size` (at most 4,096) that trend most, best first, equal ones by number."""
        self._refresh()
        assert self._pool is not None
        if self._touched:
            self._pool = np.unique(np.concatenate((self._pool, *self._touched)).astype(np.int64))
            self._touched = []
        scores = self._score[self._pool]
        return self._pool[np.lexsort((self._pool, -scores))[:size]]

    def _refresh(self) -> None:
        if self._pool is not None:
            return
        self._score = self._scores(slice(None))
        self._squares = float(np.einsum("n,n->", self._score, self._score, dtype=np.float64))
        self._pool = torch.topk(torch.from_numpy(self._score), min(_POOL, len(self._score))).indices.sort().values.numpy()
        self._touched, self._n_touched = [], 0

    def _scores(self, items: U32 | slice) -> F32:
        score = self.all_time[items] * np.float64(ALL_TIME_SHARE)
        for window, sums in self._sums.items():
            score = score + WINDOW_SHARE[window] * sums[items]
        rounded: F32 = score.astype(np.float32)
        return rounded

    def _worth(self, window: str, bucket: int) -> float:
        return float(0.5 ** ((self._newest[window] - bucket) / HALF_LIFE_BUCKETS[window]))
