"""Checks the state against the log: users, item groups, rows of items, popularity, numbering, catalogue. Changes nothing.

    numbering ▸ users and item rows, each as of a watermark ▸ fold the log up to there, one partition after another ▸ compare

Workers may go on writing: whatever is read comes with the offset up to which it was applied, and the fold stops there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from workers.bootstrap import open_store
from workers.errors import Fatal, Transient
from workers.kafka.offsets import end_offsets_async, start_offsets_async
from workers.kafka.records import Place, RangeReader
from workers.kafka.topics import topic_ids_async, topic_problem
from workers.operations.catalogue_check import Catalogue, applied_offsets, catalogue_differences, read_catalogue
from workers.operations.item_fold import ItemFold
from workers.operations.item_sample import ItemSample, read_items
from workers.operations.merge_check import merge_differences
from workers.operations.reference_fold import HistoryFold, difference, user_digest
from workers.operations.shown_fold import shown_difference
from workers.operations.user_sample import UserSample, read_users
from workers.settings import Settings
from workers.state.layout import layout_of
from workers.state.port import StateStore

READ_AT_ONCE = 5_000
PROGRESS_S = 5.0
NAMES_AT_ONCE = 50_000
LINES_OF_A_KIND = 50
"""Differences of one kind that are shown; the rest is counted."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Verification:
    """`differences` are lines to print, none for a sound state: `n_differences` in all, of which the first of each kind are shown.

    Compared with `n_events` records: `n_users` of `n_users_stored` users, each counted once; `n_item_rows` rows of `n_items` of
    `n_items_numbered` items; `n_popularity_buckets` buckets; `n_catalogue_items` items and `n_merged_ids` ids with what their topics say.
    `partial`: the log no longer starts at offset 0 somewhere, so there users' entries were held to what is left of it, and of rows of items
    only that they can be read.
    """

    generation: int
    n_users: int
    n_users_stored: int
    n_items: int
    n_items_numbered: int
    n_item_rows: int
    n_popularity_buckets: int
    n_catalogue_items: int
    n_merged_ids: int
    n_events: int
    seconds: float
    partial: bool
    n_differences: int
    differences: list[str]


@dataclass(slots=True)
class _Differences:
    """Lines by kind, in the order of the kinds; of each the first are kept."""

    kinds: dict[str, list[str]] = field(default_factory=dict)
    n: int = 0

    def add(self, kind: str, line: str) -> None:
        lines = self.kinds.setdefault(kind, [])
        self.n += 1
        lines.append(line)

    def lines(self) -> list[str]:
        shown: list[str] = []
        for kind, lines in self.kinds.items():
            shown += lines[:LINES_OF_A_KIND]
            if len(lines) > LINES_OF_A_KIND:
                shown.append(f"{len(lines) - LINES_OF_A_KIND:,} more differences of {kind}")
        return shown


async def verify(settings: Settings, *, n_users: int, n_items: int = 200, seed: int = 0, say: Say = lambda line: None) -> Verification:
    """Check the active generation. Raises Fatal when the state cannot be compared with this log at all, Transient."""
    store = open_store(settings)
    try:
        await store.open(layout_of(settings))
        found = await verify_store(settings, store, n_users=n_users, n_items=n_items, seed=seed, say=say)
        if await store.active_generation() != store.generation:
            raise Transient("the state was rebuilt while it was being checked: run `recsys state verify` again")
        return found
    finally:
        await store.close()


async def verify_store(
    settings: Settings,
    store: StateStore,
    *,
    n_users: int,
    n_items: int,
    seed: int,
    filled_from: Catalogue | None = None,
    say: Say = lambda line: None,
) -> Verification:
    """Check the generation that a store is opened on.

    `filled_from` is the catalogue of a generation that nobody else writes: there groups must stand exactly where the users do.
    """
    started_s, differences = time.monotonic(), _Differences()
    idle = filled_from is not None
    check = _Check(settings, store, differences, say)
    await check.open()
    users = await read_users(store, range(settings.topics.partitions), n_users, seed, with_shown=settings.state.shown_items > 0)
    check.compare_topics(users)
    broken = await check.compare_watermarks(users, idle)
    items = await read_items(store, settings, n_items, seed, without_groups=broken) if n_items else None
    names = await check.compare_numbering(items)
    say(f"reading the log for {users.n_chosen:,} of {users.n_stored:,} users" + ("" if items is None else f" and {items.n_chosen:,} items"))
    fold = await check.fold(users, items, names)
    await check.compare_users(users, names, fold)
    await check.compare_event_times(users, fold)
    n_rows, n_buckets = await check.compare_items(items, names, fold)
    topic_items = filled_from or await read_catalogue(settings, await applied_offsets(store, settings.topics.items))
    n_catalogue, wrong = await catalogue_differences(store, topic_items, names)
    for item_id, line in wrong:
        differences.add("the catalogue", f"catalogue, item '{item_id}': {line}")
    n_merged, wrong = await merge_differences(settings, store)
    for user_id, line in wrong:
        differences.add("merged ids", f"merged id {user_digest(user_id)}: {line}")
    return Verification(
        store.generation,
        users.n_chosen,
        users.n_stored,
        0 if items is None else items.n_chosen,
        len(names),
        n_rows,
        n_buckets,
        n_catalogue,
        n_merged,
        fold.n_events,
        time.monotonic() - started_s,
        fold.partial,
        differences.n,
        differences.lines(),
    )


@dataclass(slots=True)
class _Folded:
    """The log, folded: histories by partition, rows and popularity; over how many records."""

    histories: dict[int, HistoryFold] = field(default_factory=dict)
    items: ItemFold | None = None
    starts: dict[int, int] = field(default_factory=dict)
    n_events: int = 0

    @property
    def partial(self) -> bool:
        return any(self.starts[partition] > 0 for partition in self.histories)


class _Check:
    """The steps of a check, in the order of their use."""

    def __init__(self, settings: Settings, store: StateStore, differences: _Differences, say: Say) -> None:
        self._settings, self._store, self._differences, self._say = settings, store, differences, say
        self._topic = settings.topics.events
        self._topic_id = ""

    async def open(self) -> None:
        """Learn which topic the state must follow. Raises Fatal when it is missing."""
        ids = await topic_ids_async(self._settings)
        if self._topic not in ids:
            raise Fatal(await asyncio.to_thread(topic_problem, self._settings, self._topic))
        self._topic_id = ids[self._topic]

    def compare_topics(self, users: UserSample) -> None:
        """Note partitions that lost their watermark. Raises Fatal for one that follows another topic of that name."""
        for partition, watermark in users.watermarks.items():
            if watermark is None:
                if users.n_in(partition):
                    self._differences.add("users", f"partition {partition} has users and no watermark: it lost state")
            elif watermark.topic_id != self._topic_id:
                raise Fatal(
                    f"the state of partition {partition} follows another topic {self._topic}, which was deleted and made again: "
                    "run `recsys state rebuild`"
                )

    async def compare_watermarks(self, users: UserSample, idle: bool) -> set[int]:
        """Compare the watermarks of item groups with those of the users; the groups that lost state.

        Groups are written before the users of a batch, so they are at or beyond the users' watermark that was read before.
        """
        broken = set()
        for group in range(self._settings.state.item_groups):
            held = await self._store.group_watermarks(group)
            for partition, watermark in users.watermarks.items():
                if watermark is None:
                    continue
                theirs = held.get(partition)
                last, wanted = -1 if theirs is None else theirs.last_applied_offset, watermark.last_applied_offset
                if theirs is not None and theirs.topic_id != watermark.topic_id:
                    line = f"item group {group} follows another topic in partition {partition} than the users do"
                elif last < wanted or (idle and last != wanted):
                    where = "has no watermark" if theirs is None else f"is at offset {last}"
                    line = f"item group {group} {where} in partition {partition}, the users are at {wanted}: it lost state"
                else:
                    continue
                broken.add(group)
                self._differences.add("item groups", line)
        return broken

    async def compare_numbering(self, items: ItemSample | None) -> list[str]:
        """Check that every number has one id, whose number it is; the ids by number, read after the rows that use them."""
        n_used = await self._store.numbers_used()
        names = await self._store.item_names()
        for start in range(0, len(names), NAMES_AT_ONCE):
            some = names[start : start + NAMES_AT_ONCE]
            for number, (item_id, found) in enumerate(zip(some, await self._store.known_item_numbers(some), strict=True), start):
                if found != number:
                    line = f"numbering: number {number} is that of item '{item_id}', whose number is {found}"
                    self._differences.add("the numbering", line)
        highest = max(n_used, 0 if items is None else items.highest_number + 1)
        if highest > len(names):
            self._differences.add("the numbering", f"numbering: rows use numbers below {highest}, and {len(names)} items have one")
        return names

    async def fold(self, users: UserSample, items: ItemSample | None, names: Sequence[str]) -> _Folded:
        """Fold each partition of the log up to where its users and the item rows were read."""
        numbers = {item_id: number for number, item_id in enumerate(names)}
        fold = _Folded(items=None if items is None else ItemFold(self._settings, numbers, items.applied(self._topic_id)))
        starts = await start_offsets_async(self._settings, [self._topic])
        log_ends = await end_offsets_async(self._settings, [self._topic])
        fold.starts = {partition: start for (_, partition), start in starts.items()}
        for partition, watermark in users.watermarks.items():
            last = -1 if watermark is None else watermark.last_applied_offset
            there = log_ends.get((self._topic, partition), 0)
            if last >= there:
                line = f"partition {partition}: the state is at offset {last}, and the log ends at {there}: it lost records"
                self._differences.add("the log", line)
            shown_last = users.shown_lasts.get(partition, -1)
            furthest = max(last, shown_last, -1 if items is None else items.furthest(partition))
            end = min(there, furthest + 1)
            if furthest < 0:
                continue
            fold.histories[partition] = HistoryFold(
                self._settings,
                users.of_partition(partition),
                partition,
                last=last,
                stored=users.hashes[partition],
                sink=fold.items,
                shown_last=shown_last,
            )
            if fold.items is not None:
                fold.items.begin(partition, fold.starts[partition])
            if end > fold.starts[partition]:
                await self._fold_partition(partition, end, fold)
        if fold.items is not None:
            fold.items.finish()
        return fold

    async def _fold_partition(self, partition: int, end: int, fold: _Folded) -> None:
        place: Place = (self._topic, partition)
        ends, said_s = {place: end}, time.monotonic()
        async with RangeReader(self._settings, {place: fold.starts[partition]}, max_records=READ_AT_ONCE) as reader:
            async for found in reader.until(ends):
                # what came beyond the end adds to nothing, but tells the newest event time: rows that are past by then may be deleted
                records = found.get(place, [])
                fold.histories[partition].take(records)
                fold.n_events += sum(record.source_offset < end for record in records)
                if time.monotonic() - said_s > PROGRESS_S:
                    said_s = time.monotonic()
                    self._say(f"checked {fold.n_events:,} records, {reader.left(ends):,} of partition {partition} are left")

    async def compare_users(self, users: UserSample, names: Sequence[str], fold: _Folded) -> None:
        """Compare rows of users with the log, and look for users of the log without a row."""
        for partition, folded in fold.histories.items():
            if users.watermarks[partition] is None:
                continue  # said already
            from_start = fold.starts[partition] == 0
            for user_id, packed in users.rows[partition].items():
                line = difference(folded.histories[user_id], packed, names, from_start=from_start)
                if line is not None:
                    self._differences.add("users", f"partition {partition}, user {user_digest(user_id)}: {line}")
            for user_id, packed in users.shown.get(partition, {}).items() if from_start else ():
                if (line := shown_difference(folded.shown[user_id], packed, names)) is not None:
                    self._differences.add("users", f"partition {partition}, user {user_digest(user_id)}: {line}")
            absent = list(folded.without_row)
            for user_id, packed in zip(absent, await self._store.read_users(partition, absent), strict=True):
                if packed is None:  # else it came since
                    self._differences.add("users", f"partition {partition}, user {user_digest(user_id)}: the row is missing")

    async def compare_event_times(self, users: UserSample, fold: _Folded) -> None:
        """Compare how far the state says that event time is with the newest event that counts."""
        if fold.items is None or fold.partial:
            return
        times = await self._store.event_times(list(fold.histories))
        marks = await self._store.watermarks(list(fold.histories))
        newest_s = max((folded.newest_s for folded in fold.histories.values()), default=0)
        is_still = marks == {partition: users.watermarks[partition] for partition in fold.histories}
        for partition, folded in fold.histories.items():
            at_s = times[partition]
            if users.watermarks[partition] is None or at_s is None:
                continue
            if at_s < folded.newest_s or (is_still and at_s > newest_s):
                line = f"partition {partition}: the newest event is of second {at_s} by the state, and of {folded.newest_s} by the log"
                self._differences.add("event time", line)

    async def compare_items(self, items: ItemSample | None, names: Sequence[str], fold: _Folded) -> tuple[int, int]:
        """Compare rows of items and popularity with the log; how many rows and buckets were compared."""
        if items is None or fold.items is None:
            return 0, 0
        for item_id in list(fold.items.unnumbered)[: LINES_OF_A_KIND + 1]:
            self._differences.add("the numbering", f"numbering: item '{item_id}' of the log has no number")
        n_rows = n_buckets = 0
        async for compared in items.compare(self._store, self._settings, fold.items, names):
            n_rows += compared.kind == "c"
            n_buckets += compared.kind == "pop"
            for line in compared.lines:
                self._differences.add("rows of items" if compared.kind == "c" else "popularity", line)
        return n_rows, n_buckets
