"""Training data: interactions as columns, sorted by user and then by time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.errors import ShapeError
from recsys.models.base import F32, I32
from recsys.models.descriptions import Descriptions, UserProfiles

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """n interactions of U users with I items, sorted by user, oldest first within a user.

    Shapes: `users`, `items` int32, `weights` float32 and `ts_ms` int64 are (n,). `users` are numbers from 0 to U−1, `items` positions in
    `item_ids` (I of them), `weights` unitless: above 0 a preference, below 0 a dislike. `ts_ms` are event times in milliseconds. `unseen`
    (n,), if given, marks what the model of a warm start was not trained on. `descriptions` tell what items say, and `profiles`
    what users do, for kinds that read it. `types` (n,), if given, are codes of event types from 1 to 63, 0 for none.
    Raises: ShapeError for columns of different lengths, unsorted users, or numbers outside their axes.
    """

    users: I32
    items: I32
    weights: F32
    ts_ms: I64
    item_ids: list[str]
    n_users: int
    unseen: NDArray[np.bool_] | None = None
    descriptions: Descriptions | None = None
    profiles: UserProfiles | None = None
    types: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        n = len(self.users)
        if not (len(self.items) == len(self.weights) == len(self.ts_ms) == n):
            raise ShapeError("users, items, weights and ts_ms must have one length")
        if self.unseen is not None and len(self.unseen) != n:
            raise ShapeError("unseen must have the length of users")
        if self.types is not None and len(self.types) != n:
            raise ShapeError("types must have the length of users")
        if n and (
            np.diff(self.users).min(initial=0) < 0 or int(self.users[-1]) >= self.n_users or int(self.items.max()) >= len(self.item_ids)
        ):
            raise ShapeError("interactions must be sorted by user, with users and items inside their axes")

    def __len__(self) -> int:
        return len(self.users)

    @property
    def n_items(self) -> int:
        return len(self.item_ids)

    def user_starts(self) -> I64:
        """Return the row at which each user's interactions begin, (U+1,): user u owns rows `starts[u]:starts[u+1]`."""
        return np.concatenate([[0], np.cumsum(np.bincount(self.users, minlength=self.n_users))]).astype(np.int64)

    def positive(self) -> TrainingSet:
        """Return only the preferences (weight > 0). Users keep their numbers."""
        return self.only(self.weights > 0)

    def last_of_pairs(self) -> TrainingSet:
        """Return one interaction for each pair of user and item: the newest."""
        order = stable_order(self.items, self.n_items)  # by item, then by user, then oldest first: repeats are neighbours
        users, items = self.users[order], self.items[order]
        chosen = np.ones(len(order), bool)
        chosen[order[:-1][(users[1:] == users[:-1]) & (items[1:] == items[:-1])]] = False
        return self.only(chosen)

    def only(self, chosen: NDArray[np.bool_]) -> TrainingSet:
        """Return the chosen interactions, (n,). Users and items keep their numbers."""
        unseen = None if self.unseen is None else self.unseen[chosen]
        columns = self.users[chosen], self.items[chosen], self.weights[chosen], self.ts_ms[chosen]
        types = None if self.types is None else self.types[chosen]
        return TrainingSet(*columns, self.item_ids, self.n_users, unseen, self.descriptions, self.profiles, types)

    def entries(self, length: int) -> TrainingSet:
        """Return what a history of `length` entries holds of each user: one interaction for each item, those of the newest items.

        An entry has the time of the last interaction with its item. The newest sign counts, with the largest magnitude since the sign last
        changed: a like is not weakened by a later view, and a dislike overrules both.
        """
        order = stable_order(self.items, self.n_items)  # by item, then by user, then oldest first: repeats are neighbours
        users, items, weights = self.users[order], self.items[order], self.weights[order]
        ends = np.ones(len(order), bool)
        ends[:-1] = (users[1:] != users[:-1]) | (items[1:] != items[:-1])
        begins = np.ones(len(order), bool)
        begins[1:] = ends[:-1] | (np.signbit(weights[1:]) != np.signbit(weights[:-1]))
        starts = np.flatnonzero(begins)
        strongest = np.maximum.reduceat(np.abs(weights), starts) if len(order) else np.zeros(0, np.float32)
        run = np.cumsum(begins) - 1
        merged = self.weights.copy()
        merged[order[ends]] = np.copysign(strongest[run[ends]], weights[ends])
        newest = np.sort(order[ends])  # by user, then by time of the last interaction
        n_of_user = np.bincount(self.users[newest], minlength=self.n_users)
        behind = np.repeat(np.cumsum(n_of_user), n_of_user) - np.arange(len(newest))
        kept = newest[behind <= length]
        columns = self.users[kept], self.items[kept], merged[kept], self.ts_ms[kept]
        unseen = None if self.unseen is None else self.unseen[kept]
        types = None if self.types is None else self.types[kept]
        return TrainingSet(*columns, self.item_ids, self.n_users, unseen, self.descriptions, self.profiles, types)

    @classmethod
    def from_columns(
        cls,
        users: NDArray[np.integer],
        items: NDArray[np.integer],
        item_ids: Sequence[str],
        weights: F32,
        ts_ms: I64,
        *,
        min_item_count: int = 1,
        unseen: NDArray[np.bool_] | None = None,
        types: NDArray[np.integer] | None = None,
    ) -> TrainingSet:
        """Build a training set from a log's columns in any order.

        Interactions of weight 0 are dropped, then those of items with fewer than `min_item_count` interactions. The remaining items and
        users are renumbered. Order within a user: by time, then as given.
        Shapes: (n,) each; `items` are positions in `item_ids`, `users` any whole numbers.
        Raises: ShapeError for columns of different lengths.
        """
        if not (len(users) == len(items) == len(weights) == len(ts_ms)):
            raise ShapeError("users, items, weights and ts_ms must have one length")
        counts = np.bincount(items[weights != 0], minlength=len(item_ids))
        kept_items = np.flatnonzero(counts >= max(min_item_count, 1))
        position = np.full(len(item_ids), -1, np.int32)
        position[kept_items] = np.arange(len(kept_items), dtype=np.int32)
        kept = (weights != 0) & (position[items] >= 0)
        dense_users, n_users = _dense(users[kept])
        order = _by_user_and_time(dense_users, ts_ms[kept], n_users)
        chosen = np.flatnonzero(kept)[order]
        return cls(
            dense_users[order],
            position[items[chosen]],
            np.asarray(weights[chosen], np.float32),
            np.asarray(ts_ms[chosen], np.int64),
            [item_ids[i] for i in kept_items.tolist()],
            n_users,
            None if unseen is None else np.asarray(unseen[chosen], bool),
            types=None if types is None else np.asarray(types[chosen], np.uint8),
        )


def stable_order(keys: NDArray[np.integer], n_keys: int) -> I64:
    """Return the positions that sort keys from 0 to `n_keys` − 1, equal ones as given, (n,): a counting sort, O(n + n_keys)."""
    n = len(keys)
    by_key = sparse.csr_array((np.arange(n), keys, np.arange(n + 1)), shape=(n, n_keys)).tocsc()
    return np.asarray(by_key.data, np.int64)


def _dense(numbers: NDArray[np.integer]) -> tuple[I32, int]:
    """Renumber whole numbers from 0 in ascending order; return the new numbers (n,) and the count of distinct ones."""
    low = int(numbers.min()) if len(numbers) else 0
    span = int(numbers.max()) - low + 1 if len(numbers) else 0
    if span > 8 * len(numbers):  # too sparse to count
        found, dense = np.unique(numbers, return_inverse=True)
        return dense.astype(np.int32), len(found)
    present = np.zeros(span, np.int32)
    present[numbers - low] = 1
    return (np.cumsum(present, dtype=np.int32) - 1)[numbers - low], int(present.sum())


def _by_user_and_time(users: I32, ts_ms: I64, n_users: int) -> I64:
    """Return the positions that sort by user, then time, then as given, (n,). Only users with events out of order are sorted by time."""
    order = stable_order(users, n_users)
    grouped, times = users[order], ts_ms[order]
    late = np.zeros(n_users, bool)
    late[grouped[1:][(np.diff(times) < 0) & (grouped[1:] == grouped[:-1])]] = True
    places = np.flatnonzero(late[grouped])
    order[places] = order[places][np.lexsort((times[places], grouped[places]))]
    return order
