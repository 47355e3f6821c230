"""Checks that the events topic is the one that the state follows: a topic that was deleted and created again restarts its offsets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from workers.kafka.admin import admin_client, kafka_errors
from workers.kafka.topics import topic_id_of
from workers.settings import Settings

REFILL_PER_S = 50_000
"""Most records a second that a partition of a topic that was created again takes. A partition that had more at the last check than can have
arrived since has not reached these offsets again."""


class TopicWatch:
    """Asks for the id of the events topic over a connection that it keeps: about a millisecond."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = asyncio.Lock()
        self._open = ExitStack()
        self._client: Any = None

    async def topic_id(self) -> str | None:
        """Return the id as `topics.topic_ids` does; None if there is no such topic. Raises Transient, Fatal without the right to ask."""
        async with self._lock:
            return await asyncio.to_thread(self._ask)

    def _ask(self) -> str | None:
        try:
            if self._client is None:
                self._client = self._open.enter_context(admin_client(self._settings))
            with kafka_errors(self._settings):
                return topic_id_of(self._client, self._settings.topics.events)
        except BaseException:
            self._close()
            raise

    async def close(self) -> None:
        """Disconnect."""
        async with self._lock:
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._client = None
        with contextlib.suppress(Exception):  # of a client that is of no use any more
            self._open.close()


def may_be_refilled(next_offsets: Iterable[int], since_s: float) -> bool:
    """Return whether a topic created again at most `since_s` ago may already have records at one of these offsets."""
    return any(next_offset <= since_s * REFILL_PER_S for next_offset in next_offsets)
