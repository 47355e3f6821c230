"""Says whether a worker is alive: it touches a file each round, and `python -m workers.health [FILE]` exits 1 when that is missing or old.

For container health checks and liveness probes: nothing listens, and neither Kafka nor Redis is asked. A round that fails does not beat, so
a worker that waits for Redis turns unhealthy and recovers by itself. With FILE no settings are read: a check is then five times cheaper.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workers.runtime.text import visible

if TYPE_CHECKING:
    from workers.runtime.status import WorkerStatus

log = logging.getLogger(__name__)

BEAT_EVERY_S = 1.0  # a touch is a system call; rounds may be a thousand a second
MAX_AGE_S = 30.0


class Heartbeat:
    """Touches `file` at most once a second, and notes the round in `status`; does nothing without them."""

    def __init__(self, file: Path | None, status: WorkerStatus | None = None) -> None:
        self._file, self._status = file, status
        self._beaten_s = float("-inf")
        self._complained = False

    def beat(self) -> None:
        """Note that a round has succeeded. A file that cannot be written is logged once; the worker goes on and counts as unhealthy."""
        if self._status is not None:
            self._status.round_ended()
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


def check(file: Path, max_age_s: float = MAX_AGE_S) -> tuple[bool, str]:
    """Return whether the worker with this heartbeat file is alive, and one line about it."""
    try:
        age_s = time.time() - file.stat().st_mtime
    except OSError as error:
        return False, f"no worker has finished a round here ({error.strerror})"
    if age_s > max_age_s:
        return False, f"the worker's last round ended {age_s:.0f} s ago, more than {max_age_s:g}"
    return True, f"the worker's last round ended {max(age_s, 0.0):.0f} s ago"


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 alive, 1 not, 2 wrong settings or arguments."""
    if len(arguments) > 1:
        print("usage: python -m workers.health [FILE]", file=sys.stderr)
        return 2
    alive, line = check(Path(arguments[0])) if arguments else _check_settings()
    print(visible(line), file=sys.stdout if alive else sys.stderr)
    return 0 if alive else 1


def _check_settings() -> tuple[bool, str]:
    from workers.errors import SettingsError
    from workers.settings import load_settings

    try:
        health = load_settings().health
    except SettingsError as error:
        print(visible(error), file=sys.stderr)
        sys.exit(2)
    if health.heartbeat_file is None:
        return False, "health.heartbeat_file is not set, so workers write no heartbeat"
    return check(health.heartbeat_file, health.max_age_s)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
