"""The part of the state store's contract that lists of items need: windows of users, and what is published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class RelatedStore(Protocol):
    """Methods of `StateStore` for lists of items. `commit_users` writes the windows, with the watermark."""

    async def read_bought_of(self, requests: Mapping[int, Sequence[str]]) -> dict[int, list[bytes | None]]:
        """Windows of users, by partition, in one round trip: the items that count for what is bought together."""
        ...

    async def published_lists(self, group: int) -> dict[bytes, bytes]:
        """Return what is published of the items of a group, as `note_published` was given it."""
        ...

    async def note_published(self, group: int, published: Mapping[bytes, bytes | None]) -> None:
        """Remember what is published now of some items of a group; None: nothing. Others stay as they are."""
        ...
