"""Reads from a state store what is bought together; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.related.together import Together, bought_together
from recsys.state.bought import BUYERS_ROW, USERS, bought_row, signed_sums
from recsys.state.item_row import HEADER_BYTES, parse_header
from workers.settings import RelatedSettings
from workers.state.port import RowAddress, StateStore, TailKind

I64 = NDArray[np.int64]
_NOTHING = b"\0" * HEADER_BYTES


class Buyers:
    """Holds how many users have chosen each item, and any item, in step with a store: only what was appended since is read."""

    def __init__(self, store: StateStore, item_groups: int) -> None:
        self._store, self._groups = store, item_groups
        self._known: dict[int, tuple[int, int]] = {}
        """Generation and length in bytes of each group's row."""
        self._users: dict[int, dict[int, int]] = {group: {} for group in range(item_groups)}

    async def refresh(self) -> None:
        """Read what was appended since the last time. Raises Transient, Fatal."""
        addresses: list[RowAddress] = [(group, BUYERS_ROW) for group in range(self._groups)]
        known = [self._known.get(group, (0, HEADER_BYTES)) for group, _ in addresses]
        tails = await self._store.read_row_tails([(address, *of) for address, of in zip(addresses, known, strict=True)])
        for (group, _), (generation, length), tail in zip(addresses, known, tails, strict=True):
            if tail.kind is TailKind.TAIL:
                self._add(group, _NOTHING + tail.content)
                self._known[group] = generation, length + len(tail.content)
                continue
            self._users[group].clear()
            self._known.pop(group, None)
            if tail.kind is TailKind.FULL:
                self._add(group, tail.content)
                self._known[group] = parse_header(tail.content)[0], len(tail.content)

    def _add(self, group: int, row: bytes) -> None:
        held = self._users[group]
        for number, count in zip(*(column.tolist() for column in signed_sums(row)), strict=True):
            held[number] = held.get(number, 0) + count

    @property
    def n_users(self) -> int:
        """Return how many users have chosen anything."""
        return sum(held.get(USERS, 0) for held in self._users.values())

    def of(self, numbers: I64) -> I64:
        """Return how many users have chosen each of these items, (N,)."""
        return np.array([self._users[number % self._groups].get(number, 0) for number in numbers.tolist()], np.int64)

    def users_of(self, number: int) -> int:
        """Return how many users have chosen an item."""
        return self._users[number % self._groups].get(number, 0)

    async def together_of(
        self, numbers: Sequence[int], settings: RelatedSettings, *, size: int | None = None, listable: NDArray[np.bool_] | None = None
    ) -> dict[int, Together]:
        """Return what is bought together with each of these items, of `listable` items (N,) or of all. Raises Transient, Fatal."""
        rows = await self._store.read_rows([(number % self._groups, bought_row(number)) for number in numbers])
        places, found = settings.size if size is None else size, {}
        for number, row in zip(numbers, rows, strict=True):
            others, support = signed_sums(row)
            if listable is not None:
                kept = (others < len(listable)) & listable[np.minimum(others, len(listable) - 1)]
                others, support = others[kept], support[kept]
            users = self.of(others)
            found[number] = bought_together(
                others, support, self.users_of(number), users, self.n_users, least_users=settings.least_users, size=places
            )
        return found
