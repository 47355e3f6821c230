"""Keeps the profiles of users that the engine holds, while a model or rules read them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.state.profiles import digest_of
from workers.lists.encoding import ListHead
from workers.lists.profile_content import stored_attributes
from workers.stream.serving_state import ServingState

I64 = NDArray[np.int64]


class ProfileCache:
    """Reads the profiles of listed users from the store, and again after `refresh_s`: workers share the users topic in another way than the
    events topic, so a profile may change without this worker's knowing. Nothing is read where neither a
    model nor rules read profiles."""

    def __init__(self, state: ServingState, refresh_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._state, self._refresh_s, self._clock = state, refresh_s, clock

    async def refresh(self, slots: I64, heads: Sequence[ListHead]) -> None:
        """Hold the profiles of the users in `slots` (U,), who are those of `heads`. The caller holds a turn. Raises Transient."""
        table, now_s = self._state.engine.users.profiles, self._clock()
        if table is None:
            return
        rows = np.flatnonzero(table.stale(slots, now_s - self._refresh_s)).tolist()
        self._state.lookups["profiles"].note(len(slots), len(rows))
        by_partition: dict[int, list[int]] = {}
        for row in rows:
            by_partition.setdefault(heads[row].partition, []).append(row)
        store = self._state.store
        found = await asyncio.gather(
            *(store.read_profiles(partition, [heads[row].user_id for row in of_it]) for partition, of_it in by_partition.items())
        )
        for of_it, profiles in zip(by_partition.values(), found, strict=True):
            for row, stored in zip(of_it, profiles, strict=True):
                slot, digest = int(slots[row]), digest_of(stored)
                if int(table.digests[slot]) != digest:
                    table.put(slot, stored_attributes(stored, heads[row].user_id), digest)
        table.note_read(slots[rows], now_s)

    def note_changed(self, users: Iterable[tuple[int, str]]) -> None:
        """Read the profiles of these users, given by partition and id, again before their next list."""
        held = self._state.engine.users
        if held.profiles is not None:
            slots = [held.slot(key) for partition, user_id in users if (key := f"{partition}:{user_id}") in held]
            held.profiles.note_read(np.array(slots, np.int64), -np.inf)
