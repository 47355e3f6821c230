"""Item ids and their numbers, cached from the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from workers.errors import Fatal, Fenced
from workers.state.port import StateStore


class ItemNumbering:
    """Both directions of the numbering. `names[number]` is the id; numbers are dense and never change.

    `n_used` is how many of them may be in rows that this worker has written.
    """

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self.numbers: dict[str, int] = {}
        self.names: list[str] = []
        self.n_used = 0
        self.lost = False
        """The store did not have numbers that are known here: the owner of partitions has to reconcile."""

    def clear(self) -> None:
        """Forget everything: the numbering in Redis may have been lost."""
        self.numbers.clear()
        self.names.clear()
        self.n_used = 0

    async def number(self, item_ids: Iterable[str]) -> None:
        """Have a number for each of these ids; new ids get one. Raises Fenced when the store has lost numbers that are known here."""
        wanted = dict.fromkeys(item_ids)
        if not wanted.keys() <= self.numbers.keys():
            unknown = [item_id for item_id in wanted if item_id not in self.numbers]
            known = len(self.names)
            try:
                newest = max(await self._store.item_numbers(unknown, known, self.names[-1] if known else ""))
            except Fenced:
                self.lost = True
                raise
            if newest >= len(self.names):
                await self.catch_up()

    async def catch_up(self) -> None:
        """Learn the ids that others numbered since."""
        for number, item_id in enumerate(await self._store.item_names(start := len(self.names)), start):
            if number == len(self.names):  # else another task caught up, or cleared, while this one waited
                self.numbers[item_id] = number
                self.names.append(item_id)

    async def reconcile(self) -> bool:
        """Check after a failover that the store has every number that is known here, and restore the numbers that it lost.

        Return False when nothing that this worker wrote depends on the difference: drop the numbering and read the store's.

        Raises: Fenced when another worker restores them at the same time, Fatal when numbers are lost that rows use and no worker knows,
        or when other ids have got them.
        """
        used = await self._store.numbers_used()  # before the names: what is used was named before
        stored = await self._store.item_names()
        self.lost = False
        if used > max(len(stored), len(self.names)):
            raise Fatal(
                "Redis lost item numbers that rows still use (a failover of one shard): "
                "run `recsys state rebuild`, which builds the state from the log"
            )
        if stored[: len(self.names)] == self.names:
            return True
        same = next((n for n, (a, b) in enumerate(zip(stored, self.names, strict=False)) if a != b), min(len(stored), len(self.names)))
        if same >= max(self.n_used, used):
            return False
        if same < len(stored):
            raise Fatal(
                "Redis lost item numbers that rows still use, and gave them to other items (a failover of one shard): "
                "run `recsys state rebuild`, which builds the state from the log"
            )
        if not await self._store.restore_names(same, self.names[same:]):
            raise Fenced("the numbering of items is being put back by another worker")
        return True

    async def put_back_used(self) -> None:
        """Restore numbers after the state became another one: what was written since may use numbers that are known here and went with the
        old state. Raises as `reconcile`."""
        used = await self._store.numbers_used()
        if used > len(await self._store.item_names()):
            self.n_used = 0  # what this worker wrote before is gone
            await self.reconcile()

    async def name(self, numbers: Sequence[int]) -> list[str]:
        """Return the ids of these numbers."""
        if numbers and max(numbers) >= len(self.names):
            await self.catch_up()
        return [self.names[number] for number in numbers]
