"""Counts of how often items were chosen, in windows of event time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.state.batch_delta import WINDOWS_S

F32 = NDArray[np.float32]

LIVE_BUCKETS = {"hour": 24, "day": 30}
"""Buckets behind the newest that still count; older ones are dropped."""
_HALF_LIFE_BUCKETS = {"hour": 6.0, "day": 7.0}
_WINDOW_SHARE = {"hour": 1.0, "day": 0.1}
_ALL_TIME_SHARE = 1e-3  # only decides where nothing happened lately


class Popularity:
    """Counts by item number. `all_time` is (C,) float32 for a capacity of C items; buckets are kept per window, newest LIVE_BUCKETS
    only."""

    def __init__(self, n_items: int = 256) -> None:
        self.all_time: F32 = np.zeros(n_items, np.float32)
        self._buckets: dict[str, dict[int, F32]] = {window: {} for window in WINDOWS_S}
        self._newest = dict.fromkeys(WINDOWS_S, -1)
        self._trending: F32 | None = None
        self._settled: F32 | None = None
        """What all buckets but the newest add to `trending`."""

    def grow(self, n_items: int) -> None:
        """Make room for item numbers below `n_items`."""
        held = len(self.all_time)
        if n_items > held:
            more = max(n_items, 2 * held) - held
            self.all_time = np.pad(self.all_time, (0, more))
            self._buckets = {w: {b: np.pad(counts, (0, more)) for b, counts in kept.items()} for w, kept in self._buckets.items()}
            self._trending = self._settled = None

    def clear(self) -> None:
        """Forget everything."""
        self.all_time[:] = 0
        self._buckets = {window: {} for window in WINDOWS_S}
        self._newest = dict.fromkeys(WINDOWS_S, -1)
        self._trending = self._settled = None

    def newest_bucket(self, window: str) -> int:
        """Return the newest bucket of a window that event time has reached, or −1."""
        return self._newest[window]

    def advance(self, newest_s: int) -> None:
        """Move event time to `newest_s`: drop the buckets that count no longer."""
        for window, bucket_s in WINDOWS_S.items():
            self._advance(window, newest_s // bucket_s)

    def _advance(self, window: str, bucket: int) -> None:
        if bucket > self._newest[window]:
            self._newest[window] = bucket
            self._trending = self._settled = None
            for old in [held for held in self._buckets[window] if not self.holds(window, held)]:
                del self._buckets[window][old]

    def add(self, window: str, bucket: int, items: NDArray[np.uint32], counts: F32) -> None:
        """Add `counts` (n,) to distinct `items` (n,). What is older than the live buckets is passed over."""
        self._trending = None
        if window == "all":
            self.all_time[items] += counts
            return
        self._advance(window, bucket)
        if not self.holds(window, bucket):
            return
        kept = self._buckets[window]
        if bucket != self.newest_bucket(window):
            self._settled = None
        if bucket not in kept:
            kept[bucket] = np.zeros_like(self.all_time)
        kept[bucket][items] += counts

    def put(self, window: str, bucket: int, items: NDArray[np.uint32], counts: F32) -> None:
        """Replace the counts of distinct `items` (n,) in one bucket, as `add` would have summed them."""
        self.add(window, bucket, items, counts - self._held(window, bucket)[items])

    def holds(self, window: str, bucket: int) -> bool:
        """Return True while the bucket counts."""
        return window == "all" or bucket > self.newest_bucket(window) - LIVE_BUCKETS[window]

    def _held(self, window: str, bucket: int) -> F32:
        if window == "all":
            return self.all_time
        kept = self._buckets[window].get(bucket)
        return np.zeros_like(self.all_time) if kept is None else kept

    def window(self, window: str) -> F32:
        """Return the sum over the live buckets of a window, (C,)."""
        total = np.zeros_like(self.all_time)
        for counts in self._buckets[window].values():
            total += counts
        return total

    def trending(self) -> F32:
        """Return recent counts, halved every 6 hours and every week of event time, with a trace of the all-time count: (C,). Cached until
        the next add."""
        if self._trending is None:
            if self._settled is None:
                self._settled = self._recent(newest=False)
            self._trending = self._settled + self._recent(newest=True) + self.all_time * np.float32(_ALL_TIME_SHARE)
        return self._trending

    def _recent(self, *, newest: bool) -> F32:
        """Return the recent counts of each window's newest bucket, or of all others."""
        score = np.zeros_like(self.all_time)
        for window, kept in self._buckets.items():
            now = self.newest_bucket(window)
            for bucket, counts in kept.items():
                if (bucket == now) == newest:
                    score += counts * np.float32(_WINDOW_SHARE[window] * 0.5 ** ((now - bucket) / _HALF_LIFE_BUCKETS[window]))
        return score
