"""Commands and workers of a test run, forked in a tenth of a second from one process for each test process (`WorkerSpawner`)."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from tests.fault.worker_spawner import WorkerSpawner

_running = contextlib.ExitStack()
_spawners: list[WorkerSpawner] = []


def spawner() -> WorkerSpawner:
    """Return the spawner of this test process; the first call starts it, in some 5 s."""
    if not _spawners:
        folder = _running.enter_context(tempfile.TemporaryDirectory(prefix="recsys-forked-"))
        _spawners.append(_running.enter_context(WorkerSpawner(Path(folder))))
    return _spawners[0]


def close() -> None:
    """End it, and with it what it forked."""
    _spawners.clear()
    _running.close()
