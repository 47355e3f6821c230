"""The event loop of the workers: uvloop's where there is one, whose broken connections say so as asyncio's do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

try:
    import uvloop
except ImportError:  # there is none for Windows

    def new_event_loop() -> asyncio.AbstractEventLoop:
        """A loop that is not running yet."""
        return asyncio.new_event_loop()

else:

    class _Loop(uvloop.Loop):
        """Clients expect an OSError of a connection that broke. uvloop raises RuntimeError for what is written to it between its end and
        the turn in which its reader hears of it, which aiokafka takes for a defect (aio-libs/aiokafka#1038): a worker ended."""

        async def create_connection(self, *arguments: Any, **options: Any) -> tuple[Any, Any]:
            transport, protocol = await super().create_connection(*arguments, **options)
            return _Transport(transport), protocol

        async def create_unix_connection(self, *arguments: Any, **options: Any) -> tuple[Any, Any]:
            transport, protocol = await super().create_unix_connection(*arguments, **options)
            return _Transport(transport), protocol

    def new_event_loop() -> asyncio.AbstractEventLoop:
        """A loop that is not running yet."""
        return _Loop()


class _Transport:
    """A transport as it is, but that writing to a closed one raises ConnectionResetError."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)

    def write(self, data: bytes) -> None:
        self._check()
        self._wrapped.write(data)

    def writelines(self, parts: Iterable[bytes]) -> None:
        self._check()
        self._wrapped.writelines(parts)

    def write_eof(self) -> None:
        self._check()
        self._wrapped.write_eof()

    def _check(self) -> None:
        if self._wrapped.is_closing():
            raise ConnectionResetError("the connection is closed")
