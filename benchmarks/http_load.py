"""An open-loop HTTP client in a process of its own: each request is sent when it is due, whether or not earlier ones were answered.

    python -m benchmarks.http_load PLAN

Latency runs from the time at which a request was due to the last byte of its answer, so neither a stalled client nor a stalled server
hides anything. A request takes a connection that is idle, or a new one. The client parses as little as it can, because the load must use
little of the machine that it measures.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import uvloop
from numpy.typing import NDArray

F64 = NDArray[np.float64]

CONNECTIONS = 64
"""Connections that are opened before the start."""
GRACE_S = 30.0
LENGTH = b"content-length: "


@dataclass(frozen=True, slots=True)
class HttpPlan:
    """Requests, ready to send, and the second after the start at which each is due."""

    host: str
    port: int
    requests: Sequence[bytes]
    due_s: F64

    def write(self, path: Path) -> None:
        """Write the plan to a file for the load's process."""
        with path.open("wb") as out:
            pickle.dump((self.host, self.port, self.requests, self.due_s), out)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a plan that this program wrote."""
        with path.open("rb") as written:
            return cls(*pickle.load(written))  # noqa: S301


class Answered(NamedTuple):
    """Seconds from due to answered (n,), status of each answer (n,), bytes of all bodies, and the processor seconds of the load."""

    latency_s: F64
    statuses: NDArray[np.int64]
    n_bytes: int
    cpu_s: float


class _Connection(asyncio.Protocol):
    """Sends one request after the other, and parses just enough of each answer to find its end."""

    def __init__(self, load: _Load) -> None:
        self._load, self._buffer, self._number = load, b"", -1
        self.transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def send(self, number: int, request: bytes) -> None:
        """Send a request; its answer goes to the load under this number."""
        assert self.transport is not None
        self._number = number
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(LENGTH)
        length = int(head[at + len(LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) >= end + 4 + length:
            self._buffer = b""
            self._load.answered(self, self._number, int(head[9:12]), length)

    def connection_lost(self, error: Exception | None) -> None:
        self._load.lost(self, self._number)


class _Load:
    def __init__(self, plan: HttpPlan) -> None:
        self.plan = plan
        n = len(plan.requests)
        self.done_s, self.statuses, self.n_bytes = np.full(n, np.nan), np.zeros(n, np.int64), 0
        self._left, self._idle, self._all = n, list[_Connection](), asyncio.Event()
        self._opening = set[asyncio.Task[None]]()

    async def open(self) -> _Connection:
        """Return a new connection."""
        _, found = await asyncio.get_running_loop().create_connection(lambda: _Connection(self), self.plan.host, self.plan.port)
        return found

    async def run(self, started_s: float) -> None:
        """Send everything when it is due and wait for the answers."""
        due_s = (self.plan.due_s + started_s).tolist()
        for number, at_s in enumerate(due_s):
            if (wait_s := at_s - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            if self._idle:
                self._idle.pop().send(number, self.plan.requests[number])
            else:
                task = asyncio.create_task(self._open_and_send(number))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await self._all.wait()
        self.done_s[np.isnan(self.done_s)] = time.monotonic()  # those without an answer have status 0, and took at least this long

    async def prepare(self) -> None:
        """Open the first connections."""
        self._idle += [await self.open() for _ in range(CONNECTIONS)]

    async def _open_and_send(self, number: int) -> None:
        try:
            (await self.open()).send(number, self.plan.requests[number])
        except OSError:  # no connection to be had: the request has no answer
            self.done_s[number] = time.monotonic()
            self._count()

    def answered(self, connection: _Connection, number: int, status: int, n_bytes: int) -> None:
        """Note an answer; the connection is idle again."""
        self.done_s[number], self.statuses[number] = time.monotonic(), status
        self.n_bytes += n_bytes
        self._idle.append(connection)
        self._count()

    def lost(self, connection: _Connection, number: int) -> None:
        """Note that a connection ended, and that its request has no answer if it waits for one."""
        if connection in self._idle:
            self._idle.remove(connection)
        elif number >= 0 and not self.statuses[number]:
            self.done_s[number] = time.monotonic()
            self._count()

    def _count(self) -> None:
        self._left -= 1
        if not self._left:
            self._all.set()


class HttpLoad:
    """A plan running in its own process."""

    def __init__(self, plan: HttpPlan, folder: Path, name: str) -> None:
        self._path, self.plan = folder / f"{name}.plan", plan
        plan.write(self._path)
        self._log = (folder / f"{name}.log").open("wb")
        command = [sys.executable, "-m", "benchmarks.http_load", str(self._path)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log)
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != b"ready":
            raise RuntimeError(f"the load did not start: {(folder / f'{name}.log').read_text()[-500:]}")

    def run(self) -> Answered:
        """Run the load to its end. Raises: RuntimeError when it failed."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{time.monotonic() + 0.2!r}\n".encode())
        self.process.stdin.flush()
        try:
            code = self.process.wait(float(self.plan.due_s[-1]) + 2 * GRACE_S)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self._log.close()
        if code:
            raise RuntimeError(f"the load failed: {Path(self._log.name).read_text()[-500:]}")
        with self._path.with_suffix(".answered").open("rb") as written:
            return Answered(*pickle.load(written))  # noqa: S301


async def _run(path: Path) -> None:
    plan = HttpPlan.read(path)
    load = _Load(plan)
    await load.prepare()
    gc.collect()
    gc.disable()
    print("ready", flush=True)
    started_s, cpu_s = float(sys.stdin.readline()), time.process_time()
    await load.run(started_s)
    answered = Answered(load.done_s - plan.due_s - started_s, load.statuses, load.n_bytes, time.process_time() - cpu_s)
    with path.with_suffix(".answered").open("wb") as out:
        pickle.dump(tuple(answered), out)


if __name__ == "__main__":
    uvloop.run(_run(Path(sys.argv[1])))
