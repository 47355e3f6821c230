"""The proxy of the fault tests forwards, cuts and leaves no socket behind, whenever it ends."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import warnings

from tests.fault.servers import Proxy
from workers.local.embedded import HOST


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write((await reader.read(100)).upper())
    await writer.drain()
    writer.transport.abort()


async def test_a_connection_is_forwarded_until_it_is_cut() -> None:
    async with await asyncio.start_server(answer, HOST, 0) as server:
        target_port = server.sockets[0].getsockname()[1]
        async with Proxy(target_port, random.Random(0)) as proxy:
            reader, writer = await asyncio.open_connection(HOST, proxy.port)
            writer.write(b"ping")
            assert await reader.read(100) == b"PING"
            writer.transport.abort()

            reader, writer = await asyncio.open_connection(HOST, proxy.port)
            proxy.point_at(target_port)
            assert await reader.read(100) == b""
            writer.transport.abort()


async def left_after(n_turns: int) -> None:
    """Connect to a proxy that ends `n_turns` of the event loop later."""
    with socket.create_server((HOST, 0)) as behind:
        async with Proxy(behind.getsockname()[1], random.Random(0)) as proxy:
            with socket.create_connection((HOST, proxy.port)):
                for _ in range(n_turns):
                    await asyncio.sleep(0)


def test_no_socket_outlives_the_proxy() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n_turns in range(12):
            asyncio.run(left_after(n_turns))
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
