"""The part of the state store in dictionaries that lists of items need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class MemoryRelated:
    """Methods of `StateStore` for lists of items."""

    _bought: dict[int, dict[str, bytes]]
    _published: dict[int, dict[bytes, bytes]]

    async def read_bought_of(self, requests: Mapping[int, Sequence[str]]) -> dict[int, list[bytes | None]]:
        return {partition: [self._bought.get(partition, {}).get(user) for user in user_ids] for partition, user_ids in requests.items()}

    async def published_lists(self, group: int) -> dict[bytes, bytes]:
        return dict(self._published.get(group, {}))

    async def note_published(self, group: int, published: Mapping[bytes, bytes | None]) -> None:
        held = self._published.setdefault(group, {})
        for field, value in published.items():
            if value is None:
                held.pop(field, None)
            else:
                held[field] = value
