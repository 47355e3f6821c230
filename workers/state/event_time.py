"""Event time of a state that has none noted: an older build wrote it. Derived from the rows of popularity, whose names are times."""

from __future__ import annotations

from collections.abc import Iterable

from recsys.state.batch_delta import WINDOWS_S
from workers.state.port import RowAddress, StateStore

DAYS_AT_ONCE = 64
"""Days asked for in one call at most. The first calls ask for fewer: rows that are there are read whole, and a live state ends today."""
HOURS_A_DAY = WINDOWS_S["day"] // WINDOWS_S["hour"]


async def derive_event_time(store: StateStore, item_groups: int, now_s: int) -> int:
    """Return the start of the newest hour in which anything was chosen, in seconds; 0 where nothing was.

    Looks back from the clock `now_s`: a live state answers in two calls, a state of old events after one call for every 64 days.
    """
    day, n_days = now_s // WINDOWS_S["day"] + 1, 1
    while day >= 0:
        days = range(day, max(day - n_days, -1), -1)
        newest = await _newest(store, item_groups, "day", days)
        if newest is not None:
            first_hour = newest * HOURS_A_DAY
            hour = await _newest(store, item_groups, "hour", range(first_hour + HOURS_A_DAY - 1, first_hour - 1, -1))
            return (first_hour if hour is None else hour) * WINDOWS_S["hour"]
        day -= len(days)
        n_days = min(2 * n_days, DAYS_AT_ONCE)
    return 0


async def _newest(store: StateStore, item_groups: int, window: str, buckets: Iterable[int]) -> int | None:
    """Return the first of these buckets that has a row in any group."""
    addresses: list[RowAddress] = [(group, ("pop", window, bucket)) for bucket in buckets for group in range(item_groups)]
    found = await store.read_rows(addresses)
    return next((int(row_id[2]) for (_, row_id), row in zip(addresses, found, strict=True) if row is not None), None)
