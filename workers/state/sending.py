"""Signals that the bytes of a write have been handed to the transport of its connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from contextvars import ContextVar, copy_context
from typing import Any

_sent: ContextVar[asyncio.Future[None] | None] = ContextVar("sent", default=None)
"""Resolved when the write of this context is sent; tasks that the write starts inherit it."""


def note_sent() -> None:
    """Signal that a command of this context is with the transport. A store's connections call this after each command that they send."""
    _resolve(_sent.get())


def _resolve(sent: asyncio.Future[None] | None) -> None:
    if sent is not None and not sent.done():
        sent.set_result(None)


@asynccontextmanager
async def in_flight(write: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Send a write, run the block while the server works on it, and then wait for its acknowledgement.

    The block starts once the write is sent, or has ended without sending anything: the event loop has to turn for that, and the block may
    keep it busy. A write to a cluster counts as sent when its first node has its part; the other parts go out in the same turn.
    If the block or the write fails, the write is cancelled: the server may have carried it out or not.
    """
    context = copy_context()
    sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    context.run(_sent.set, sent)
    task = asyncio.get_running_loop().create_task(write, context=context)
    task.add_done_callback(lambda _: _resolve(sent))
    try:
        await sent
        yield
        await task
    except BaseException:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
