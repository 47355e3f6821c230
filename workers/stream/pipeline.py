"""One micro-batch from records to state and lists. Knows Redis through the state store, and nothing of Kafka.

    decode ▸ number ▸ read users ▸ derive ▸ apply to item groups ▸ commit users ▸ list

Every step before the last two may be repeated without harm; the two writes check the watermarks. After any error the caller calls `assign`
again, which drops what is cached, and goes on from the offsets that it returns.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recsys.state.duplicates import DuplicateWindow
from recsys.state.event_weights import WeightTable
from workers.errors import Fatal, Fenced, Transient
from workers.kafka.records import Record
from workers.kafka.tracing import Tracing
from workers.lists.encoding import ListHead
from workers.settings import Settings
from workers.state.event_weights import weight_table
from workers.state.port import Range, StateStore, Watermark
from workers.state.sending import in_flight
from workers.stream.list_maker import ListMaker
from workers.stream.merges import NO_MERGES, Merges, MergesOfBatch
from workers.stream.micro_batch import DecodedBatch, OwnedPartition, admit
from workers.stream.outcome import Deferred, Outcome, Records
from workers.stream.related_counts import related_counter
from workers.stream.serving_state import ServingState, last_applied
from workers.stream.shown_batch import Shown, ShownBatch
from workers.stream.state_writer import Chosen, StateWriter
from workers.stream.stopwatch import Stopwatch

I64 = NDArray[np.int64]
F32 = NDArray[np.float32]


class Pipeline:
    """Applies micro-batches of the partitions that this worker owns, and makes their lists. The caller holds a turn of `state`."""

    def __init__(self, settings: Settings, store: StateStore, *, ranks: bool = True, wall_clock: Callable[[], float] = time.time) -> None:
        """Without `ranks` no lists are made."""
        self.settings, self.ranks = settings, ranks
        self.state = ServingState(settings, store, wall_clock=wall_clock)
        self.lists, self.merges = ListMaker(self.state), Merges(self.state)
        self._owned: dict[int, OwnedPartition] = {}
        self._related = related_counter(self.state)
        self._writer = StateWriter(self.state, self._owned, self._related)
        self._weights: WeightTable = weight_table(settings)
        self._wall_clock = wall_clock
        self.tracing: Tracing | None = None

    async def open(self) -> None:
        """Prepare the store. Raises Fatal when the state was laid out with other settings."""
        await self.state.open()

    async def assign(self, partitions: Iterable[int], topic_id: str) -> dict[int, int]:
        """Own these partitions from now on, with nothing cached; return the next offset that changes the state of each.

        Raises: Fatal when the state belongs to another topic of the same name.
        """
        wanted, store = list(partitions), self.state.store
        await self.state.reopen({partition: owned.last_applied_offset for partition, owned in self._owned.items()})
        self.release(wanted)
        for partition, watermark in (await store.watermarks(wanted)).items():
            if watermark is not None and watermark.topic_id != topic_id:
                raise Fatal(
                    f"the state in Redis follows another topic named {self.settings.topics.events}: it was deleted and made again; "
                    "set redis.namespace to a new one, or drop the state"
                )
            last = last_applied(watermark)
            window = DuplicateWindow(self.settings.state.duplicate_chunk)
            chunk = window.chunk(max(last, 0))
            chunks = [c for c in (chunk - 1, chunk) if c >= 0]
            window.load(dict(zip(chunks, await store.read_duplicates(partition, chunks), strict=True)))
            self._owned[partition] = OwnedPartition(topic_id, last, window)
        try:
            await self._writer.check_watermarks(wanted)  # what was read of the duplicates must be of the watermark's state
        except Fenced as error:
            self.release(wanted)
            raise Transient(f"{error} while it was being taken over") from None
        self._note_ownership_changed()
        await self.merges.follow(self._owned)
        return {partition: self._owned[partition].last_applied_offset + 1 for partition in wanted}

    def release(self, partitions: Iterable[int]) -> None:
        """Own these partitions no longer."""
        prefixes = tuple(f"{partition}:" for partition in partitions if self._owned.pop(partition, None) is not None)
        if prefixes:
            users = self.state.engine.users
            users.forget([key for key in users if key.startswith(prefixes)])
            if self._related is not None:
                self._related.forget(prefixes)
            self._note_ownership_changed()

    def last_applied(self, partition: int) -> int | None:
        """Return the last applied offset of a partition, −1 where nothing was applied; None of one that is not owned."""
        owned = self._owned.get(partition)
        return None if owned is None else owned.last_applied_offset

    def _note_ownership_changed(self) -> None:
        self.state.item_cache.look_again(alone=len(self._owned) == self.settings.topics.partitions)

    def decode(self, batch: Mapping[int, Sequence[Record]]) -> DecodedBatch:
        """Validate records. Changes nothing and needs no store, so it may be done while another batch is being applied."""
        return DecodedBatch.of(batch, self.settings)

    async def process(self, batch: Mapping[int, Sequence[Record]] | DecodedBatch, *, defer_lists: bool = False) -> Outcome:
        """Apply one micro-batch and make the lists of the users it touched.

        With `defer_lists` no list is made; the same atomic step that commits the users notes them for `deferred_lists`.
        Raises: Transient (try again after `assign`), Fenced (another worker owns a partition), Fatal.
        """
        given = batch if isinstance(batch, DecodedBatch) else self.decode(batch)
        trace = None if self.tracing is None else self.tracing.of_batch(given.batch, given.seconds)
        outcome = Outcome.joined([await self._process(part, defer_lists) for part in given.parts(self.settings)])
        if trace is not None:
            trace.staged(outcome.seconds, outcome.n_records)
        return outcome if trace is None else replace(outcome, trace=trace)

    async def _process(self, given: DecodedBatch, defer_lists: bool) -> Outcome:
        """Apply a batch, or a part of one, after which the users that it erases have nothing left."""
        watch = Stopwatch({"decode": given.seconds})
        now_ms = int(self._wall_clock() * 1000)
        dead_letters = given.dead_letters(self.settings, now_ms)
        chosen = await self._choose(given)
        watch.lap("read")
        next_offsets = {p: records[-1].source_offset + 1 for p, records in given.batch.items() if records}
        ranges = self._writer.ranges(next_offsets)
        lists: dict[int, Records] = {}
        merges = await self.merges.look(chosen.users.heads) if self.ranks and not defer_lists else NO_MERGES
        notes_deferred = defer_lists and self.ranks and self.settings.stream.publish_lists
        vectors: dict[str, F32] | None = None
        owing: frozenset[int] = frozenset()
        committing: AbstractAsyncContextManager[None] = contextlib.nullcontext()
        if chosen.newest_s:
            await self.state.item_cache.advance(max(chosen.newest_s.values()))
        if ranges:
            committing, vectors, owing = await self._apply(ranges, chosen, merges, watch, notes_deferred)
        async with committing:  # lists are made while the store commits; none is published before it has acknowledged
            watch.lap("commit")
            if chosen.users.heads and self.ranks and not defer_lists:
                if chosen.interactions is not None:
                    self.lists.quality.look(chosen.changed, chosen.interactions, self.state.resets)
                lists = await self._list(chosen, merges, vectors, now_ms, watch)
        self._forget_erased(chosen, lists)
        await self.merges.pass_on(merges)
        watch.lap("commit")
        if notes_deferred:
            # of replayed users, in partitions where nothing was committed: their lists may or may not be published
            replayed = given.batch.keys() - {cut.partition for cut in ranges}
            await self._writer.note_deferred({p: chosen.waiting(p) for p in given.batch if p in replayed})
        self.state.engine.users.shrink(self.settings.stream.user_cache)
        if self._related is not None:
            self._related.shrink()
        n_new = 0 if chosen.interactions is None else len(chosen.interactions)
        n_records, n_duplicates = len(given.records.keys), chosen.admitted.n_duplicates
        counts = n_records, n_new, n_duplicates, watch.seconds, given.events.trimmed, owing
        return Outcome(lists, dead_letters, next_offsets, *counts, given.times_ms(chosen.users.last) if lists else {})

    def _forget_erased(self, chosen: Chosen, lists: dict[int, Records]) -> None:
        """Hold nothing of users whom a batch has erased, and remove the lists that were published for them."""
        heads = [ListHead.of_state(user_id, partition, at) for partition, users in chosen.erased.items() for user_id, at in users.items()]
        if not heads:
            return
        keys = [f"{head.partition}:{head.user_id}" for head in heads]
        self.state.engine.users.forget(keys)
        if self._related is not None:
            self._related.forget_users(keys)
        self.lists.forget(heads)
        for head in heads if self.ranks else ():
            lists.setdefault(head.partition, []).append((head.user_id.encode(), None))

    async def _apply(
        self, ranges: Sequence[Range], chosen: Chosen, merges: MergesOfBatch, watch: Stopwatch, notes_deferred: bool
    ) -> tuple[AbstractAsyncContextManager[None], dict[str, F32] | None, frozenset[int]]:
        """Apply ranges to the item groups while the batch's users are encoded.

        Return the commit of the users, to be sent next; the vectors of the users by model kind, None when no user changed; and the
        partitions with users whose list is deferred because of what was shown to them.
        """
        engine, interactions = self.state.engine, chosen.interactions
        derived, delta = self._writer.derive(chosen)
        watch.lap("derive")
        shown_events = None if chosen.shown is None else chosen.shown.events(self.state.numbering, self._slot)
        embeddings: list[list[bytes]] = []
        vectors: dict[str, F32] | None = None
        shown: Shown | None = None
        async with in_flight(self._writer.apply_items(ranges, derived, delta)):
            if chosen.shown is not None and shown_events is not None:
                shown = Shown.learnt(chosen.shown, engine, shown_events, chosen.users)
            if interactions is not None and derived is not None:
                engine.learn_histories(derived)
                vectors = await self.lists.encode(await self.merges.joined(merges, interactions.slots, chosen.changed))
                embeddings = engine.embeddings(vectors, len(interactions.slots))
            watch.lap("encode")
        watch.lap("apply")
        owed: dict[int, Sequence[str]] = {}
        if notes_deferred:
            owed = {cut.partition: chosen.waiting(cut.partition) for cut in ranges}
        more = shown.owed if shown is not None and self.ranks and self.settings.stream.publish_lists else {}
        for partition, user_ids in more.items():
            owed[partition] = [*owed.get(partition, ()), *user_ids]
        return in_flight(self._writer.commit_users(ranges, chosen, derived, embeddings, owed, shown)), vectors, frozenset(more)

    async def _choose(self, given: DecodedBatch) -> Chosen:
        """Choose the events that count, with numbers for their items and rows for their users."""
        admitted = admit(given, self._owned, self._weights, with_shown=self.state.engine.users.shown is not None)
        users, shown = admitted.users(), ShownBatch.of(admitted) if len(admitted.shown) else None
        await self.state.number_items(admitted.new_item_ids if shown is None else shown.item_ids)
        await self._hold_users(users.keys, users.heads)
        if shown is not None:
            await self._hold_users(shown.users.keys, shown.users.heads)
        if not admitted.is_new.any():
            return Chosen(admitted, users, None, [], admitted.newest_s, shown, given.erased)
        interactions, changed = admitted.by_user(users, self.state.numbering.numbers, self._slot)
        if self._related is not None and await self._related.hold(interactions, changed):
            await self._writer.check_watermarks({head.partition for head in changed})  # as of rows of users
        return Chosen(admitted, users, interactions, changed, admitted.newest_s, shown, given.erased)

    def _slot(self, key: str) -> int:
        slot = self.state.engine.users.slot(key)
        assert slot is not None, "rows of touched users were read before"
        return slot

    async def _hold_users(self, keys: Sequence[str], heads: Sequence[ListHead]) -> None:
        """Read the rows of users that the engine does not hold."""
        engine = self.state.engine
        missing: dict[int, list[str]] = {}
        for key, head in zip(keys, heads, strict=True):
            if key not in engine.users:
                missing.setdefault(head.partition, []).append(head.user_id)
        self.state.lookups["users"].note(len(keys), sum(map(len, missing.values())))
        if not missing:
            return
        found = await self.state.store.read_users_of(missing)
        shown = None if engine.users.shown is None else await self.state.store.read_shown_of(missing)
        # Only now: rows and watermark move together and only forward, so if it still stands where we left it, the rows are of that state.
        await self._writer.check_watermarks(missing)
        rows = {f"{p}:{u}": row for p, rows in found.items() for u, row in zip(missing[p], rows, strict=True)}
        engine.users.load(rows, None if shown is None else [row for p in found for row in shown[p]])
        slots = [slot for p, users in missing.items() for u in users if (slot := engine.users.slot(f"{p}:{u}")) is not None]
        if engine.users.highest_item(slots) >= engine.n_items:  # items that another worker numbered
            await self.state.learn_new_items()

    async def _list(
        self, chosen: Chosen, merges: MergesOfBatch, vectors: dict[str, F32] | None, now_ms: int, watch: Stopwatch
    ) -> dict[int, Records]:
        heads = chosen.users.heads
        lists: dict[int, Records] = {}
        if chosen.interactions is not None and len(chosen.changed) == len(heads):
            slots = chosen.interactions.slots
        else:  # some users are listed again after a replay, and were not encoded with the batch
            slots, vectors = np.array([self._slot(key) for key in chosen.users.keys], np.int64), None
        if merges or chosen.erased:
            slots, listed = await self.merges.joined(merges, slots, heads), merges.listed(heads)
            for at in sorted(set(range(len(heads))) - set(listed)):  # once more: Redis may have lost who waited for it
                lists.setdefault(heads[at].partition, []).append((heads[at].user_id.encode(), None))
            listed = [at for at in listed if not chosen.erases(heads[at])]
            slots, heads = slots[listed], [heads[at] for at in listed]
            vectors = None if vectors is None else {kind: of_kind[listed] for kind, of_kind in vectors.items()}
        if not heads:
            return lists
        records = await self.lists.records(slots, heads, now_ms, vectors=vectors, watch=watch)
        for head, record in zip(heads, records, strict=True):
            lists.setdefault(head.partition, []).append((head.user_id.encode(), record))
        watch.lap("lists")
        return lists

    async def deferred_lists(self, partition: int, at_most: int) -> Deferred | None:
        """Return lists of some users whose list was deferred, made from the state as it is; None when no user waits for one.

        Call `settle_deferred` once they are published. Raises: Transient, Fenced.
        """
        owned = self._owned[partition]
        user_ids = await self.state.store.owed_lists(partition, at_most)
        if not user_ids:
            return None
        asked = await self.state.store.lists_asked(partition, user_ids)  # first: what is asked for from now on stays
        keys = [f"{partition}:{user_id}" for user_id in user_ids]
        heads = [ListHead.of_state(user_id, partition, owned.last_applied_offset) for user_id in user_ids]
        await self._hold_users(keys, heads)
        merges = await self.merges.look(heads, everywhere=True)
        await self.merges.pass_on_once(partition, merges)
        listed = merges.listed(heads)
        slots = np.array([self._slot(key) for key in keys], np.int64)
        if (profiles := self.state.engine.users.profiles) is not None:
            profiles.note_read(slots, -np.inf)  # a change of the profile may be why the list is made
        slots = await self.merges.joined(merges, slots, heads)
        made: Records = [(user_id.encode(), None) for user_id in user_ids]
        self.lists.forget([heads[at] for at in sorted(set(range(len(heads))) - set(listed))])
        if listed:
            heads, slots = [heads[at] for at in listed], slots[listed]
            preferred = await self.lists.stored_preferences(partition, [head.user_id for head in heads], slots)
            records = await self.lists.records(slots, heads, int(self._wall_clock() * 1000), preferred=preferred)
            for at, record in zip(listed, records, strict=True):
                made[at] = made[at][0], record
        self.state.engine.users.shrink(self.settings.stream.user_cache)
        return Deferred(made, Watermark(owned.topic_id, owned.last_applied_offset), asked)

    async def settle_deferred(self, partition: int, deferred: Deferred) -> None:
        """Note that deferred lists are published: their users wait no longer, unless events have come since the lists were made, or others
        have asked for a list of theirs."""
        await self.state.store.settle_lists(partition, deferred.made_from, deferred.user_ids, deferred.asked)

    async def defer(self, user_ids: Mapping[int, Sequence[str]]) -> None:
        """Note for `deferred_lists` that these users of owned partitions wait for a list. Raises Transient, Fenced."""
        await self._writer.note_deferred(user_ids)

    async def defer_short_lists(self) -> set[int]:
        """Note for `deferred_lists` whose list is short and may be longer with items that have come since; return the owned partitions
        in which users wait for a list, for whatever reason.

        Raises: Transient, Fenced.
        """
        short, state = self.lists.short_lists, self.state
        if not short:
            short.note_listable(0)  # the next short list is made once more: items may have come before this look
            return await self._with_waiting_users()
        now_s = max(int(self._wall_clock()), state.item_cache.newest_s)
        short.note_listable(int(np.count_nonzero(state.engine.catalogue.recommendable(now_s))))
        taken = short.take(self._owned)
        await self._writer.note_deferred(taken)
        return await self._with_waiting_users()

    async def _with_waiting_users(self) -> set[int]:
        """Return the owned partitions in which users wait for a list: other workers and the users topic may have noted some."""
        return {partition for partition, work in (await self.merges.follow(self._owned)).items() if work.n_waiting}
