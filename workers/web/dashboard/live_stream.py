"""Server-sent events: what pages show live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi.responses import StreamingResponse

QUIET_S = 15.0
"""A comment is sent after so long, so that a connection that is gone is noticed."""


def live_answer(events: AsyncIterator[bytes]) -> StreamingResponse:
    """Return an answer that goes on until the page is left or the server stops."""
    return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-store", "x-accel-buffering": "no"})


def event(name: str, content: bytes) -> bytes:
    """Return one event; `content` is JSON, which has no line breaks."""
    return b"event: " + name.encode() + b"\ndata: " + content + b"\n\n"


async def pause(closing: asyncio.Event, waited: asyncio.Event | None, seconds: float) -> bool:
    """Wait until `waited` is set or the seconds are over; return False when the server stops."""
    tasks = [asyncio.ensure_future(one.wait()) for one in (closing, waited) if one is not None]
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    return not closing.is_set()
