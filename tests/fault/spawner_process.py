"""The process that forks workers: `python -m tests.fault.spawner_process SOCKET`, started by `WorkerSpawner`."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import socket
import sys
import warnings
from pathlib import Path
from typing import Any

from tests.fault.fault_plan import FaultPlan

_PR_SET_PDEATHSIG = 1


def serve(connection: socket.socket) -> None:
    """Answer requests until the harness goes away."""
    import tests.fault.worker  # noqa: F401  everything a worker needs, once
    from workers.stream.warm_up import compile_all

    compile_all()
    gc.collect()
    gc.freeze()  # or each child walks through all of it once, and copies its pages
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1:
        raise SystemExit(f"the spawner runs {threads} threads: what it imported starts some")
    lines = connection.makefile("rw", encoding="utf-8")
    for line in lines:
        request = json.loads(line)
        answer: dict[str, Any] = {}
        if "fork" in request:
            answer["pid"] = _fork(request["fork"], connection)
        elif "exit_code" in request:
            pid, status = os.waitpid(request["exit_code"], os.WNOHANG)
            answer["exit_code"] = os.waitstatus_to_exitcode(status) if pid else None
        lines.write(json.dumps(answer) + "\n")
        lines.flush()


def _fork(request: dict[str, Any], connection: socket.socket) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        die_with(parent)
        os.close(connection.fileno())
        with (
            open(request.get("stdin", os.devnull), "rb") as given,
            open(request["log"], "ab") as log,
            open(request.get("err", request["log"]), "ab") as err,
        ):
            for source, target in ((given, 0), (log, 1), (err, 2)):
                os.dup2(source.fileno(), target)
        code = _run(request, Path(request["log"]).parent / request["name"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(request: dict[str, Any], data_folder: Path) -> int:
    """Run a command as it is, or a worker with the faults of a plan."""
    if "arguments" in request:
        from workers.cli.app import run as run_command

        os.environ.clear()
        os.environ.update(request["env"])
        warnings.simplefilter("default", ResourceWarning)
        code = run_command(request["arguments"])
        gc.collect()  # says what was left open
        return code
    os.environ.update(request["env"])
    from tests.fault.worker import run

    return run(request["name"], FaultPlan.of(request["fault_plan"]), data_folder)


def die_with(parent: int) -> None:
    """End this process when its parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    die_with(os.getppid())
    serve(socket.socket(fileno=int(sys.argv[1])))
