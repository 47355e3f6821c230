"""Counts what is bought together while a batch is applied: users' windows, and what events change of the rows of items.

    read windows ▸ let the batch's items enter them ▸ rows with the item groups ▸ windows with the users and the watermark

So windows and rows move with the watermarks, as histories and co-occurrence do (`workers/stream/state_writer.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.state.bought import BoughtWindows, counted_events
from recsys.state.bought_kernel import Additions
from recsys.state.interactions import Interactions
from recsys.state.related import SIMILAR, TOGETHER, RelatedCounts
from schemas.events import EVENT_TYPES
from workers.lists.encoding import ListHead
from workers.stream.serving_state import ServingState

Bools = NDArray[np.bool_]
Windows = dict[int, dict[str, bytes]]
"""Partition ▸ user id ▸ packed window."""


def related_counter(state: ServingState) -> RelatedCounter | None:
    """Return what counts for lists of items; None if the settings need nothing."""
    related = state.settings.related
    topics = frozenset({SIMILAR} if related.similar else ()) | frozenset({TOGETHER} if related.bought_together else ())
    return RelatedCounter(state, topics) if topics else None


class RelatedCounter:
    """Holds the windows of the users of this worker, as the batches that were derived last leave them."""

    def __init__(self, state: ServingState, topics: frozenset[str]) -> None:
        related = state.settings.related
        self._state, self._topics, self._counts = state, topics, TOGETHER in topics
        self._types: Bools = np.array([kind.value in related.event_types for kind in EVENT_TYPES], np.bool_)
        self._size = related.items_per_user
        self._windows, self._resets = BoughtWindows(self._size), state.resets

    async def hold(self, interactions: Interactions, heads: Sequence[ListHead]) -> bool:
        """Read the windows that a batch changes and that are not held; `heads` (u,) are its users. Return whether any were read: then the
        caller checks that they are of the watermarks' state."""
        if not self._counts:
            return False
        if self._resets != self._state.resets:  # items have other numbers now
            self._windows, self._resets = BoughtWindows(self._size), self._state.resets
        missing: dict[int, list[str]] = {}
        for at in np.flatnonzero(self._counted_of_users(interactions)).tolist():
            head = heads[at]
            if _key(head) not in self._windows:
                missing.setdefault(head.partition, []).append(head.user_id)
        if not missing:
            return False
        found = await self._state.store.read_bought_of(missing)
        for partition, windows in found.items():
            users = missing[partition]
            self._windows.load({f"{partition}:{user_id}": window for user_id, window in zip(users, windows, strict=True)})
        return True

    def derive(self, interactions: Interactions, heads: Sequence[ListHead]) -> RelatedCounts:
        """Let a batch's items enter the windows of its users (u,), which are held, and return what that changes."""
        if not self._counts:
            return RelatedCounts(Additions.room(0), self._topics)
        of_users = self._counted_of_users(interactions)
        chosen = np.flatnonzero(of_users)
        if not len(chosen):
            return RelatedCounts(Additions.room(0), self._topics)
        events = np.flatnonzero(np.repeat(of_users > 0, interactions.counts))
        slots = self._windows.slots([_key(heads[at]) for at in chosen.tolist()])
        counted = counted_events(interactions, self._types)[events]
        added = self._windows.enter(slots, interactions.counts[chosen], interactions.items[events], counted)
        return RelatedCounts(added._replace(sources=events[added.sources]), self._topics)

    def packed(self, interactions: Interactions | None, heads: Sequence[ListHead]) -> Windows:
        """Return the windows that a batch changed, by partition and user, as they are stored."""
        windows: Windows = {}
        if interactions is not None and self._counts:
            for at in np.flatnonzero(self._counted_of_users(interactions)).tolist():
                head = heads[at]
                windows.setdefault(head.partition, {})[head.user_id] = self._windows.pack(_key(head))
        return windows

    def forget(self, prefixes: tuple[str, ...]) -> None:
        """Hold no window of these partitions."""
        self._windows.forget_beginning(prefixes)

    def forget_users(self, keys: Sequence[str]) -> None:
        """Hold no window of these users, given by their keys in the engine."""
        self._windows.forget(keys)

    def shrink(self) -> None:
        """Hold no more windows than between two batches."""
        self._windows.shrink(self._state.settings.stream.user_cache)

    def _counted_of_users(self, interactions: Interactions) -> NDArray[np.int64]:
        """Return how many events of each user count, (u,)."""
        counted = counted_events(interactions, self._types).astype(np.int64)
        return np.add.reduceat(counted, np.cumsum(interactions.counts) - interactions.counts)


def _key(head: ListHead) -> str:
    return f"{head.partition}:{head.user_id}"
