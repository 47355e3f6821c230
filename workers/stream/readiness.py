"""Knows what a list depends on, and which of it a worker has not loaded yet. Until all of it is loaded, lists are deferred.

| name | loaded when |
| --- | --- |
| `event time` | the newest event that the state has applied is known, so that its epochs and popularity are the ones that are read |
| `item numbers` | the store has every item number that this worker knows |
| `items`, `profiles` | their topics were read to their ends into the state that is served, and the engine followed |
| `models` | each announced model serves, is refused, or could not be loaded for `MODELS_WAIT_S` |

All of it is about one state: another generation, an emptied or restored Redis, or a failover (`ServingState.resets`) unloads it again.
Co-occurrence rows and popularity are read for each list, by event time (`workers/stream/item_state_cache.py`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from workers.errors import Transient
from workers.stream.model_sync import ModelFollower
from workers.stream.serving_state import ServingState

log = logging.getLogger(__name__)

FIRST_REMINDER_S = 10.0
LONGEST_REMINDER_S = 600.0
CATALOGUE = ("items", "profiles")


class Readiness:
    """Says which dependencies of a list are missing. The caller holds a turn of the state, or accepts an answer that is about to change."""

    def __init__(self, state: ServingState, models: ModelFollower) -> None:
        self._state, self._models = state, models
        self._loaded_for: int | None = None
        self.failure = ""
        """Why the low-rate topics could not be read at the last attempt."""

    def note_failure(self, failure: str) -> None:
        """Note why the low-rate topics cannot be read now; empty when they can."""
        self.failure = failure

    def note_catalogue_loaded(self, resets: int) -> None:
        """Note that the low-rate topics are read into the state that the caches mirror since reset number `resets`, and into the engine."""
        self._loaded_for = resets

    def note_catalogue_incomplete(self) -> None:
        """Note that the low-rate topics have to be read further before a list is made."""
        self._loaded_for = None

    def waiting_for(self) -> list[str]:
        """Return the names of what is missing; empty when lists can be made."""
        missing = []
        if not self._state.has_event_time:
            missing.append("event time")
        if self._state.numbering.lost:
            missing.append("item numbers")
        if self._loaded_for != self._state.resets:
            missing += CATALOGUE
        if self._models.missing():
            missing.append("models")
        return missing

    def check(self) -> None:
        """Raise Transient when a list cannot be made yet."""
        if missing := self.waiting_for():
            raise Transient(f"lists wait for {', '.join(missing)}")


class WaitingLog:
    """Logs what lists wait for: each change once, and a reminder at growing intervals."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: list[str] = []
        self._since_s = self._due_s = 0.0
        self._interval_s = FIRST_REMINDER_S

    def look(self, missing: Sequence[str], failure: str = "") -> None:
        """Log what changed; when a reminder is due, log what is still missing and why."""
        now_s = self._clock()
        if list(missing) != self._said:
            if not self._said:
                self._since_s, self._interval_s = now_s, FIRST_REMINDER_S
                self._due_s = now_s + self._interval_s
            self._said = list(missing)
            log.info("lists wait for %s; the state goes on", ", ".join(missing)) if missing else log.info("lists are made")
        elif missing and now_s >= self._due_s:
            self._interval_s = min(2 * self._interval_s, LONGEST_REMINDER_S)
            self._due_s = now_s + self._interval_s
            why = f" ({failure})" if failure else ""
            log.warning("lists have waited %.0f s for %s%s; the state goes on", now_s - self._since_s, ", ".join(missing), why)
