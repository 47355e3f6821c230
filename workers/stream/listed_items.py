"""Remembers which items are on the newest list of each user, to make lists again that hold an item which is gone.

Shapes: U users, K places, N items, M users remembered.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from workers.lists.encoding import ListHead

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
UserKey = tuple[int, str]
"""Events partition and user id."""
MAX_AT_ONCE = 500
"""Lists made again between two looks, half a second apart: events come first."""


class ListedItems:
    """The newest lists of up to `limit` users of this worker, the users whose list was made first being forgotten first; 4 bytes a place.

    `note` may be called in several threads.
    """

    def __init__(self, size: int, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._places: I32 = np.zeros((limit, size), np.int32)  # number + 1, so that rows that nobody uses cost no memory
        self._slots: dict[UserKey, int] = {}
        self._users: list[UserKey | None] = []
        self._next = 0
        self._due: dict[UserKey, None] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def note(self, heads: Sequence[ListHead], items: I64) -> None:
        """Remember the items (U, K) of users' newest lists, −1 for none; what was due of these users is done."""
        if not self._limit:
            return
        with self._lock:
            slots = np.array([self._slot((head.partition, head.user_id)) for head in heads], np.int64)
            if self._due:
                for head in heads:
                    self._due.pop((head.partition, head.user_id), None)
            self._write(slots, items)

    def previous(self, heads: Sequence[ListHead], size: int) -> I64:
        """Return the items of users' newest lists, the first `size` places, −1 for none: (U, min(size, K))."""
        with self._lock:
            found = np.array([self._slots.get((head.partition, head.user_id), -1) for head in heads], np.int64)
            places = self._places[found, :size].astype(np.int64) - 1
        places[found < 0] = -1
        return places

    def note_older(self, partition: int, user_ids: Sequence[str], items: I64) -> None:
        """Remember lists that were read from the topic, the newest of each user last, of users of whom no newer list is known."""
        with self._lock:
            newest = {user_id: row for row, user_id in enumerate(user_ids) if (partition, user_id) not in self._slots}
            slots = [self._slot((partition, user_id)) for user_id in newest]
            self._write(np.array(slots, np.int64), items[list(newest.values())])

    def forget(self, partitions: Collection[int]) -> None:
        """Remember nothing of these partitions."""
        with self._lock:
            for user in [user for user in self._slots if user[0] in partitions]:
                slot = self._slots.pop(user)
                self._users[slot] = None
                self._places[slot] = 0
            for user in [user for user in self._due if user[0] in partitions]:
                del self._due[user]

    def forget_users(self, users: Collection[UserKey]) -> None:
        """Remember nothing of users who have no list any more."""
        with self._lock:
            for user in users:
                slot = self._slots.pop(user, None)
                self._due.pop(user, None)
                if slot is not None:
                    self._users[slot] = None
                    self._places[slot] = 0

    def expect(self, gone: Bools) -> int:
        """Have the lists made again that hold an item which is `gone` (N,); return how many users are due."""
        with self._lock:
            held = self._places[: len(self._users)]
            is_gone = np.zeros(max(int(held.max(initial=0)), len(gone)) + 1, np.bool_)
            is_gone[1 : len(gone) + 1] = gone
            for slot in np.flatnonzero(is_gone[held].any(axis=1)).tolist():
                user = self._users[slot]
                if user is not None:
                    self._due[user] = None
            return len(self._due)

    @property
    def are_due(self) -> bool:
        """Return whether lists are to be made again."""
        return bool(self._due)

    def clear(self) -> None:
        """Remember nothing: items have other numbers now."""
        with self._lock:
            self._slots.clear()
            self._users.clear()
            self._due.clear()
            self._places[:] = 0
            self._next = 0

    def take(self) -> dict[int, list[str]]:
        """Return some users whose lists are to be made again by partition, MAX_AT_ONCE at most, and expect them no longer."""
        taken: dict[int, list[str]] = {}
        with self._lock:
            for user in list(islice(self._due, MAX_AT_ONCE)):
                del self._due[user]
                taken.setdefault(user[0], []).append(user[1])
        return taken

    def _slot(self, user: UserKey) -> int:
        slot = self._slots.get(user)
        if slot is None:
            if len(self._users) < self._limit:
                slot = len(self._users)
                self._users.append(user)
            else:
                slot, self._next = self._next, (self._next + 1) % self._limit
                before = self._users[slot]
                if before is not None:
                    del self._slots[before]
                self._users[slot] = user
            self._slots[user] = slot
        return slot

    def _write(self, slots: I64, items: I64) -> None:
        width = min(items.shape[1], self._places.shape[1])
        self._places[slots, :width] = items[:, :width] + 1
        self._places[slots, width:] = 0
