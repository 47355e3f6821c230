"""Lines of a training process: on standard error, one a line, which the trainer logs."""

from __future__ import annotations

import sys
import time
import traceback

from recsys.models.training import Progress
from workers.runtime.text import visible


def report(message: str) -> None:
    """Write one line of progress."""
    print(visible(message), file=sys.stderr, flush=True)


def report_traceback(error: BaseException) -> None:
    """Send a traceback to the trainer, which logs it at debug."""
    for line in "".join(traceback.format_exception(error)).splitlines():
        report(f"DEBUG {line}")


def reporter(max_seconds: float) -> Progress:
    """Return a progress function that reports once a second and stops the training after `max_seconds`."""
    deadline = time.monotonic() + max_seconds
    last = [0.0]

    def progress(done: float, message: str) -> bool:
        now = time.monotonic()
        if now - last[0] > 1.0 or done >= 1:
            last[0] = now
            report(f"{100 * done:3.0f} % {message}")
        return now < deadline

    return progress
