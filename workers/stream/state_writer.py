"""Writes a micro-batch to the state store: the item groups first, all of them, and only then the users with their watermark.

A user watermark says that everything up to it is done, in the item groups too. So a worker that stops between the two writes leaves groups
that are ahead of the users. The next one sends the same ranges again; a group skips what its own watermark covers.

| write | atomic for | may be repeated |
| --- | --- | --- |
| item groups | one group | yes: a group that is ahead skips the range, or gets the part of it that it lacks |
| users, duplicates, watermark, deferred lists, event time | one partition | no: the second one meets another watermark, and is Fenced |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from recsys.engine import Derived
from recsys.state.batch_delta import Delta
from recsys.state.interactions import Interactions
from workers.errors import Fatal, Fenced
from workers.lists.encoding import ListHead
from workers.state.port import ApplyStatus, GroupDeltas, GroupResult, Range, UserCommit
from workers.stream.micro_batch import Admitted, BatchUsers, OwnedPartition
from workers.stream.related_counts import RelatedCounter
from workers.stream.serving_state import ServingState, last_applied
from workers.stream.shown_batch import Shown, ShownBatch


@dataclass(frozen=True, slots=True)
class Chosen:
    """The events of a batch that count: their users, and as arrays for the engine those that are new, with the newest events of the users
    that they change."""

    admitted: Admitted
    users: BatchUsers
    interactions: Interactions | None
    changed: list[ListHead]
    newest_s: dict[int, int]
    """Event time of the newest, by partition."""
    shown: ShownBatch | None = None
    """Its impressions and choices, where impressions are counted."""
    erased: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    """Users who are erased, and who do nothing afterwards in this batch, by partition: each with the offset of the record that says so."""

    def erases(self, head: ListHead) -> bool:
        """Return whether a user is erased."""
        return head.user_id in self.erased.get(head.partition, ())

    def waiting(self, partition: int) -> list[str]:
        """Return the users of a partition who get a list, now or later."""
        erased = self.erased.get(partition, ())
        return [user_id for user_id in self.users.of_partition(partition) if user_id not in erased]


class StateWriter:
    """Writes batches of the partitions in `owned`, whose last applied offsets it moves."""

    def __init__(self, state: ServingState, owned: Mapping[int, OwnedPartition], related: RelatedCounter | None = None) -> None:
        """`related` counts for lists of items."""
        self._state, self._owned, self._related = state, owned, related

    def ranges(self, next_offsets: Mapping[int, int]) -> list[Range]:
        """Return the offsets that a batch up to these next offsets adds to what is applied."""
        return [
            Range(partition, owned.topic_id, owned.last_applied_offset, owned.last_applied_offset + 1, next_offset - 1)
            for partition, next_offset in next_offsets.items()
            if (owned := self._owned[partition]).last_applied_offset < next_offset - 1
        ]

    def derive(self, chosen: Chosen) -> tuple[Derived | None, Delta]:
        """Return what the events of a batch that are new mean for the item groups; nothing without such events."""
        engine, interactions = self._state.engine, chosen.interactions
        if interactions is None:
            return None, Delta.nothing(engine.config.item_groups)
        derived = engine.derive(interactions)
        if self._related is not None:
            derived = replace(derived, related=self._related.derive(interactions, chosen.changed))
        self._state.numbering.n_used = max(self._state.numbering.n_used, int(interactions.items.max()) + 1)
        return derived, derived.delta(engine.config)

    async def apply_items(self, ranges: Sequence[Range], derived: Derived | None, delta: Delta) -> None:
        """Apply ranges to every item group, each up to the ranges' ends. May be repeated. Raises Transient, Fenced, Fatal."""
        results = await self._state.store.apply_items(ranges, _packed(delta), self._state.numbering.n_used)
        applied = {result.group for result in results if result.status is ApplyStatus.APPLIED}
        for result in results:
            if result.group not in applied and result.status is not ApplyStatus.SKIPPED:
                await self._apply_rest(ranges, derived, result)
        if len(applied) == delta.item_groups:
            self._state.item_cache.absorb(delta, results)
            self._state.related_rows.note(delta, results)
        else:
            self._state.item_cache.invalidate(delta)

    async def _apply_rest(self, ranges: Sequence[Range], derived: Derived | None, result: GroupResult) -> None:
        """Cut ranges at the watermark of a group that has part of them already, and apply what is left."""
        group = result.group
        if result.status is ApplyStatus.TOPIC_CHANGED:
            raise Fatal(
                f"item group {group} in Redis follows another topic of the same name: set redis.namespace to a new one, or drop the state"
            )
        if result.status is ApplyStatus.GAP:
            await self._refuse_gap(ranges, group)
        for cut in ranges:
            watermark = result.watermarks.get(cut.partition)
            first = max(cut.first, last_applied(watermark) + 1)
            if first > cut.last:
                continue
            packed = _packed(self._delta_of(derived, cut.partition, first), [group])
            again = (await self._state.store.apply_items([cut._replace(first=first)], packed, self._state.numbering.n_used))[0]
            if again.status not in (ApplyStatus.APPLIED, ApplyStatus.SKIPPED):
                raise Fenced(f"item group {group} moved while partition {cut.partition} was being applied ({again.status})")

    def _delta_of(self, derived: Derived | None, partition: int, first: int) -> Delta:
        """Return what a partition's interactions from an offset on add to the item groups."""
        config = self._state.engine.config
        if derived is None:
            return Delta.nothing(config.item_groups)
        return derived.delta(config, (derived.batch.partitions == partition) & (derived.batch.source_offsets >= first))

    async def _refuse_gap(self, ranges: Sequence[Range], group: int) -> None:
        """Raise Fenced when the users' watermarks went back too, since replay repairs that, and Fatal otherwise."""
        now = await self._state.store.watermarks([r.partition for r in ranges])
        for cut in ranges:
            if last_applied(now[cut.partition]) != cut.base:
                raise Fenced(f"partition {cut.partition}: the state in Redis went back; replaying from its watermark")
        raise Fatal(
            f"item group {group} in Redis lost state that its users still have (a failover of one shard): "
            "run `recsys state rebuild`, which builds the state from the log"
        )

    async def commit_users(
        self,
        ranges: Sequence[Range],
        chosen: Chosen,
        derived: Derived | None,
        embeddings: Sequence[Sequence[bytes]],
        owed: Mapping[int, Sequence[str]],
        shown: Shown | None = None,
    ) -> None:
        """Write the rows of a batch's users, what was shown to them, its duplicate hashes, the watermarks, and who is `owed` a list.

        Raises Fenced when another worker has moved a watermark.
        """
        by_partition: dict[int, dict[str, bytes]] = {cut.partition: {} for cut in ranges}
        if chosen.interactions is not None:
            packed = self._state.engine.users.pack(chosen.interactions.slots.tolist(), embeddings)
            for (user_id, partition, *_), row in zip(chosen.changed, packed, strict=True):
                by_partition[partition][user_id] = row
        shown_rows = {} if shown is None else shown.rows(self._state.engine)
        bought = {} if self._related is None else self._related.packed(chosen.interactions, chosen.changed)
        erased = {cut.partition: [u for u, at in chosen.erased.get(cut.partition, {}).items() if at > cut.base] for cut in ranges}
        for partition, user_ids in erased.items():
            for user_id in user_ids:
                for rows in (by_partition, shown_rows, bought):
                    rows.get(partition, {}).pop(user_id, None)
        commits = [
            UserCommit(
                cut.partition,
                cut.topic_id,
                cut.base,
                cut.last,
                by_partition[cut.partition],
                {chunk: np.array(h, "<u8").tobytes() for chunk, h in chosen.admitted.hashes.get(cut.partition, {}).items()},
                [user_id for user_id in owed.get(cut.partition, ()) if user_id not in erased[cut.partition]],
                chosen.newest_s.get(cut.partition, 0),
                shown_rows.get(cut.partition, {}),
                bought.get(cut.partition, {}),
                erased[cut.partition],
            )
            for cut in ranges
        ]
        results = await self._state.store.commit_users(commits)
        firsts = [cut for cut, result in zip(ranges, results, strict=True) if result.committed and cut.base < 0]
        await self._confirm_items(firsts, derived)
        for result in results:
            if not result.committed:
                raise _fenced(result.partition)
        for cut in ranges:
            self._owned[cut.partition].last_applied_offset = cut.last

    async def _confirm_items(self, firsts: Sequence[Range], derived: Derived | None) -> None:
        """Send partitions' first ranges to the item groups once more. Raises Fenced when a group had lost one.

        A state that was lost between the two writes looks like one that never was, and then users would stay ahead of the groups.
        """
        statuses = set()
        for cut in firsts:
            packed = _packed(self._delta_of(derived, cut.partition, cut.first))
            again = await self._state.store.apply_items([cut], packed, self._state.numbering.n_used)
            statuses |= {result.status for result in again}
        if statuses - {ApplyStatus.SKIPPED}:
            raise Fenced("Redis lost its state between two writes of a batch")

    async def note_deferred(self, user_ids: Mapping[int, Sequence[str]]) -> None:
        """Note that users of these partitions wait for a list, and leave the watermarks. Raises Fenced."""
        commits = [
            UserCommit(partition, owned.topic_id, owned.last_applied_offset, owned.last_applied_offset, {}, owed=users)
            for partition, users in user_ids.items()
            if users and (owned := self._owned[partition])
        ]
        for result in await self._state.store.commit_users(commits) if commits else ():
            if not result.committed:
                raise _fenced(result.partition)

    async def check_watermarks(self, partitions: Iterable[int]) -> None:
        """Raise Fenced when another worker has moved a watermark since this one owns the partition."""
        for partition, watermark in (await self._state.store.watermarks(list(partitions))).items():
            if last_applied(watermark) != self._owned[partition].last_applied_offset:
                raise _fenced(partition)


def _fenced(partition: int) -> Fenced:
    return Fenced(f"partition {partition}: another worker moved the watermark")


def _packed(delta: Delta, groups: Iterable[int] | None = None) -> list[GroupDeltas]:
    """Return what is added to these item groups, or to all, as the store takes it."""
    return [GroupDeltas(group, delta.rows_of(group), *delta.packed(group)) for group in groups or range(delta.item_groups)]
