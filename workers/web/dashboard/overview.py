"""Figures of the overview: what workers answer and what this process reads from Kafka. A figure that nobody measures is None."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from workers.errors import WorkerError
from workers.settings import Settings
from workers.web.dashboard.watched_lists import WatchedLists
from workers.web.dashboard.worker_metrics import Look, look_at, quantile_s, shown_address

LOOK_S = 1.0
"""Seconds between two looks, whoever asks."""
RATE_S = 5.0
"""Seconds over which rates are taken."""
FRESH_S = 60.0
"""Seconds of events that freshness is taken of."""
KAFKA_S = 5.0
"""Seconds between two questions to Kafka for the lag, asked only where no worker answers."""

Looks = Mapping[str, Look | None]


class Overview:
    """Looks at workers at most once a second, while somebody watches, and keeps a minute of what it saw."""

    def __init__(
        self,
        settings: Settings,
        lists: WatchedLists,
        *,
        is_loaded: Callable[[], bool],
        look: Callable[[Sequence[str]], Awaitable[Looks]] = look_at,
        lag: Callable[[], dict[int, int]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._urls, self._lists, self._is_loaded = settings.dashboard.workers, lists, is_loaded
        self._look, self._lag, self._clock = look, lag, clock
        self._seen: deque[tuple[float, Looks]] = deque()
        self._counted: deque[tuple[float, int]] = deque()
        self._figures: dict[str, Any] = {}
        self._kafka_s, self._kafka_lag = float("-inf"), {}  # type: tuple[float, dict[int, int]]
        self._lock = asyncio.Lock()

    async def figures(self) -> dict[str, Any]:
        """Return the figures, at most LOOK_S old."""
        async with self._lock:
            now_s = self._clock()
            if not self._seen or now_s - self._seen[-1][0] >= LOOK_S * 0.9:
                looks = await self._look(self._urls)
                self._note(now_s, looks)
                self._figures = self._made(looks, await self._lag_of(now_s, looks))
            return self._figures

    def _note(self, now_s: float, looks: Looks) -> None:
        self._seen.append((now_s, looks))
        while len(self._seen) > 2 and now_s - self._seen[1][0] >= FRESH_S:
            self._seen.popleft()
        if self._is_loaded():
            self._counted.append((now_s, self._lists.n_records))
            while len(self._counted) > 2 and now_s - self._counted[1][0] >= RATE_S:
                self._counted.popleft()

    def _made(self, looks: Looks, lag: dict[int, int] | None) -> dict[str, Any]:
        streams = [look for look in looks.values() if look is not None and look.is_stream]
        answering = [look for look in looks.values() if look is not None]
        live = [sum(counts) for counts in zip(*(row for look in streams for row in look.live.values()), strict=True)] or [0.0, 0.0, 0.0]
        fresh = self._freshness()
        return {
            "events_per_s": self._rate("records") if streams else None,
            "lists_per_s": _slope(self._counted),
            "lag": None if lag is None else {str(partition): n for partition, n in sorted(lag.items())},
            "lag_total": None if lag is None else sum(lag.values()),
            "freshness_p50_ms": _ms(quantile_s(fresh, 0.5)),
            "freshness_p99_ms": _ms(quantile_s(fresh, 0.99)),
            "n_live": int(live[0]),
            "hit_rate": live[1] / live[0] if live[0] else None,
            "popular_hit_rate": live[2] / live[0] if live[0] else None,
            "dead_letters": int(sum(look.dead_letters for look in streams)) if streams else None,
            "alarms": sorted({name for look in answering for name in look.alarms}) if answering else None,
            "models": {kind: version for look in streams for kind, version in look.models.items()},
            "workers": [
                {"address": shown_address(url), "state": "away" if look is None else "ready" if look.is_ready else "waiting"}
                for url, look in looks.items()
            ],
            "n_lists": len(self._lists),
        }

    async def _lag_of(self, now_s: float, looks: Looks) -> dict[int, int] | None:
        streams = [look for look in looks.values() if look is not None and look.is_stream]
        if streams:
            return {partition: n for look in streams for partition, n in look.lag.items()}
        if self._lag is None:
            return None
        if now_s - self._kafka_s >= KAFKA_S:
            try:
                self._kafka_lag = await asyncio.to_thread(self._lag)
            except WorkerError:
                self._kafka_lag = {}
            self._kafka_s = now_s
        return self._kafka_lag or None

    def _rate(self, name: str) -> float | None:
        """Return a rate over the last RATE_S, of workers that both looks saw; a worker that started again counts from 0."""
        now_s, newest = self._seen[-1]
        earlier = [seen for seen in self._seen if now_s - seen[0] <= RATE_S + LOOK_S / 2]
        then_s, oldest = earlier[0]
        if now_s <= then_s:
            return None
        return sum(_grown(getattr(old, name), getattr(new, name)) for old, new in _pairs(oldest, newest)) / (now_s - then_s)

    def _freshness(self) -> dict[float, float]:
        """Return the histogram of the last minute, or since the workers' start on the first look."""
        oldest, newest = self._seen[0][1], self._seen[-1][1]
        found: dict[float, float] = {}
        for old, new in _pairs(oldest, newest):
            for bound, count in new.freshness.items():
                found[bound] = found.get(bound, 0.0) + _grown(old.freshness.get(bound, 0.0), count)
        return found


def _pairs(oldest: Looks, newest: Looks) -> Iterable[tuple[Look, Look]]:
    return [(old, new) for url, new in newest.items() if new is not None and (old := oldest.get(url)) is not None]


def _grown(before: float, after: float) -> float:
    return after - before if after >= before else after


def _slope(counted: Sequence[tuple[float, int]]) -> float | None:
    if len(counted) < 2 or counted[-1][0] <= counted[0][0]:
        return None
    return (counted[-1][1] - counted[0][1]) / (counted[-1][0] - counted[0][0])


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
