"""Deletes expired rows of items, so that memory does not grow with event time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from recsys.state.retention import Retention
from workers.errors import Fatal
from workers.settings import Settings
from workers.state.layout import layout_of
from workers.state.port import RowAddress, StateStore
from workers.stream.item_state_cache import SHORTEST_SPAN_S

log = logging.getLogger(__name__)

PAUSE_S = 0.01
"""Between pages of keys, so that Redis has the time for its other clients: a page takes it a few tenths of a millisecond."""


class RowExpiry:
    """Scans the rows of items whenever event time has moved on by an hour.

    Safe beside any other writer, also a second scan with older event time: a worker that still adds to an expired row creates it again,
    and no worker reads it.
    """

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time, pause_s: float = PAUSE_S) -> None:
        self._retention = Retention(layout_of(settings).epoch_s, settings.state.live_epochs)
        self._clock, self._pause_s = clock, pause_s
        self._scanned_span = -1

    async def look(self, store: StateStore, newest_s: int) -> int:
        """Delete the rows that expired when event time reached `newest_s` and return how many there were. Raises Transient.

        Neither an event from the future nor a wrong clock expires a row by itself: the earlier of the two times counts.
        """
        newest_s = min(newest_s, int(self._clock()))
        span = newest_s // SHORTEST_SPAN_S
        if newest_s <= 0 or span == self._scanned_span:
            return 0
        n_dropped = 0
        try:
            async for page in store.scan_rows():
                if expired := await self._expired(store, page, newest_s):
                    n_dropped += await store.drop_rows(expired)
                await asyncio.sleep(self._pause_s)
        except Fatal as error:  # memory grows then, which is no reason to stop
            log.warning("rows of items that count no more stay in Redis: %s", error)
        self._scanned_span = span
        if n_dropped:
            log.info("deleted %d rows of items that count no more", n_dropped)
        return n_dropped

    async def _expired(self, store: StateStore, page: Sequence[RowAddress], newest_s: int) -> list[RowAddress]:
        """Return the rows of a page that count no more."""
        candidates = [address for address in page if self._retention.may_be_past(address[1], newest_s)]
        numbers = sorted({row_id[2] for _, row_id in candidates if row_id[0] == "c"})
        epochs_of = dict(zip(numbers, await store.item_epochs(numbers) if numbers else [], strict=True))
        return [
            (group, (kind, where, number))
            for group, (kind, where, number) in candidates
            if kind != "c" or not self._retention.counts(int(where), epochs_of[number])
        ]
