"""Collects why a worker is not ready: each part of it notes its reasons here, and `status_server` publishes them."""

from __future__ import annotations

import threading
import time

from prometheus_client import CollectorRegistry

ROUND_S = 5.0
"""Seconds after which a worker whose round has not ended counts as waiting, and not ready."""
STARTING = "it has not started yet"


class WorkerStatus:
    """Reasons why a worker is not ready, by name, and when its event loop and its rounds were last seen. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reasons: dict[str, str] = {"start": STARTING}
        self._beaten_s: float | None = None
        self._round_s: float | None = None
        self.facts: dict[str, int] = {}
        """What /ready says besides, by name."""
        self.registry: CollectorRegistry | None = None
        """What /metrics shows."""

    def block(self, name: str, reason: str) -> None:
        """Count as not ready, for this reason, until the same name is cleared."""
        with self._lock:
            self._reasons[name] = reason

    def clear(self, name: str) -> None:
        """Remove this reason."""
        with self._lock:
            self._reasons.pop(name, None)

    def has(self, name: str) -> bool:
        """Return whether there is a reason of this name."""
        with self._lock:
            return name in self._reasons

    def beat(self) -> None:
        """Note that the event loop turns."""
        self._beaten_s = time.monotonic()

    def round_ended(self) -> None:
        """Note that a round succeeded, and remove the reason of a failed one."""
        self._round_s = time.monotonic()
        if "round" in self._reasons or "start" in self._reasons:
            self.clear("round")
            self.clear("start")

    def stalled_s(self) -> float:
        """Return the seconds since the event loop turned; 0 before it has started, since the first start compiles for a minute."""
        return 0.0 if self._beaten_s is None else time.monotonic() - self._beaten_s

    def reasons(self) -> list[str]:
        """Return why the worker is not ready; empty if it is."""
        with self._lock:
            found = list(self._reasons.values())
        if not found and self._round_s is not None and (age_s := time.monotonic() - self._round_s) > ROUND_S:
            found.append(f"its last round ended {age_s:.0f} s ago")
        return found
