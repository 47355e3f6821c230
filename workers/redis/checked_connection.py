"""Connections that encode with hiredis and refuse a server that was restarted or replaced."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import hiredis
from redis import exceptions as failures
from redis._parsers import _AsyncHiredisParser

from workers.redis.commands import Argument
from workers.runtime.counts import Traffic
from workers.state.sending import note_sent


class _PackingMixin:
    """Encode commands with hiredis: 0.1 µs an argument, where the connections of redis.asyncio take 2 µs in Python."""

    def pack_command(self, *args: Argument) -> list[bytes]:
        name, *rest = args
        words = name.split() if isinstance(name, (str, bytes)) else [name]  # redis-py names some commands in two words
        return [hiredis.pack_command((*words, *rest))]

    def pack_commands(self, commands: Iterable[Sequence[Argument]]) -> list[bytes]:
        return [self.pack_command(*args)[0] for args in commands]


class Servers:
    """Run ids of the servers that a link has connected to, by address.

    A server that was restarted or replaced may have lost writes that the caller relies on, and a pool reconnects silently. So a connection
    to another run is refused until `forget`.
    """

    def __init__(self) -> None:
        self._run_ids: dict[str, str] = {}

    def forget(self) -> None:
        """Accept the server that answers next, whichever run it is."""
        self._run_ids.clear()

    def check(self, address: str, run_id: str) -> None:
        """Note the run at this address. Raises ConnectionError when it is another one than before."""
        if self._run_ids.setdefault(address, run_id) != run_id:
            raise failures.ConnectionError("the server was restarted or replaced")


class _CountedStream:
    """Counts the bytes that a connection reads."""

    __slots__ = ("_stream", "_traffic")

    def __init__(self, stream: Any, traffic: Traffic) -> None:
        self._stream, self._traffic = stream, traffic

    async def read(self, n: int) -> bytes:
        found: bytes = await self._stream.read(n)
        self._traffic.received_bytes += len(found)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _counting_parser(traffic: Traffic) -> type[Any]:
    """Return redis-py's parser, counting what it reads."""

    class Parser(_AsyncHiredisParser):
        def on_connect(self, connection: Any) -> None:
            super().on_connect(connection)
            self._stream: Any = _CountedStream(self._stream, traffic)

    return Parser


class _RunIdMixin:
    """Read the server's run id when the connection opens, and check it with every command: `Servers.forget` may have come in between."""

    servers: Servers
    traffic: Traffic
    _run_id: str | None = None

    async def on_connect_check_health(self: Any, check_health: bool = True) -> None:
        self._run_id = None
        await super().on_connect_check_health(check_health=check_health)  # type: ignore[misc]
        await self.send_command("INFO", "server", check_health=False)
        answer = await self.read_response()
        text = answer if isinstance(answer, bytes) else str(answer).encode()
        self._run_id = next((line[7:] for line in text.splitlines() if line.startswith(b"run_id:")), b"").decode()
        self._check_run()

    async def send_packed_command(self: Any, command: Any, check_health: bool = True) -> None:
        if self.is_connected and self._run_id is not None:
            try:
                self._check_run()
            except failures.ConnectionError:
                await self.disconnect(nowait=True)
                raise
        await super().send_packed_command(command, check_health=check_health)  # type: ignore[misc]
        if self._run_id is not None:  # not a command of the handshake
            note_sent()
            self.traffic.calls += 1
            self.traffic.sent_bytes += len(command) if isinstance(command, bytes) else sum(map(len, command))

    def _check_run(self: Any) -> None:
        self.servers.check(f"{getattr(self, 'host', '')}:{getattr(self, 'port', '')}", self._run_id)


def checked_connection_class(base: type[Any], servers: Servers, traffic: Traffic) -> type[Any]:
    """Return a connection class (TCP, TLS or Unix socket) that encodes with hiredis, checks its server's run id and counts bytes."""
    parser = _counting_parser(traffic)

    def __init__(self: Any, *arguments: Any, **options: Any) -> None:
        base.__init__(self, *arguments, **{**options, "parser_class": parser})

    members = {"servers": servers, "traffic": traffic, "__init__": __init__}
    return type(f"Recsys{base.__name__}", (_PackingMixin, _RunIdMixin, base), members)
