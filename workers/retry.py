"""Waits between tries, and how often a problem that stays is logged."""

from __future__ import annotations

import time
from collections.abc import Callable

from tenacity import RetryCallState, Retrying
from tenacity.wait import wait_exponential, wait_random_exponential

FIRST_S = 0.1
LONGEST_S = 5.0
SAY_AGAIN_S = 60.0
"""Longest time between two log lines about a problem that stays."""


class Backoff:
    """Doubles the wait with each failure in a row, and draws it from its upper half, so that workers do not all come back at once.

    The caller waits by itself, between polls, heartbeats and stop signals: so tenacity's waits are used here, and not its retry loop.
    """

    def __init__(self, first_s: float = FIRST_S, longest_s: float = LONGEST_S, *, clock: Callable[[], float] = time.monotonic) -> None:
        # half of the wait is certain, the other half is drawn
        halves = {"multiplier": first_s / 2, "max": longest_s / 2}
        self._wait_s = wait_exponential(**halves) + wait_random_exponential(**halves)
        self._state = RetryCallState(Retrying(), None, (), {})
        self._clock = clock
        self._logged, self._log_again_at_s, self._quiet_s = "", 0.0, 0.0
        self.reset()

    def reset(self) -> None:
        """Start over with the first wait: the last try succeeded."""
        self._state.attempt_number = 0
        self._logged = ""

    def is_news(self, text: str) -> bool:
        """Return whether to log a problem: when it differs from the one before, then after 1, 2, 4 … and at most 60 s."""
        now_s = self._clock()
        if text != self._logged:
            self._logged, self._quiet_s = text, 0.5
        elif now_s < self._log_again_at_s:
            return False
        self._quiet_s = min(2 * self._quiet_s, SAY_AGAIN_S)
        self._log_again_at_s = now_s + self._quiet_s
        return True

    def next_s(self) -> float:
        """Count a failure and return the seconds to wait before the next try."""
        self._state.attempt_number += 1
        return self._wait_s(self._state)
