"""Remembers users whose newest list had fewer places than asked for, because the catalogue had no more items for them.

An event may overtake the items that were published before it: topics have no common order. When items have come, these users' lists are
made again.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from itertools import islice

import numpy as np

from recsys.engine import Lists
from workers.lists.encoding import ListHead

MAX_USERS = 10_000
"""Users remembered, the newest ones. A catalogue that leaves more lists short than that is only starting to fill."""
MAX_AT_ONCE = 500
"""Lists made again between two looks at the catalogue, half a second apart: events come first."""


class ShortLists:
    """The users of one worker whose list is short."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._users: dict[tuple[int, str], None] = {}
        self._due: dict[tuple[int, str], None] = {}
        self._n_listable = 0

    def note(self, heads: Sequence[ListHead], lists: Lists) -> None:
        """Remember whose list is short, and forget whose is full. Costs one look at an array where all are full."""
        if lists.scores.shape[1] >= self._size:
            short = ~np.isfinite(lists.scores[:, self._size - 1])
        else:
            short = np.ones(len(heads), bool)
        if not self and not short.any():
            return
        with self._lock:  # lists are made in several threads
            for head, is_short in zip(heads, short.tolist(), strict=True):
                self._users.pop((head.partition, head.user_id), None)
                self._due.pop((head.partition, head.user_id), None)
                if is_short:
                    self._users[(head.partition, head.user_id)] = None
            while len(self._users) > MAX_USERS:
                del self._users[next(iter(self._users))]

    def forget(self, users: Collection[tuple[int, str]]) -> None:
        """Forget users who have no list any more."""
        with self._lock:
            for user in users:
                self._users.pop(user, None)
                self._due.pop(user, None)

    def __bool__(self) -> bool:
        return bool(self._users or self._due)

    def note_listable(self, n_items: int) -> None:
        """Have all lists made again if more items can be listed than the last time; an item that only changes fills no list."""
        if n_items > self._n_listable:
            self._due |= self._users
            self._users.clear()
        self._n_listable = n_items

    def take(self, partitions: Collection[int]) -> dict[int, list[str]]:
        """Return some users of these partitions whose lists are to be made again, MAX_AT_ONCE at most, and forget them."""
        taken: dict[int, list[str]] = {}
        for partition, user_id in list(islice(self._due, MAX_AT_ONCE)):
            del self._due[(partition, user_id)]
            if partition in partitions:
                taken.setdefault(partition, []).append(user_id)
        return taken
