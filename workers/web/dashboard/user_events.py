"""Sends what somebody clicks on a page as an event to Kafka, and measures the time until the user's new list arrives."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from schemas import Event, Item
from schemas.errors import Poison
from workers.errors import Transient
from workers.web.dashboard.watched_lists import Watch, WatchedLists
from workers.web.problems import wrong

LIST_S = 8.0
"""Seconds that an answer waits for the new list; a later one comes to the page by itself."""
FLUSH_S = 10.0
TYPES = ("click", "like", "hide", "purchase")
"""Types of events that cards send."""


class Publisher(Protocol):
    """The part of `workers.client.EventPublisher` that pages use."""

    def publish(self, event: Mapping[str, Any], /) -> Event: ...

    def publish_item(self, item: Item | Mapping[str, Any]) -> Item: ...

    def flush(self, timeout_s: float | None = None) -> None: ...

    def close(self, timeout_s: float | None = None) -> None: ...


@dataclass(frozen=True, slots=True)
class Sent:
    """An event that the broker has. `list_ms` is the time from sending it to the arrival of the user's list that knows it, None before."""

    event_id: str
    acknowledged_ms: float
    list_ms: float | None


class UserEvents:
    """Publishes through the producer of `workers.client`, which is opened with the first event."""

    def __init__(
        self,
        lists: WatchedLists,
        open_publisher: Callable[[], Publisher],
        *,
        clock: Callable[[], float] = time.monotonic,
        list_s: float = LIST_S,
    ) -> None:
        self._lists, self._open_publisher, self._clock, self._list_s = lists, open_publisher, clock, list_s
        self._publisher: Publisher | None = None
        self._opening = threading.Lock()

    async def send(self, user_id: str, item_id: str, type_: str, *, list_id: str | None, position: int | None) -> Sent:
        """Publish one event and wait for the list that it makes. Raises Problem for an event that is refused, Transient without Kafka."""
        if type_ not in TYPES:
            raise wrong("type", f"cards send {', '.join(TYPES)}")
        event_id = str(uuid.uuid4())
        fields = {"event_id": event_id, "user_id": user_id, "item_id": item_id, "type": type_, "event_ts_ms": time.time_ns() // 1_000_000}
        if list_id:
            fields |= {"list_id": list_id, "position": position}
        with self._lists.watching(user_id) as watch:
            began_s = self._clock()
            await asyncio.to_thread(self._published, lambda publisher: publisher.publish(fields))
            acknowledged_ms = (self._clock() - began_s) * 1000
            arrived_s = await self._arrival(user_id, event_id, watch)
        return Sent(event_id, acknowledged_ms, None if arrived_s is None else (arrived_s - began_s) * 1000)

    async def publish_item(self, item: Item) -> None:
        """Publish a record of the catalogue. Raises Transient without Kafka."""
        await asyncio.to_thread(self._published, lambda publisher: publisher.publish_item(item))

    def _published(self, step: Callable[[Publisher], object]) -> None:
        with self._opening:
            if self._publisher is None:
                self._publisher = self._open_publisher()
        try:
            step(self._publisher)
        except Poison as poison:
            raise wrong("event", str(poison)) from None
        self._publisher.flush(FLUSH_S)

    async def _arrival(self, user_id: str, event_id: str, watch: Watch) -> float | None:
        """Return when the list arrived that the event triggered; None if it does not come in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._list_s):
                while True:
                    await watch.arrived.wait()
                    watch.arrived.clear()
                    arrived_s, held = watch.arrived_s, self._lists.get(user_id)
                    if held is not None and orjson.loads(held)["trigger"]["event_id"] == event_id:
                        return arrived_s
        return None

    async def close(self) -> None:
        """Close the producer."""
        if self._publisher is not None:
            with suppress(Transient):
                await asyncio.to_thread(self._publisher.close, FLUSH_S)
