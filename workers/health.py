"""Is this worker alive? It touches a file each round; `python -m workers.health` exits 1 when the file is missing or old.

For container health checks and liveness probes: nothing listens, and neither Kafka nor Redis is asked. A round that fails does not beat, so
a worker that waits for Redis turns unhealthy and recovers by itself.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

from workers.errors import SettingsError
from workers.settings import HealthSettings, load_settings

log = logging.getLogger(__name__)

BEAT_EVERY_S = 1.0  # a touch is a system call; rounds may be a thousand a second


class Heartbeat:
    """Touches `file` at most once a second; does nothing without one."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._beaten_s = float("-inf")
        self._complained = False

    def beat(self) -> None:
        """Say that a round has ended well. A file that cannot be written is logged once; the worker works on and counts as unhealthy."""
        now_s = time.monotonic()
        if self._file is None or now_s - self._beaten_s < BEAT_EVERY_S:
            return
        self._beaten_s = now_s
        try:
            self._file.touch()
        except OSError as error:
            if not self._complained:
                log.warning("health.heartbeat_file cannot be written (%s): choose a file in a folder that can", error.strerror)
            self._complained = True


def check(settings: HealthSettings) -> tuple[bool, str]:
    """Whether the worker with this heartbeat file is alive, and one line about it."""
    file = settings.heartbeat_file
    if file is None:
        return False, "health.heartbeat_file is not set, so the worker leaves no sign of life"
    try:
        age_s = time.time() - file.stat().st_mtime
    except FileNotFoundError:
        return False, "the worker has not finished a round yet"
    if age_s > settings.max_age_s:
        return False, f"the worker's last round ended {age_s:.0f} s ago, health.max_age_s is {settings.max_age_s:g}"
    return True, f"the worker's last round ended {max(age_s, 0.0):.0f} s ago"


def main() -> int:
    """Exit code 0 alive, 1 not, 2 wrong settings."""
    try:
        alive, line = check(load_settings().health)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    print(line)
    return 0 if alive else 1


if __name__ == "__main__":
    sys.exit(main())
