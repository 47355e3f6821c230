"""Decides when a worker is so far behind that it defers lists."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

LOOK_S = 0.25
"""How often the lag is looked at, besides at each full poll: lists are deferred from the first one on."""
HYSTERESIS = 10
"""A worker makes lists again once it is behind by less than this part of the bound."""


class CatchUp:
    """Defers lists while more than `most_events` events wait."""

    def __init__(self, most_events: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_events, self._clock = most_events, clock
        self._looked_s = float("-inf")
        self.is_behind = False

    def is_due(self, *, is_full: bool) -> bool:
        """Return whether to look at the lag; `is_full`: the last poll returned as many records as it may."""
        return self._clock() - self._looked_s >= LOOK_S or (is_full and not self.is_behind)

    def look(self, lag: Mapping[int, int]) -> None:
        """Decide by the lag of each partition."""
        self._looked_s = self._clock()
        behind = sum(lag.values())
        is_behind = behind > self._most_events or (self.is_behind and behind * HYSTERESIS > self._most_events)
        if is_behind != self.is_behind:
            self.is_behind = is_behind
            log.warning("%d events behind: %s", behind, "lists are deferred, the state goes on" if is_behind else "lists are made again")
