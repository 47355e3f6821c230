"""Remembers users whose newest list had fewer places than asked for, because the catalogue had no more items for them.

An event may overtake the items that were published before it: topics have no common order. When items have come, these users' lists are
made again.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence

import numpy as np

from recsys.engine import Lists
from workers.list_records import ListHead

MAX_USERS = 10_000
"""Users remembered, the newest ones. A catalogue that leaves more lists short than that is only starting to fill."""


class ShortLists:
    """The users of one worker whose list is short."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._users: dict[tuple[int, str], None] = {}

    def note(self, heads: Sequence[ListHead], lists: Lists) -> None:
        """Remember whose list is short, and forget whose is full. Costs one look at an array where all are full."""
        if lists.scores.shape[1] >= self._size:
            short = ~np.isfinite(lists.scores[:, self._size - 1])
        else:
            short = np.ones(len(heads), bool)
        if not self._users and not short.any():
            return
        with self._lock:  # lists are made in several threads
            for head, is_short in zip(heads, short.tolist(), strict=True):
                self._users.pop((head.partition, head.user_id), None)
                if is_short:
                    self._users[(head.partition, head.user_id)] = None
            while len(self._users) > MAX_USERS:
                del self._users[next(iter(self._users))]

    def take(self, partitions: Collection[int]) -> dict[int, list[str]]:
        """Return the users of these partitions, and forget all."""
        taken: dict[int, list[str]] = {}
        for partition, user_id in self._users:
            if partition in partitions:
                taken.setdefault(partition, []).append(user_id)
        self._users.clear()
        return taken
