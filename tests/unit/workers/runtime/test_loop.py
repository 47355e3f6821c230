"""On the workers' event loop a connection that broke fails as clients expect: with an OSError."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from workers.runtime.event_loop import new_event_loop

LOCAL = "127.0.0.1"
RESET = struct.pack("ii", 1, 0)
"""Closing sends a reset instead of waiting for what is under way."""


def on_our_loop(step: Callable[[], Awaitable[None]]) -> None:
    loop = new_event_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(step(), 10.0))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def reset_next(server: socket.socket) -> None:
    """Accept a connection and reset it."""
    accepted, _ = server.accept()
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    accepted.close()


async def until_closing(transport: Any) -> None:
    """Until the loop knows that the connection is over; nobody reads what it knows."""
    for _ in range(100_000):
        await asyncio.sleep(0)
        if transport.is_closing():
            return
    pytest.fail("the loop never heard of the reset")


def test_what_is_written_to_a_connection_that_broke_is_refused_with_an_os_error() -> None:
    async def step() -> None:
        with socket.create_server((LOCAL, 0)) as server:
            _, writer = await asyncio.open_connection(LOCAL, server.getsockname()[1])
            reset_next(server)
            await until_closing(writer.transport)
            for write in (lambda: writer.write(b"x"), lambda: writer.writelines([b"x"]), writer.write_eof):
                with pytest.raises(OSError, match="closed"):
                    write()

    on_our_loop(step)


def test_so_is_what_is_written_to_a_unix_socket(tmp_path: Path) -> None:
    async def step() -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(tmp_path / "s"))
            server.listen()
            _, writer = await asyncio.open_unix_connection(tmp_path / "s")
            server.accept()[0].close()
            writer.transport.abort()
            await until_closing(writer.transport)
            with pytest.raises(OSError, match="closed"):
                writer.write(b"x")

    on_our_loop(step)


def test_aiokafka_takes_it_for_a_broken_connection() -> None:
    async def step() -> None:
        with socket.create_server((LOCAL, 0)) as server:
            host, port = server.getsockname()
            connection = AIOKafkaConnection(host, port)
            connection._reader, connection._writer = await asyncio.open_connection(host, port)
            connection._versions = {3: (0, 5)}
            connection._read_task = asyncio.create_task(asyncio.Event().wait())
            reset_next(server)
            await until_closing(connection._writer.transport)
            with pytest.raises(KafkaConnectionError, match="closed"):
                connection.send(MetadataRequest([]))
            assert not connection.connected()

    on_our_loop(step)


def test_a_connection_that_holds_works_as_ever() -> None:
    async def step() -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(6))
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(echo, LOCAL, 0)
        async with server:
            reader, writer = await asyncio.open_connection(LOCAL, server.sockets[0].getsockname()[1])
            assert writer.get_extra_info("peername")[0] == LOCAL
            writer.writelines([b"abc"])
            writer.write(b"def")
            await writer.drain()
            assert await reader.read() == b"abcdef"
            writer.close()
            await writer.wait_closed()

    on_our_loop(step)
