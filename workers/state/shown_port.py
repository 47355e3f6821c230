"""Rows of what was shown to users, as workers see them in the state store. They change with the users' rows, in the same step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol


class ShownRows(Protocol):
    """The part of a state store that holds counts of impressions, as rows of `recsys.state.shown`."""

    async def read_shown_of(self, requests: Mapping[int, Sequence[str]]) -> dict[int, list[bytes | None]]:
        """Return the rows of shown items of users by partition; None for a user without any. One round trip. Raises Transient."""
        ...

    def scan_shown(self, partition: int) -> AsyncIterator[str]:
        """Yield the ids of a partition's users with a row of shown items, in no order. One that is written during the scan may come twice
        or not at all."""
        ...

    async def read_shown_at(self, partition: int, user_ids: Sequence[str]) -> tuple[int, list[bytes | None]]:
        """Return the rows of shown items of a partition's users, and its last applied offset (-1: none), of one moment. Raises
        Transient."""
        ...
