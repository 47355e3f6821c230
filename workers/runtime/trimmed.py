"""Counts optional fields of which something was dropped or cut, and says so in the log at intervals: such records leave no dead letter."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

SAID_EVERY_S = 10.0


class TrimmedFields:
    """Counts by kind of record (event, item, profile) and field, and one line of warning at most every `SAID_EVERY_S`.

    `total` holds all counts; `on_count` is called with kind, field and how many more.
    """

    def __init__(self, on_count: Callable[[str, str, int], object] | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.total: Counter[tuple[str, str]] = Counter()
        self._on_count, self._clock = on_count, clock
        self._said_s = float("-inf")
        self._unsaid: Counter[tuple[str, str]] = Counter()

    def add(self, record: str, fields: Mapping[str, int]) -> None:
        """Count records by field, and say so if the last line is long enough ago."""
        for field, n in fields.items():
            self.total[record, field] += n
            self._unsaid[record, field] += n
            if self._on_count is not None:
                self._on_count(record, field, n)
        self.say()

    def say(self) -> None:
        """Write what has not been said yet, unless the last line is too recent."""
        now_s = self._clock()
        if not self._unsaid or now_s - self._said_s < SAID_EVERY_S:
            return
        self._said_s = now_s
        found = ", ".join(f"{field} of {n} {record}{'s' * (n > 1)}" for (record, field), n in sorted(self._unsaid.items()))
        log.warning("optional fields are wrong, too long or too many, what is valid of them is kept: %s (limits: docs/schemas)", found)
        self._unsaid.clear()
