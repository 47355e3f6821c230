"""Users whose ids were merged: whose list is made of whose histories, and whose is made no more (ADR 22).

Nothing here writes a history. An id that has ended gets no list: the one that it goes on as is noted as waiting for one, in whichever
partition it lies, before the events that gave rise to it are committed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from recsys.state.joined_histories import hold_joined
from recsys.state.user_rows import Unpacked, unpack_rows
from workers.kafka.partitioner import partition_for
from workers.lists.encoding import ListHead
from workers.state.merged_users import Merged, MergeReader, Owner
from workers.state.users_topic import ListWork
from workers.stream.serving_state import ServingState

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MergesOfBatch:
    """Says what merges mean for users of a batch, for some of them anything; and the rows, read now, that count for some of them."""

    of: Mapping[Owner, Merged] = field(default_factory=dict)
    rows: Mapping[Owner, Sequence[bytes]] = field(default_factory=dict)
    """Those that count most come last."""
    slots: dict[Owner, int] = field(default_factory=dict)
    """Where the engine holds joined histories, once they are joined."""

    def __bool__(self) -> bool:
        return bool(self.of)

    def listed(self, heads: Sequence[ListHead]) -> list[int]:
        """Return the places of users who get a list of their own."""
        return [at for at, head in enumerate(heads) if (found := self.of.get(_owner(head))) is None or found.goes_on_as is None]



NO_MERGES = MergesOfBatch()


class Merges:
    """Finds merged users, and has the engine hold their joined histories. The caller holds a turn of the state."""

    def __init__(self, state: ServingState) -> None:
        self._state = state
        self._reader = MergeReader(state.store, partial(_partition_of, state.settings.topics.partitions))
        self._used: set[int] = set()
        """Partitions with merged ids, or accounts that have some."""

    async def follow(self, partitions: Collection[int]) -> dict[int, ListWork]:
        """Look what there is to do for lists in these partitions, and whether they have merged users. Raises Transient."""
        work = await self._state.store.list_work(list(partitions))
        self._used = {partition for partition, found in work.items() if found.has_merges}
        return work

    async def look(self, heads: Sequence[ListHead], *, everywhere: bool = False) -> MergesOfBatch:
        """Read what merges mean for users, in partitions that have had any when `follow` looked, or in all. Raises Transient."""
        users = [_owner(head) for head in heads if everywhere or head.partition in self._used] if everywhere or self._used else []
        if not users:
            return NO_MERGES
        found = await self._reader.read(users)
        wanted: dict[int, dict[str, None]] = {}
        for merged in found.values():
            for partition, user_id in merged.parts:
                wanted.setdefault(partition, {})[user_id] = None
        stored = await self._state.store.read_users_of({p: list(ids) for p, ids in wanted.items()}) if wanted else {}
        rows = {(p, user_id): row for p, ids in wanted.items() for user_id, row in zip(ids, stored[p], strict=True) if row is not None}
        parts = {user: [rows[part] for part in reversed(merged.parts) if part in rows] for user, merged in found.items()}
        return MergesOfBatch(found, {user: own for user, own in parts.items() if own})

    async def joined(self, merges: MergesOfBatch, slots: I64, heads: Sequence[ListHead]) -> I64:
        """Return the slots (U,) that lists of these users are made from: of joined histories for those who have one, made once in a batch
        from their histories as they are in `slots` (U,) then. Raises Transient."""
        if not merges.rows:
            return slots
        users = {at: owner for at, head in enumerate(heads) if (owner := _owner(head)) in merges.rows}
        await self._join(merges, {owner: int(slots[at]) for at, owner in users.items() if owner not in merges.slots})
        joined = slots.copy()
        joined[list(users)] = [merges.slots[owner] for owner in users.values()]
        return joined

    async def _join(self, merges: MergesOfBatch, users: Mapping[Owner, int]) -> None:
        """Have the engine hold the joined histories of users, given with the slots of their own."""
        if not users:
            return
        engine = self._state.engine
        packed = [merges.rows[owner] for owner in users]
        parts = unpack_rows([row for own in packed for row in own], engine.users.history_length)
        await self._know_items(parts)
        keys = [f"{partition}:{user_id}\n" for partition, user_id in users]  # no user id has a line feed
        owners = np.repeat(np.arange(len(users)), [len(own) for own in packed])
        hold_joined(engine.users, keys, np.fromiter(users.values(), np.int64, len(users)), parts, owners)
        for owner, key in zip(users, keys, strict=True):
            slot = engine.users.slot(key)
            assert slot is not None, "held a moment ago"
            merges.slots[owner] = slot

    async def _know_items(self, parts: Unpacked) -> None:
        """Have room in the engine for items that another worker numbered."""
        older = max((int(items.max(initial=0)) for items in parts.older.values()), default=0)
        if max(int(parts.columns.items.max(initial=0)), older) >= self._state.engine.n_items:
            await self._state.learn_new_items()

    async def pass_on(self, merges: MergesOfBatch) -> None:
        """Note that those who go on in the place of these users wait for a list. Raises Transient."""
        await self._note_waiting(merged.goes_on_as for merged in merges.of.values())

    async def pass_on_once(self, partition: int, merges: MergesOfBatch) -> None:
        """As `pass_on`, for users of one partition whose records may have changed; once for those in whose place others went on before."""
        await self.pass_on(merges)
        before = {user_id: merged.before[1] for (_, user_id), merged in merges.of.items() if merged.before is not None}
        if before:
            await self._note_waiting(merged.before for merged in merges.of.values())
            await self._state.store.forget_before(partition, before)

    async def _note_waiting(self, owners: Iterable[Owner | None]) -> None:
        waiting: dict[int, dict[str, None]] = {}
        for owner in owners:
            if owner is not None:
                waiting.setdefault(owner[0], {})[owner[1]] = None
        if waiting:
            await self._state.store.await_lists({partition: list(users) for partition, users in waiting.items()})


def _owner(head: ListHead) -> Owner:
    return head.partition, head.user_id


def _partition_of(partitions: int, user_id: str) -> int:
    return partition_for(user_id.encode(), partitions)
