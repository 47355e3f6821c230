"""Waiting before another try."""

from __future__ import annotations

import random

FIRST_S = 0.1
LONGEST_S = 5.0


class Backoff:
    """Twice as long after each failure in a row, with jitter, so that workers do not come back all at once."""

    def __init__(self) -> None:
        self._failures = 0

    def reset(self) -> None:
        """The last try went well."""
        self._failures = 0

    def next_s(self) -> float:
        """Seconds to wait before the next try."""
        self._failures += 1
        longest_s = min(LONGEST_S, FIRST_S * float(2 ** min(self._failures - 1, 10)))
        return longest_s * random.uniform(0.5, 1.0)
