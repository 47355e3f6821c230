"""One round of training, in a process of its own.

`python -m workers.trainer.child [PARENT]` reads a `TrainingJob` as JSON from standard input, reports its progress on standard error,
and prints one JSON object as the last line of standard output. The process runs at low priority and gives its memory back
by ending; SIGTERM ends it at once, and what is half written in the store counts as nothing.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from dataclasses import asdict
from typing import TextIO

from pydantic import ValidationError

from workers.errors import describe
from workers.runtime.threads import limit_threads
from workers.trainer.progress import report, report_traceback
from workers.trainer.ranks import together
from workers.trainer.training_job import TrainingJob
from workers.trainer.training_round import run_job

_PR_SET_PDEATHSIG = 1
NICENESS = 10
"""Added to the process's niceness, so that training yields to the stream."""


class _Ended(BaseException):
    """SIGTERM came."""


def end_with(parent: int | None) -> bool:
    """On Linux, get SIGTERM when the trainer dies without ending us; elsewhere a round that is left alone ends by itself.

    False if that trainer has died already, while this process was starting.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    return parent is None or os.getppid() == parent


def main() -> int:
    """The child process; its argument is the trainer's process id. Exit codes: 0 done (single kinds may have failed), 1 the round failed,
    2 an unreadable job, 143 ended by SIGTERM or by the trainer's death."""

    def end(*_: object) -> None:
        raise _Ended

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the trainer ends its child itself
    if not end_with(int(sys.argv[1]) if sys.argv[1:] and sys.argv[1].isdecimal() else None):
        return 143
    results_to = _keep_stdout()
    try:
        signal.signal(signal.SIGTERM, end)
        job = TrainingJob.model_validate_json(sys.stdin.buffer.read())
    except ValidationError as error:
        report(f"training job: {error.errors(include_url=False, include_input=False)[0]['msg']}")
        return 2
    except _Ended:
        return 143
    try:
        os.nice(NICENESS)
        limit_threads(job.trainer.torch_threads)
        with together(job.trainer.processes) as ranks:
            results = run_job(job, ranks)
    except _Ended:
        return 143
    except Exception as error:
        report_traceback(error)
        print(json.dumps({"error": describe(error), "results": []}), file=results_to, flush=True)
        return 1
    print(json.dumps({"error": None, "results": [asdict(result) for result in results]}), file=results_to, flush=True)
    return 0


def _keep_stdout() -> TextIO:
    """Return the pipe to the trainer, and send whatever else is printed, by libraries in C too, to standard error."""
    sys.stdout.flush()
    kept = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return kept


if __name__ == "__main__":
    sys.exit(main())
