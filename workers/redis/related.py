"""Lists of items in Redis: what is published."""

from __future__ import annotations

from collections.abc import Mapping

from workers.redis.commands import Command
from workers.redis.opened_store import OpenedStore


class Related(OpenedStore):
    """Methods of `StateStore` for published lists of items."""

    async def published_lists(self, group: int) -> dict[bytes, bytes]:
        key = self.keys.published(group)
        found: dict[bytes, bytes] = await self._link.one(key, "HGETALL", key)
        return found

    async def note_published(self, group: int, published: Mapping[bytes, bytes | None]) -> None:
        key = self.keys.published(group)
        held = [part for field, value in published.items() if value is not None for part in (field, value)]
        gone = [field for field, value in published.items() if value is None]
        commands = [Command(key, ("HSET", key, *held))] if held else []
        await self._link.run(commands + ([Command(key, ("HDEL", key, *gone))] if gone else []))
