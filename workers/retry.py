"""Waiting before another try."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

FIRST_S = 0.1
LONGEST_S = 5.0
SAY_AGAIN_S = 60.0
"""A problem that stays is logged at most so often."""


class Backoff:
    """Twice as long after each failure in a row, with jitter, so that workers do not come back all at once."""

    def __init__(self, first_s: float = FIRST_S, longest_s: float = LONGEST_S, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._failures = 0
        self._first_s, self._longest_s, self._clock = first_s, longest_s, clock
        self._said, self._say_at_s, self._quiet_s = "", 0.0, 0.0

    def reset(self) -> None:
        """The last try went well."""
        self._failures = 0
        self._said = ""

    def is_news(self, text: str) -> bool:
        """Whether a problem should be logged: when it is another one than before, then after 1, 2, 4 … and at most 60 s."""
        now_s = self._clock()
        if text != self._said:
            self._said, self._quiet_s = text, 0.5
        elif now_s < self._say_at_s:
            return False
        self._quiet_s = min(2 * self._quiet_s, SAY_AGAIN_S)
        self._say_at_s = now_s + self._quiet_s
        return True

    def next_s(self) -> float:
        """Seconds to wait before the next try."""
        self._failures += 1
        longest_s = min(self._longest_s, self._first_s * float(2 ** min(self._failures - 1, 20)))
        return longest_s * random.uniform(0.5, 1.0)
