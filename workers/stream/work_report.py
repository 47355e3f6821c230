"""Logs a line every ten seconds of work: rates, and where the time went."""

from __future__ import annotations

import logging
import time

from workers.stream.outcome import Outcome

log = logging.getLogger(__name__)

REPORT_S = 10.0


class WorkReport:
    """Sums of the batches since the last line."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Start the next ten seconds."""
        self._since_s = time.monotonic()
        self._records = self._new = self._lists = self._dead = 0
        self._seconds: dict[str, float] = {}

    def add(self, outcome: Outcome) -> None:
        """Count a batch."""
        self._records += outcome.n_records
        self._new += outcome.n_new
        self._lists += outcome.n_lists
        self._dead += len(outcome.dead_letters)
        for step, seconds in outcome.seconds.items():
            self._seconds[step] = self._seconds.get(step, 0.0) + seconds

    def say(self) -> bool:
        """Log the line if ten seconds are over, and return whether they were."""
        elapsed_s = time.monotonic() - self._since_s
        if elapsed_s < REPORT_S:
            return False
        if self._records:
            steps = " ".join(f"{step}={seconds / elapsed_s:.0%}" for step, seconds in self._seconds.items())
            log.info(
                "%.0f records/s, %.0f interactions/s, %.0f lists/s, %d dead letters; time: %s",
                self._records / elapsed_s,
                self._new / elapsed_s,
                self._lists / elapsed_s,
                self._dead,
                steps,
            )
        self.clear()
        return True
