"""Servers that a scenario may hurt: a Valkey of its own, and a proxy before one that delays, cuts and swallows answers."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import signal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from workers.local.embedded import HOST, Child, start_server, valkey_binary

CHUNK_BYTES = 65_536
END_S = 5.0
TURNS = 5  # of the event loop: from an accepted connection to its task, and from a cut transport to its closed socket
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


class OwnValkey:
    """A server with an append-only file, every write synced, that may be killed and started again on its port."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._options = folder, options or DURABLE
        self.child, self.port = start_server("valkey", self._command, folder / "valkey.log")
        self.url = f"redis://{HOST}:{self.port}/0"

    def _command(self, port: int) -> list[str | Path]:
        return [
            valkey_binary(),
            *("--bind", HOST, "--port", str(port), "--dir", str(self._folder), "--save", "", "--maxmemory-policy", "noeviction"),
            *self._options,
        ]

    def kill(self) -> None:
        self.child.kill()

    def start_again(self) -> None:
        self.child = Child.start("valkey", self._command(self.port), self._folder / "valkey.log")

    def lose(self) -> None:
        """Forget what is on disk; the server is not running."""
        for path in self._folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.suffix in (".aof", ".rdb"):
                path.unlink()

    def hang(self) -> None:
        """Take requests and answer none."""
        self.child.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.child.process.send_signal(signal.SIGCONT)

    def do(self, *command: str | int) -> Any:
        """One command, by a client of the harness."""
        with redis.Redis(port=self.port, socket_timeout=10.0) as client:
            return client.execute_command(*command)

    def info(self, name: str) -> Any:
        """One field of INFO."""
        with redis.Redis(port=self.port, socket_timeout=10.0) as client:
            return client.info()[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.child.kill()


class Proxy:
    """Forwards TCP connections to `target_port`, which may change: connections made before are cut then.

    `slow` is the share of chunks that wait up to `delay_s`, `cut` the share of requests that are torn in the middle together with their
    connection, `swallow` the share of answers that are dropped (what was asked is done) together with it; `faults` counts them.
    """

    def __init__(self, target_port: int, chance: random.Random) -> None:
        self._target_port, self._chance = target_port, chance
        self.slow = self.cut = self.swallow = 0.0
        self.delay_s = 0.0
        self.faults = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port, self.url = 0, ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._take, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"redis://{HOST}:{self.port}/0"
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        for listening in self._server.sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
        await self._turns()  # a connection that was just accepted has a task only then; a closed server would forget its socket
        self._server.close()
        self._cut_all()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=END_S)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._turns()  # transports close their sockets only then

    @staticmethod
    async def _turns() -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def point_at(self, target_port: int) -> None:
        """Forward to another server from now on."""
        self._target_port = target_port
        self._cut_all()

    def calm(self) -> None:
        """No faults from now on."""
        self.slow = self.cut = self.swallow = 0.0

    def _cut_all(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection in a task. It is cut at the end even if its task never starts."""
        self._open.add(writer)
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)

        def end(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._open.discard(writer)
            writer.transport.abort()

        task.add_done_callback(end)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            inner_reader, inner_writer = await asyncio.open_connection(HOST, self._target_port)
            self._open.add(inner_writer)
            try:
                ways = (self._pump(reader, inner_writer, asks=True), self._pump(inner_reader, writer, asks=False))
                pumps = [asyncio.create_task(way) for way in ways]
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
            finally:
                self._open.discard(inner_writer)
                inner_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, asks: bool) -> None:
        """Forward until the connection ends or is cut on purpose."""
        while chunk := await reader.read(CHUNK_BYTES):
            if self._happens(self.slow):
                await asyncio.sleep(self._chance.uniform(0.0, self.delay_s))
            if asks and self._happens(self.cut):
                writer.write(chunk[: len(chunk) // 2])
                await writer.drain()
                return
            if not asks and self._happens(self.swallow):
                return
            writer.write(chunk)
            await writer.drain()

    def _happens(self, share: float) -> bool:
        happens = share > 0 and self._chance.random() < share
        self.faults += happens
        return happens
