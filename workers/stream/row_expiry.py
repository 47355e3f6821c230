"""Rows of items that count no more are deleted, so that memory does not grow with event time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from recsys.state.retention import Retention
from workers.errors import Fatal
from workers.settings import Settings
from workers.state.layout import layout_of
from workers.state.port import StateStore
from workers.stream.item_state_cache import SHORTEST_BUCKET_S

log = logging.getLogger(__name__)

PAUSE_S = 0.01
"""Between pages of keys, so that Redis has the time for its other clients: a page takes it a few tenths of a millisecond."""


class Sweeper:
    """Looks at the rows of items whenever event time has gone on by an hour.

    Safe beside anything, even a second sweeper that knows less: whoever still adds to a row that is past makes it anew, and nobody reads
    it.
    """

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time, pause_s: float = PAUSE_S) -> None:
        self._retention = Retention(layout_of(settings).epoch_s, settings.state.live_epochs)
        self._clock, self._pause_s = clock, pause_s
        self._swept_bucket = -1

    async def look(self, store: StateStore, newest_s: int) -> int:
        """Delete what is past now that event time has reached `newest_s`; how many rows there were. Raises Transient.

        Neither an event from the future nor a wrong clock makes a row old by itself: the earlier of the two is what counts.
        """
        newest_s = min(newest_s, int(self._clock()))
        bucket = newest_s // SHORTEST_BUCKET_S
        if newest_s <= 0 or bucket == self._swept_bucket:
            return 0
        n_dropped = 0
        try:
            async for page in store.scan_rows():
                if past := [address for address in page if self._retention.is_past(address[1], newest_s)]:
                    n_dropped += await store.drop_rows(past)
                await asyncio.sleep(self._pause_s)
        except Fatal as error:  # memory grows then, which is no reason to stop
            log.warning("rows of items that count no more stay in Redis: %s", error)
        self._swept_bucket = bucket
        if n_dropped:
            log.info("deleted %d rows of items that count no more", n_dropped)
        return n_dropped
