"""Item ids and their numbers, cached from the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from workers.store.port import StateStore


class ItemIndex:
    """Both directions of the numbering. `names[number]` is the id; numbers are dense and never change."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self.numbers: dict[str, int] = {}
        self.names: list[str] = []

    def clear(self) -> None:
        """Forget everything: the numbering in Redis may have been lost."""
        self.numbers.clear()
        self.names.clear()

    async def number(self, item_ids: Iterable[str]) -> None:
        """Have a number for each of these ids; new ids get one."""
        unknown = list(dict.fromkeys(item_id for item_id in item_ids if item_id not in self.numbers))
        if unknown:
            newest = max(await self._store.item_numbers(unknown))
            if newest >= len(self.names):
                await self.catch_up()

    async def catch_up(self) -> None:
        """Learn the ids that others numbered since."""
        for number, item_id in enumerate(await self._store.item_names(start := len(self.names)), start):
            if number == len(self.names):  # else another task caught up, or cleared, while this one waited
                self.numbers[item_id] = number
                self.names.append(item_id)

    async def name(self, numbers: Sequence[int]) -> list[str]:
        """Ids of these numbers."""
        if numbers and max(numbers) >= len(self.names):
            await self.catch_up()
        return [self.names[number] for number in numbers]
