"""Starts workers in a tenth of a second: a process that has imported everything, runs no thread, and forks a child for each request.

    with WorkerSpawner(folder) as spawner:
        worker = spawner.start("stream-0", env, FaultPlan(crash=Crash("before_apply", 3)))

The spawning process (`spawner_process.py`) speaks JSON lines over a socket that it inherits: a request forks, or asks for the exit code of
a child. Only an answer to the second reaps a child, so that a process id stays its child's own for as long as the harness may signal it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tests.fault.fault_plan import FaultPlan
from workers.local.embedded import Child

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 60.0
POLL_S = 0.02
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "ARROW_IO_THREADS": "1"}
"""A process that forks must not have threads, and numpy starts some when it is imported."""
_PR_SET_PDEATHSIG = 1


class WorkerSpawner:
    """The parent of all workers of a lane. Start it from the main thread: it ends with the thread that started it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._process: Child | None = None
        self._lines: IO[str] | None = None

    def __enter__(self) -> Self:
        mine, theirs = socket.socketpair()
        with theirs:
            os.set_inheritable(theirs.fileno(), True)
            log = self._folder / "spawner.log"
            self._folder.mkdir(parents=True, exist_ok=True)
            outside = {name: value for name, value in os.environ.items() if not name.startswith("RECSYS_")}
            env = {**outside, **ONE_THREAD, "RECSYS_CONFIG": os.devnull, "PYTHONPATH": str(ROOT)}
            with log.open("ab") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "tests.fault.spawner_process", str(theirs.fileno())],
                    cwd=ROOT,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
        self._process = Child("spawner", process, log)
        mine.settimeout(START_TIMEOUT_S)
        self._lines = mine.makefile("rw", encoding="utf-8")
        mine.close()
        self.ask({"ready": True})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._lines is not None:
            self._lines.close()
        if self._process is not None:
            self._process.stop(1.0)

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request and return its answer. Raises RuntimeError with the end of the spawner's log when it is gone."""
        assert self._lines is not None and self._process is not None, "entered"
        with self._lock:
            try:
                self._lines.write(json.dumps(request) + "\n")
                self._lines.flush()
                answer = self._lines.readline()
            except OSError as error:
                answer = type(error).__name__
        if not answer.startswith("{"):
            raise RuntimeError(f"the spawner does not answer ({answer}): {self._process.last_lines()}")
        found: dict[str, Any] = json.loads(answer)
        return found

    def start(self, name: str, env: Mapping[str, str], log: Path, fault_plan: FaultPlan | None = None) -> Worker:
        """Fork a stream worker that sees exactly these settings (RECSYS_… variables); its output goes to `log`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        answer = self.ask({"fork": {"name": name, "env": dict(env), "log": str(log), "fault_plan": asdict(fault_plan or FaultPlan())}})
        return Worker(self, name, int(answer["pid"]), log)


class Worker:
    """One forked worker."""

    def __init__(self, spawner: WorkerSpawner, name: str, pid: int, log: Path) -> None:
        self._spawner, self.name, self.pid, self.log = spawner, name, pid, log
        self._exit_code: int | None = None

    @property
    def exit_code(self) -> int | None:
        """Return None while it runs; minus the signal where one ended it."""
        if self._exit_code is None:
            self._exit_code = self._spawner.ask({"exit_code": self.pid})["exit_code"]
        return self._exit_code

    @property
    def running(self) -> bool:
        return self.exit_code is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.running:
            os.kill(self.pid, number)

    def kill(self) -> int:
        """End it at once, also one that is stopped, and return its exit code."""
        self.signal(signal.SIGKILL)
        return self.wait(10.0)

    def wait(self, timeout_s: float) -> int:
        """Return its exit code once it has ended. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while True:
            code = self.exit_code
            if code is not None:
                return code
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} has not ended within {timeout_s:g} s: {self.last_lines()}")
            time.sleep(POLL_S)

    @property
    def started(self) -> bool:
        """Return whether it handles signals already."""
        return "Starting..." in self.said()

    def said(self) -> str:
        """Return its log so far."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def last_lines(self, n: int = 5) -> str:
        return "\n".join(self.said().splitlines()[-n:])
