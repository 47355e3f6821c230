"""Held lists that say when the list of a user arrives, and count all that arrive."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from schemas.unreadable import Unreadable
from workers.web.held_lists import HeldLists

NEWEST = 24
"""Users with the newest lists that are remembered."""


@dataclass(slots=True, eq=False)
class Watch:
    """One reader's wait for lists of one key."""

    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    arrived_s: float = float("-inf")


class WatchedLists(HeldLists):
    """Newest list by key, with watches. All calls are of one event loop."""

    def __init__(self, most_bytes: int, *, shared_prefix: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(most_bytes)
        self._shared_prefix, self._clock = shared_prefix.encode(), clock
        self._watches: dict[bytes, set[Watch]] = {}
        self._newest: OrderedDict[bytes, None] = OrderedDict()
        self.n_records = 0
        """Lists that arrived so far."""

    def put(self, key: bytes | None, value: bytes | Unreadable | None) -> None:
        """Take in a record of the topic, and wake who watches its key."""
        super().put(key, value)
        if not key or not isinstance(value, bytes):
            return
        self.n_records += 1
        if not key.startswith(self._shared_prefix):
            self._newest[key] = None
            self._newest.move_to_end(key)
            if len(self._newest) > NEWEST:
                self._newest.popitem(last=False)
        for watch in self._watches.get(key, ()):
            watch.arrived_s = self._clock()
            watch.arrived.set()

    def newest_users(self) -> list[str]:
        """Return the users whose lists arrived last, the newest first."""
        return [key.decode(errors="replace") for key in reversed(self._newest)]

    @contextmanager
    def watching(self, user_id: str) -> Iterator[Watch]:
        """Watch the list of a user within the block."""
        key, watch = user_id.encode(), Watch()
        self._watches.setdefault(key, set()).add(watch)
        try:
            yield watch
        finally:
            self._watches[key].discard(watch)
            if not self._watches[key]:
                del self._watches[key]
