"""Chosen users of the state with their rows, each partition's as of one watermark."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import xxhash
from numpy.typing import NDArray

from workers.operations.reference_fold import user_hash
from workers.state.port import StateStore, Watermark

U64 = NDArray[np.uint64]


@dataclass(slots=True)
class UserSample:
    """`n_chosen` of `n_stored` users, each counted once, also one whose rows lie in several partitions.

    By partition: the watermark, the rows of chosen users as of it, and the hashes of all users that have a row, ascending.
    """

    n_stored: int
    n_chosen: int
    watermarks: dict[int, Watermark | None] = field(default_factory=dict)
    rows: dict[int, dict[str, bytes | None]] = field(default_factory=dict)
    hashes: dict[int, U64] = field(default_factory=dict)
    shown: dict[int, dict[str, bytes | None]] = field(default_factory=dict)
    shown_lasts: dict[int, int] = field(default_factory=dict)
    """Rows of what was shown to the chosen users, as of these offsets; none where impressions are not counted."""

    def n_in(self, partition: int) -> int:
        """Return the number of users with a row in a partition."""
        return len(self.hashes[partition])

    def of_partition(self, partition: int) -> list[str]:
        """The chosen users of a partition."""
        return list(self.rows[partition])


class _Smallest:
    """The `n` users with the smallest hashes of seed and id, and in which partitions: the same ones in whatever order they are met."""

    def __init__(self, n: int, seed: int) -> None:
        self._n, self._seed = n, f"{seed}/".encode()
        self._heap: list[int] = []
        self.chosen: dict[int, dict[tuple[int, str], None]] = {}

    def meet(self, partition: int, user_id: str) -> None:
        drawn = xxhash.xxh3_64_intdigest(self._seed + user_id.encode())
        held = self.chosen.get(drawn)
        if held is not None:
            held[partition, user_id] = None
        elif len(self._heap) < self._n:
            heapq.heappush(self._heap, -drawn)
            self.chosen[drawn] = {(partition, user_id): None}
        elif self._n and drawn < -self._heap[0]:
            del self.chosen[-heapq.heappushpop(self._heap, -drawn)]
            self.chosen[drawn] = {(partition, user_id): None}


async def read_users(
    store: StateStore, partitions: Iterable[int], n_users: int, seed: int, *, with_shown: bool = False
) -> UserSample:
    """Choose `n_users` stored users, or all if there are fewer, and read them, `with_shown` also what was shown to them. The same seed
    chooses the same users."""
    smallest = _Smallest(n_users, seed)
    hashes: dict[int, U64] = {}
    for partition in partitions:
        met = array("Q")
        async for user_id in store.scan_users(partition):  # a scan may name a user twice
            met.append(user_hash(user_id.encode()))
            smallest.meet(partition, user_id)
        hashes[partition] = np.unique(np.frombuffer(met, np.uint64)) if met else np.zeros(0, np.uint64)
    n_stored = len(np.unique(np.concatenate(list(hashes.values())))) if hashes else 0
    sample = UserSample(n_stored, len(smallest.chosen), hashes=hashes)
    chosen: dict[int, list[str]] = {partition: [] for partition in hashes}
    for places in smallest.chosen.values():
        for partition, user_id in places:
            chosen[partition].append(user_id)
    for partition, user_ids in chosen.items():
        sample.watermarks[partition], rows = await store.read_users_at(partition, user_ids)
        sample.rows[partition] = dict(zip(user_ids, rows, strict=True))
        if with_shown:
            sample.shown_lasts[partition], rows = await store.read_shown_at(partition, user_ids)
            sample.shown[partition] = dict(zip(user_ids, rows, strict=True))
    return sample
