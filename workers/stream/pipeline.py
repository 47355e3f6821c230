"""One micro-batch from records to state and lists. Knows Redis through the state store, and nothing of Kafka.

    decode ▸ number ▸ read users ▸ derive ▸ apply to item groups ▸ commit users ▸ rank

Every step before the last two may be repeated at no harm; the two writes check the watermarks. After any error the caller calls `assign`
again, which drops what is cached, and goes on from the offsets that it answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys.engine import Derived, Engine
from recsys.state.batch_delta import Delta
from recsys.state.duplicates import DuplicateWindow, event_hash
from recsys.state.event_weights import WeightTable
from recsys.state.interactions import Interactions
from schemas.dead_letters import DeadLetter
from schemas.decoding import decode_profile
from schemas.errors import Poison
from workers.errors import Fatal, Fenced, Transient
from workers.kafka.records import Record
from workers.lists.encoding import ItemIds, ListHead, encode_lists
from workers.settings import Settings
from workers.state.event_time import derive_event_time
from workers.state.event_weights import weight_table
from workers.state.layout import layout_of
from workers.state.port import ApplyStatus, GroupDeltas, GroupResult, Range, StateStore, UserCommit, Watermark
from workers.state.sending import in_flight
from workers.stream.engine_config import engine_config
from workers.stream.item_numbering import ItemIndex
from workers.stream.item_state_cache import ItemMirror
from workers.stream.micro_batch import Admitted, BatchUsers, DecodedBatch, OwnedPartition, admit
from workers.stream.short_lists import ShortLists

log = logging.getLogger(__name__)

I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
T = TypeVar("T")

LISTED_TOGETHER = 512
"""Users whose lists one thread makes at once, at most."""
SHARED_FROM = 256
"""So many users are shared between threads; fewer are done sooner by one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a batch leaves to publish, by partition, and to commit. `n_new` interactions changed the state."""

    lists: dict[int, list[tuple[bytes, bytes | None]]]
    dead_letters: list[DeadLetter]
    next_offsets: dict[int, int]
    n_records: int
    n_new: int
    n_duplicates: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    trimmed: Mapping[str, int] = field(default_factory=dict)
    """Optional fields, and of how many events something in them was dropped or cut."""

    @property
    def n_lists(self) -> int:
        return sum(len(records) for records in self.lists.values())


@dataclass(frozen=True, slots=True)
class Owed:
    """Lists of one partition that had been put off, as (key, record), and the watermark they were made from."""

    records: list[tuple[bytes, bytes | None]]
    made_from: Watermark

    @property
    def user_ids(self) -> list[str]:
        return [key.decode() for key, _ in self.records]


@dataclass(frozen=True, slots=True)
class _Seen:
    """Which state the caches are of: the servers' runs, the generation, and the id that an emptied namespace gets anew."""

    run_ids: tuple[str, ...]
    generation: int
    state_id: str


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The events of a batch that count: whose they are, and as arrays for the engine those that are new, with the newest events of the
    users that they change."""

    admitted: Admitted
    users: BatchUsers
    interactions: Interactions | None
    changed: list[ListHead]
    newest_s: dict[int, int]
    """Event time of the newest, by partition."""


class Pipeline:
    """State and lists of the partitions that this worker owns. Not for use by two tasks at once: hold `lock`."""

    def __init__(self, settings: Settings, store: StateStore, *, ranks: bool = True, wall_clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.store = store
        self.engine = Engine(engine_config(settings))
        self.index = ItemIndex(store)
        self._ids = ItemIds(self.index.names)
        self.mirror = self._new_mirror()
        self.resets = 0
        """How often everything cached was dropped because the state is another one; followers start anew then."""
        self.event_time_of = -1
        """`resets` when event time was read from the state."""
        self.ranks = ranks
        self.lock = asyncio.Lock()
        self.short_lists = ShortLists(settings.lists.size)
        self._threads = ThreadPoolExecutor(n, "lists") if (n := settings.stream.list_threads) > 1 else None
        self._weights: WeightTable = weight_table(settings)
        self._wall_clock = wall_clock
        self._partitions: dict[int, OwnedPartition] = {}
        self._seen: _Seen | None = None

    def _new_mirror(self) -> ItemMirror:
        settings = self.settings
        return ItemMirror(
            self.store,
            self.engine,
            live_epochs=settings.state.live_epochs,
            max_neighbours=settings.state.max_neighbours,
            staleness_s=settings.stream.staleness_ms / 1000,
        )

    async def open(self) -> None:
        """Prepare the store. Raises Fatal when the state was laid out with other settings."""
        self._seen = await self._look()
        await self.index.reconcile()
        await self.index.catch_up()
        self.engine.ensure_items(len(self.index.names))
        await self._read_event_time()

    async def _read_event_time(self) -> None:
        """Learn event time from the state, also from one whose event time an older build did not note."""
        resets = self.resets
        times = await self.follow_event_time()
        unknown = [partition for partition, at_s in times.items() if at_s is None]
        if any(mark is not None for mark in (await self.store.watermarks(unknown)).values()):
            derived_s = await derive_event_time(self.store, self.engine.config.item_groups, int(self._wall_clock()))
            if derived_s:
                await self.mirror.advance(derived_s)
        self.event_time_of = resets

    async def follow_event_time(self) -> dict[int, int | None]:
        """Learn how far event time is in the state: other workers apply events too. The time of each partition."""
        times = await self.store.event_times(range(self.settings.topics.partitions))
        if newest_s := max((at_s or 0 for at_s in times.values()), default=0):
            await self.mirror.advance(newest_s)
        return times

    async def _look(self) -> _Seen:
        await self.store.open(layout_of(self.settings))
        run_ids = tuple(identity.run_id for identity in await self.store.server_identity())
        return _Seen(run_ids, self.store.generation, await self.store.state_id())

    async def check_current(self) -> None:
        """Raises Fenced when the state is another one than the caches are of: a generation was switched, or Redis lost something."""
        seen = self._seen
        assert seen is not None, "opened"
        if self.index.lost or await self.store.wanted_generation() != seen.generation or await self.store.state_id() != seen.state_id:
            raise Fenced("another state is in Redis than before: reading it")

    # -- owning partitions ---------------------------------------------------------------------------------------------------------------

    async def assign(self, partitions: Iterable[int], topic_id: str) -> dict[int, int]:
        """Own these partitions from now on, with nothing cached; the next offset that changes the state of each.

        Raises: Fatal when the state belongs to another topic of the same name.
        """
        wanted = list(partitions)
        await self._reopen()
        self.release(wanted)
        for partition, watermark in (await self.store.watermarks(wanted)).items():
            if watermark is not None and watermark.topic_id != topic_id:
                raise Fatal(
                    f"the state in Redis follows another topic named {self.settings.topics.events}: it was deleted and made again; "
                    "set redis.namespace to a new one, or drop the state"
                )
            last = _last(watermark)
            window = DuplicateWindow(self.settings.state.duplicate_chunk)
            chunk = window.chunk(max(last, 0))
            chunks = [c for c in (chunk - 1, chunk) if c >= 0]
            window.load(dict(zip(chunks, await self.store.read_duplicates(partition, chunks), strict=True)))
            self._partitions[partition] = OwnedPartition(topic_id, last, window)
        await self._note_event_times(wanted)
        try:
            await self._check_ownership(wanted)  # what was read of the duplicates must be of the watermark's state
        except Fenced as error:
            self.release(wanted)
            raise Transient(f"{error} while it was being taken over") from None
        self._look_again()
        return {partition: self._partitions[partition].last_applied_offset + 1 for partition in wanted}

    async def _note_event_times(self, partitions: Sequence[int]) -> None:
        """Note the event time of partitions of a state that an older build wrote, before a batch of late events would."""
        times = await self.store.event_times(partitions)
        for partition in partitions:
            if times[partition] is None and self._partitions[partition].last_applied_offset >= 0:
                await self.store.note_event_time(partition, self.mirror.newest_s)

    def release(self, partitions: Iterable[int]) -> None:
        """Own these partitions no longer."""
        prefixes = tuple(f"{partition}:" for partition in partitions if self._partitions.pop(partition, None) is not None)
        if prefixes:
            self.engine.users.forget([key for key in self.engine.users if key.startswith(prefixes)])
            self._look_again()

    def _look_again(self) -> None:
        self.mirror.look_again(alone=len(self._partitions) == self.settings.topics.partitions)

    async def _reopen(self) -> None:
        """A restarted, emptied or failed-over server may have lost writes that the caches took for granted."""
        before, now = self._seen, await self._look()
        marks = await self.store.watermarks(list(self._partitions))
        went_back = any(_last(marks[p]) < owned.last_applied_offset for p, owned in self._partitions.items())
        if before is not None and ((before.generation, before.state_id) != (now.generation, now.state_id) or went_back):
            log.warning("the state in Redis is another one or went back: reading all of it again")
            await self.index.put_back_used()
            await self._reset()
        elif not await self.index.reconcile() or (before is not None and before.run_ids != now.run_ids):
            log.warning("Redis was restarted or failed over: reading the item state again")
            await self._reset()
        self._seen = now

    async def _reset(self) -> None:
        """Drop every cache, and lay the serving models over the numbering as it is now."""
        models, newest_s = self.engine.models, self.mirror.newest_s
        self.resets += 1  # first: whatever fails from here on, what was loaded before is not of this state
        self.index.clear()
        self._ids = ItemIds(self.index.names)
        await self.index.catch_up()
        self.engine = Engine(engine_config(self.settings))
        self.mirror = self._new_mirror()
        for kind, serving in models.items():
            await self.index.number(serving.model.item_ids)
            self.engine.ensure_items(len(self.index.names))
            self.engine.serve(kind, serving.version, serving.model, self.index.numbers)
        self.engine.ensure_items(len(self.index.names))
        if newest_s:  # the log's, whatever became of the state
            await self.mirror.advance(newest_s)
        await self._read_event_time()

    # -- one batch -----------------------------------------------------------------------------------------------------------------------

    def decode(self, batch: Mapping[int, Sequence[Record]]) -> DecodedBatch:
        """Validate records. Changes nothing and asks nobody, so it may be done while another batch is being applied."""
        return DecodedBatch.of(batch, self.settings)

    async def process(self, batch: Mapping[int, Sequence[Record]] | DecodedBatch, *, put_off_lists: bool = False) -> Outcome:
        """Apply one micro-batch and make the lists of the users it touched; or note in the same atomic step that they are owed
        (`owed_lists`).

        Raises: Transient (try again after `assign`), Fenced (another worker owns a partition), Fatal.
        """
        given = batch if isinstance(batch, DecodedBatch) else self.decode(batch)
        batch = given.batch
        watch = _Stopwatch({"decode": given.seconds})
        now_ms = int(self._wall_clock() * 1000)
        stream = self.settings.stream
        dead_letters = given.dead_letters(self.settings, now_ms)
        chosen = await self._choose(given)
        watch.lap("read")
        ranges = [
            Range(p, owned.topic_id, owned.last_applied_offset, owned.last_applied_offset + 1, records[-1].source_offset)
            for p, records in batch.items()
            if records and (owned := self._partitions[p]).last_applied_offset < records[-1].source_offset
        ]
        n_new = 0 if chosen.interactions is None else len(chosen.interactions)
        lists: dict[int, list[tuple[bytes, bytes | None]]] = {}
        owes = put_off_lists and self.ranks and stream.publish_lists
        vectors: dict[str, F32] | None = None
        committing: AbstractAsyncContextManager[None] = contextlib.nullcontext()
        if chosen.newest_s:
            await self.mirror.advance(max(chosen.newest_s.values()))
        if ranges:
            derived, vectors, embeddings = await self._apply(ranges, chosen, watch)
            committing = in_flight(self._commit_users(ranges, chosen, derived, embeddings, owes))
        async with committing:  # lists are made while the store commits; nobody gets them before it has acknowledged
            watch.lap("commit")
            if chosen.users.heads and self.ranks and not put_off_lists:
                lists = await self._rank(chosen, vectors, now_ms, watch)
        watch.lap("commit")
        if put_off_lists and owes:
            await self._owe([p for p in batch if p not in {cut.partition for cut in ranges}], chosen)
        self.engine.users.shrink(stream.user_cache)
        return Outcome(
            lists,
            dead_letters,
            {p: records[-1].source_offset + 1 for p, records in batch.items() if records},
            len(given.records.keys),
            n_new,
            chosen.admitted.n_duplicates,
            watch.seconds,
            given.events.trimmed,
        )

    async def _choose(self, given: DecodedBatch) -> _Chosen:
        """Which events count, with numbers for their items and rows for their users."""
        admitted = admit(given, self._partitions, self._weights)
        users = admitted.users()
        await self.index.number(admitted.new_item_ids)
        self.engine.ensure_items(len(self.index.names))
        await self._hold_users(users.keys, users.heads)
        if not admitted.is_new.any():
            return _Chosen(admitted, users, None, [], admitted.newest_s)
        return _Chosen(admitted, users, *admitted.by_user(users, self.index.numbers, self._slot), admitted.newest_s)

    def _slot(self, key: str) -> int:
        slot = self.engine.users.slot(key)
        assert slot is not None, "rows of touched users were read before"
        return slot

    async def _hold_users(self, keys: Sequence[str], heads: Sequence[ListHead]) -> None:
        missing: dict[int, list[str]] = {}
        for key, head in zip(keys, heads, strict=True):
            if key not in self.engine.users:
                missing.setdefault(head.partition, []).append(head.user_id)
        if not missing:
            return
        found = await self.store.read_users_of(missing)
        # Only now: rows and watermark move together and only forward, so if it still stands where we left it, the rows are of that state.
        await self._check_ownership(missing)
        self.engine.users.load({f"{p}:{u}": row for p, rows in found.items() for u, row in zip(missing[p], rows, strict=True)})
        slots = [slot for p, users in missing.items() for u in users if (slot := self.engine.users.slot(f"{p}:{u}")) is not None]
        if int(self.engine.users.items[slots].max(initial=0)) >= self.engine.n_items:  # items that another worker numbered
            await self.index.catch_up()
            self.engine.ensure_items(len(self.index.names))

    async def _check_ownership(self, partitions: Iterable[int]) -> None:
        """Raises Fenced when another worker has moved a watermark since this one owns the partition."""
        for partition, watermark in (await self.store.watermarks(list(partitions))).items():
            if _last(watermark) != self._partitions[partition].last_applied_offset:
                raise Fenced(f"partition {partition}: another worker moved the watermark")

    # -- writing -------------------------------------------------------------------------------------------------------------------------

    async def _apply(
        self, ranges: Sequence[Range], chosen: _Chosen, watch: _Stopwatch
    ) -> tuple[Derived | None, dict[str, F32] | None, list[list[bytes]]]:
        """Item groups first, all of them: only then may users be committed, whose watermark says that everything up to it is done.

        What was applied, and the vectors of the batch's users, by model kind, and as parts of their rows; None when no user changed.
        """
        engine, batch = self.engine, chosen.interactions
        derived: Derived | None = None
        delta = Delta.nothing(engine.config.item_groups)
        if batch is not None:
            derived = engine.derive(batch)
            delta = derived.delta(engine.config)
            self.index.n_used = max(self.index.n_used, int(batch.items.max()) + 1)
        watch.lap("derive")
        embeddings: list[list[bytes]] = []
        vectors: dict[str, F32] | None = None
        async with in_flight(self._apply_items(ranges, derived, delta)):
            if batch is not None:
                engine.learn_histories(batch)
                vectors = await self._encode(batch.slots)
                embeddings = engine.embeddings(vectors, len(batch.slots))
            watch.lap("encode")
        watch.lap("apply")
        return derived, vectors, embeddings

    async def _apply_items(self, ranges: Sequence[Range], derived: Derived | None, delta: Delta) -> None:
        results = await self.store.apply_items(ranges, _packed(delta), self.index.n_used)
        applied = {result.group for result in results if result.status is ApplyStatus.APPLIED}
        for result in results:
            if result.group not in applied and result.status is not ApplyStatus.SKIPPED:
                await self._apply_cut(ranges, derived, result)
        if len(applied) == delta.item_groups:
            self.mirror.absorb(delta, results)
        else:
            self.mirror.mistrust(delta)

    async def _apply_cut(self, ranges: Sequence[Range], derived: Derived | None, result: GroupResult) -> None:
        """One group has part of the ranges already: cut each range at the group's watermark, and send what is left."""
        group = result.group
        if result.status is ApplyStatus.TOPIC_CHANGED:
            raise Fatal(
                f"item group {group} in Redis follows another topic of the same name: set redis.namespace to a new one, or drop the state"
            )
        if result.status is ApplyStatus.GAP:
            await self._explain_gap(ranges, group)
        for cut in ranges:
            watermark = result.watermarks.get(cut.partition)
            first = max(cut.first, _last(watermark) + 1)
            if first > cut.last:
                continue
            packed = _packed(self._delta_of(derived, cut.partition, first), [group])
            again = (await self.store.apply_items([cut._replace(first=first)], packed, self.index.n_used))[0]
            if again.status not in (ApplyStatus.APPLIED, ApplyStatus.SKIPPED):
                raise Fenced(f"item group {group} moved while partition {cut.partition} was being applied ({again.status})")

    def _delta_of(self, derived: Derived | None, partition: int, first: int) -> Delta:
        """What a partition's interactions from an offset on add to the item groups."""
        config = self.engine.config
        if derived is None:
            return Delta.nothing(config.item_groups)
        return derived.delta(config, (derived.batch.partitions == partition) & (derived.batch.source_offsets >= first))

    async def _confirm_items(self, firsts: Sequence[Range], derived: Derived | None) -> None:
        """Send partitions' first ranges to the item groups once more. Nothing tells a state that was lost before its users were committed
        from one that never was, and then they would be ahead of the groups for good. Raises Fenced where it was lost."""
        statuses = set()
        for cut in firsts:
            again = await self.store.apply_items([cut], _packed(self._delta_of(derived, cut.partition, cut.first)), self.index.n_used)
            statuses |= {result.status for result in again}
        if statuses - {ApplyStatus.SKIPPED}:
            raise Fenced("Redis lost its state between two writes of a batch")

    async def _explain_gap(self, ranges: Sequence[Range], group: int) -> None:
        """Raises: Fenced when the users' watermarks went back too (replay mends it), else Fatal."""
        now = await self.store.watermarks([r.partition for r in ranges])
        for cut in ranges:
            watermark = now[cut.partition]
            if _last(watermark) != cut.base:
                raise Fenced(f"partition {cut.partition}: the state in Redis went back; replaying from its watermark")
        raise Fatal(
            f"item group {group} in Redis lost state that its users still have (a failover of one shard): "
            "run `recsys state rebuild`, which makes the state anew from the log"
        )

    async def _commit_users(
        self, ranges: Sequence[Range], chosen: _Chosen, derived: Derived | None, embeddings: Sequence[Sequence[bytes]], owes: bool
    ) -> None:
        by_partition: dict[int, dict[str, bytes]] = {cut.partition: {} for cut in ranges}
        if chosen.interactions is not None:
            packed = self.engine.users.pack(chosen.interactions.slots.tolist(), embeddings)
            for (user_id, partition, *_), row in zip(chosen.changed, packed, strict=True):
                by_partition[partition][user_id] = row
        commits = [
            UserCommit(
                cut.partition,
                cut.topic_id,
                cut.base,
                cut.last,
                by_partition[cut.partition],
                {chunk: np.array(h, "<u8").tobytes() for chunk, h in chosen.admitted.hashes.get(cut.partition, {}).items()},
                chosen.users.of_partition(cut.partition) if owes else (),
                chosen.newest_s.get(cut.partition, 0),
            )
            for cut in ranges
        ]
        results = await self.store.commit_users(commits)
        firsts = [cut for cut, result in zip(ranges, results, strict=True) if result.committed and cut.base < 0]
        await self._confirm_items(firsts, derived)
        for result in results:
            if not result.committed:
                raise Fenced(f"partition {result.partition}: another worker moved the watermark")
        for cut in ranges:
            self._partitions[cut.partition].last_applied_offset = cut.last

    async def _owe(self, partitions: Iterable[int], chosen: _Chosen) -> None:
        """Note that the lists of replayed users are owed, in partitions where nothing was committed: nobody knows whether they came out."""
        marks = [(partition, self._partitions[partition]) for partition in partitions]
        commits = [
            UserCommit(partition, owned.topic_id, owned.last_applied_offset, owned.last_applied_offset, {}, owed=users)
            for partition, owned in marks
            if (users := chosen.users.of_partition(partition))
        ]
        for result in await self.store.commit_users(commits) if commits else ():
            if not result.committed:
                raise Fenced(f"partition {result.partition}: another worker moved the watermark")

    async def owe_short_lists(self) -> set[int]:
        """Note in Redis that lists are owed again that items which have come since may fill; return their partitions.

        Raises: Transient, Fenced.
        """
        if not self.short_lists:
            self.short_lists.note_listable(0)  # the next short list is made once more: items may have come before this look
            return set()
        now_s = int(self._wall_clock())
        self.short_lists.note_listable(int(np.count_nonzero(self.engine.catalogue.recommendable(max(now_s, self.mirror.newest_s)))))
        taken = self.short_lists.take(self._partitions)
        commits = [
            UserCommit(partition, owned.topic_id, owned.last_applied_offset, owned.last_applied_offset, {}, owed=users)
            for partition, users in taken.items()
            if (owned := self._partitions[partition])
        ]
        for result in await self.store.commit_users(commits) if commits else ():
            if not result.committed:
                raise Fenced(f"partition {result.partition}: another worker moved the watermark")
        return set(taken)

    # -- listing -------------------------------------------------------------------------------------------------------------------------

    async def _rank(
        self, chosen: _Chosen, vectors: dict[str, F32] | None, now_ms: int, watch: _Stopwatch
    ) -> dict[int, list[tuple[bytes, bytes | None]]]:
        if chosen.interactions is not None and len(chosen.changed) == len(chosen.users.heads):
            slots = chosen.interactions.slots
        else:  # some users are listed again after a replay, and were not encoded with the batch
            slots, vectors = np.array([self._slot(key) for key in chosen.users.keys], np.int64), None
        records = await self.list_records(slots, chosen.users.heads, now_ms, vectors=vectors, watch=watch)
        lists: dict[int, list[tuple[bytes, bytes | None]]] = {}
        for head, record in zip(chosen.users.heads, records, strict=True):
            lists.setdefault(head.partition, []).append((head.user_id.encode(), record))
        watch.lap("lists")
        return lists

    async def owed_lists(self, partition: int, at_most: int) -> Owed | None:
        """Lists of some users whose list was put off, made from the state as it is; None when none is owed. Once they are published,
        `store.settle_lists`.

        Raises: Transient, Fenced.
        """
        owned = self._partitions[partition]
        user_ids = await self.store.owed_lists(partition, at_most)
        if not user_ids:
            return None
        keys = [f"{partition}:{user_id}" for user_id in user_ids]
        made = [ListHead.of_state(user_id, partition, owned.last_applied_offset) for user_id in user_ids]
        await self._hold_users(keys, made)
        slots = np.array([self._slot(key) for key in keys], np.int64)
        preferred = await self._preferred(partition, user_ids, slots)
        records = await self.list_records(slots, made, int(self._wall_clock() * 1000), preferred=preferred)
        self.engine.users.shrink(self.settings.stream.user_cache)
        published: list[tuple[bytes, bytes | None]] = [(u.encode(), record) for u, record in zip(user_ids, records, strict=True)]
        return Owed(published, Watermark(owned.topic_id, owned.last_applied_offset))

    async def _preferred(self, partition: int, user_ids: Sequence[str], slots: I64) -> dict[int, Sequence[str]]:
        """Return the categories that users without a history named in their profiles, by row, as their first lists used them."""
        rows = np.flatnonzero(self.engine.users.lengths[slots] == 0).tolist()
        found = await self.store.read_profiles(partition, [user_ids[row] for row in rows]) if rows else []
        preferred: dict[int, Sequence[str]] = {}
        for row, value in zip(rows, found, strict=True):
            with contextlib.suppress(Poison):  # a profile that something else wrote into Redis costs nobody a list
                profile = None if value is None else decode_profile(value, user_ids[row].encode())
                if profile is not None and profile.preferred_categories:
                    preferred[row] = profile.preferred_categories
        return preferred

    async def list_records(
        self,
        slots: I64,
        heads: Sequence[ListHead],
        now_ms: int,
        *,
        vectors: dict[str, F32] | None = None,
        preferred: Mapping[int, Sequence[str]] | None = None,
        watch: _Stopwatch | None = None,
    ) -> list[bytes]:
        """The lists of users held in `slots` as records."""
        watch = watch or _Stopwatch()
        recent, _, units = self.engine.users.newest(slots, self.engine.config.recent_items)
        await self.mirror.refresh(np.unique(recent[units > 0]).astype(np.int64))
        if len(self.index.names) < self.engine.n_items:
            await self.index.catch_up()
        watch.lap("refresh")
        now_s = self.mirror.newest_s or now_ms // 1000  # event time, so that a list can be made again; the clock where no event has come
        valid_s = max(now_s, now_ms // 1000)  # the reader's time: the newest event may be days old, and offers expire all the same
        shared, seeds, ids = self.engine.shared(now_s, valid_s), self._seeds(heads), self._ids.texts()
        encoded = await self._encode(slots) if vectors is None else vectors
        versions = {kind: serving.version for kind, serving in self.engine.models.items()}

        def listed(rows: slice) -> list[bytes]:
            lists = self.engine.recommend(
                slots[rows], {kind: v[rows] for kind, v in encoded.items()}, shared, None if seeds is None else seeds[rows], preferred
            )
            self.short_lists.note(heads[rows], lists)
            return encode_lists(
                heads[rows],
                lists,
                ids,
                generated_ts_ms=now_ms,
                model_versions=versions,
                variant=self.settings.lists.variant,
            )

        parts = [listed(slice(0, len(slots)))] if preferred else await self._side_by_side(listed, len(slots), LISTED_TOGETHER)
        watch.lap("lists")
        return [record for part in parts for record in part]

    async def _encode(self, slots: I64) -> dict[str, F32]:
        """User vectors (U, D) by model kind."""
        parts = await self._side_by_side(lambda rows: self.engine.encode(slots[rows]), len(slots), len(slots))
        return {kind: np.concatenate([part[kind] for part in parts]) for kind in parts[0]} if len(parts) > 1 else parts[0]

    async def _side_by_side(self, step: Callable[[slice], T], n_users: int, at_most: int) -> list[T]:
        """What `step` makes of all users, shared between the threads if there are many, `at_most` at once: it must learn nothing. Most of
        its time needs no interpreter, and meanwhile the event loop goes on."""
        if self._threads is None or n_users < SHARED_FROM:
            return [await _in_turn(step, slice(at, min(at + at_most, n_users))) for at in range(0, max(n_users, 1), max(at_most, 1))]
        loop = asyncio.get_running_loop()
        size = min(at_most, -(-n_users // self.settings.stream.list_threads))
        parts = [slice(start, min(start + size, n_users)) for start in range(0, n_users, size)]
        return await asyncio.gather(*(loop.run_in_executor(self._threads, step, rows) for rows in parts))

    def _seeds(self, heads: Sequence[ListHead]) -> I64 | None:
        """A seed for each list's exploration, from the settings' seed, the user and the offset, so that a list can be made again."""
        if not self.settings.lists.exploration_slots:
            return None
        return np.array([event_hash(head.user_id, f"{self.settings.lists.seed}/{head.source_offset}") >> 1 for head in heads], np.int64)


def _packed(delta: Delta, groups: Iterable[int] | None = None) -> list[GroupDeltas]:
    """What is added to these item groups, or to all, as the store takes it."""
    return [GroupDeltas(group, delta.rows_of(group), *delta.packed(group)) for group in groups or range(delta.item_groups)]


async def _in_turn(step: Callable[[slice], T], rows: slice) -> T:
    """A step, after which others get their turn: an answer that has come should not look late."""
    done = step(rows)
    await asyncio.sleep(0)
    return done


def _last(watermark: Watermark | None) -> int:
    """Last applied offset, −1 where nothing was applied."""
    return -1 if watermark is None else watermark.last_applied_offset


class _Stopwatch:
    """Seconds by step."""

    def __init__(self, seconds: Mapping[str, float] | None = None) -> None:
        self.seconds: dict[str, float] = dict(seconds or {})
        self._at = time.perf_counter()

    def lap(self, step: str) -> None:
        now = time.perf_counter()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self._at
        self._at = now
