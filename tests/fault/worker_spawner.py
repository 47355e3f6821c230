"""Starts workers in a tenth of a second: a process that has imported everything, runs no thread, and forks a child for each request.

    with WorkerSpawner(folder) as spawner:
        worker = spawner.start("stream-0", env, FaultPlan(crash=Crash("before_apply", 3)))

The spawning process (`spawner_process.py`) speaks JSON lines over a socket that it inherits: a request forks, or asks for the exit code of
a child. Only an answer to the second reaps a child, so that a process id stays its child's own for as long as the harness may signal it.
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

from tests.fault.fault_plan import FaultPlan
from workers.local.embedded import Child

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 240.0
"""5 s where the loops are compiled; they are compiled first after one of them has changed."""
COMMAND_TIMEOUT_S = 180.0
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
            env = {**outside, **ONE_THREAD, "RECSYS_CONFIG": os.devnull, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
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
        try:
            self.ask({"ready": True})
        except BaseException:
            self.__exit__(None, None, None)
            raise
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
        return self._fork(name, log, {"env": dict(env), "fault_plan": asdict(fault_plan or FaultPlan())})

    def start_command(self, kind: Literal["stream", "trainer", "gateway"], name: str, env: Mapping[str, str], log: Path) -> Child:
        """Fork `recsys worker KIND` as it is, without a fault, in exactly this environment."""
        arguments = ["worker", kind, "--data-folder", str(log.parent / name)]
        return Child(name, ForkedProcess(self._fork(name, log, {"env": dict(env), "arguments": arguments})), log)  # type: ignore[arg-type]

    def run_command(self, env: Mapping[str, str], *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run `recsys ARGUMENTS` in exactly this environment to its end, as `subprocess.run` does. Raises TimeoutError."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            given, out, err = (Path(folder) / name for name in ("in", "out", "err"))
            given.write_text(stdin)
            streams = {"stdin": str(given), "err": str(err)}
            code = self._fork("command", out, {"env": dict(env), "arguments": arguments, **streams}).wait(COMMAND_TIMEOUT_S)
            return subprocess.CompletedProcess(list(arguments), code, out.read_text(), err.read_text())

    def _fork(self, name: str, log: Path, request: Mapping[str, Any]) -> Worker:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        answer = self.ask({"fork": {"name": name, "log": str(log), **request}})
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


class ForkedProcess:
    """A forked worker with the methods of `subprocess.Popen` that `Child` and tests call."""

    def __init__(self, worker: Worker) -> None:
        self._worker, self.pid = worker, worker.pid

    @property
    def returncode(self) -> int | None:
        return self._worker.exit_code

    def poll(self) -> int | None:
        return self._worker.exit_code

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code. Raises subprocess.TimeoutExpired."""
        try:
            return self._worker.wait(math.inf if timeout is None else timeout)
        except TimeoutError:
            raise subprocess.TimeoutExpired(self._worker.name, timeout or 0.0) from None

    def send_signal(self, number: int) -> None:
        self._worker.signal(signal.Signals(number))

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
