"""A process that trains along with a training process on the same machine, which starts and ends it."""

from __future__ import annotations

import os
import signal
import sys

from workers.errors import WorkerError
from workers.runtime.threads import limit_threads
from workers.trainer.child import NICENESS, end_with
from workers.trainer.progress import report
from workers.trainer.ranks import group


def main() -> int:
    """Arguments: URL of the group, own number, number of processes, threads. Exit codes: 0 dismissed, 1 left alone, 143 SIGTERM."""
    store, number, count, threads = sys.argv[1], *(int(each) for each in sys.argv[2:5])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not end_with(None):
        return 143
    os.nice(max(0, NICENESS - os.nice(0)))
    limit_threads(threads)
    try:
        with group(store, number, count) as ranks:
            ranks.attend()
    except WorkerError as error:
        report(f"ERROR process {number} of {count}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
