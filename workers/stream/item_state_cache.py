"""Keeps the engine's item state in step with Redis.

Rows in Redis only grow, between compactions. So for every row that the engine holds, this remembers up to which byte it is read. An append
of this worker that lands at that byte is added from memory; anything else is read as a tail. One worker alone never reads a row twice.
With several workers, what the others wrote is read after `staleness_s` at the latest (after thirty times that for rows of old epochs).
A worker that owns every partition is alone, so it looks a sixtieth as often."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.engine import Engine
from recsys.state import item_row
from recsys.state.batch_delta import Delta, RowId
from recsys.state.half_lives import ALL_TIME, LIVE_SPANS, WINDOWS_S
from recsys.state.item_row import HEADER_BYTES, RECORD_BYTES
from recsys.state.neighbours import NO_EPOCH
from workers.runtime.counts import CacheLookups
from workers.state.port import Compaction, GroupResult, RowAddress, StateStore, TailKind
from workers.stream.row_positions import MADE_HERE, UNREAD, Held, RowPositions

I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]

COMPACT_RATIO = 3
COMPACT_SLACK_BYTES = 128 * RECORD_BYTES
"""A row is compacted once it is longer than COMPACT_RATIO times its compacted length and this."""
SHORTEST_SPAN_S = min(WINDOWS_S.values())
OLD_EPOCHS_STALENESS = 30
"""Factor by which rows of old epochs (all but the newest two at the last look) are read less often: they grow by late events, and while
partitions of an old log are replayed unevenly."""
ALONE_STALENESS = 60
"""Factor by which a worker that owns all partitions looks less often."""
COMPACT_ROWS = 256
"""Rows compacted at once, so that a batch never waits long for it."""


class ItemStateCache:
    """Holds the engine's neighbours and popularity, and keeps them in step with the state store."""

    def __init__(
        self,
        store: StateStore,
        engine: Engine,
        *,
        live_epochs: int,
        max_neighbours: int,
        staleness_s: float,
        lookups: CacheLookups | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._engine = store, engine
        self._live_epochs, self._max_neighbours, self._staleness_s = live_epochs, max_neighbours, staleness_s
        self._clock, self._lookups = clock, lookups or CacheLookups()
        self._held = RowPositions()
        self._dirty: set[RowAddress] = set()
        self._long: set[RowAddress] = set()
        self._synced_s: NDArray[np.float64] = np.zeros(0)
        self._all_synced_s: NDArray[np.float64] = np.zeros(0)
        self._synced_epoch: I64 = np.zeros(0, np.int64)
        """The newest epoch when a row was looked at last: later appends may be in any epoch from the one before it on."""
        self._popularity_synced_s = float("-inf")
        self._newest_span = -1
        self._alone = False
        self.newest_s = 0

    def clear(self) -> None:
        """Hold nothing: the state in Redis may have changed."""
        self._engine.neighbours.clear()
        self._engine.popularity.clear()
        self._engine.newest_epoch = -1
        self._held.clear()
        self._dirty.clear()
        self._long.clear()
        self._popularity_synced_s = float("-inf")
        self._newest_span = -1

    def look_again(self, *, alone: bool) -> None:
        """Read every row again before its next use: partitions changed hands, so rows may have grown. `alone`: from now on no other worker
        applies events."""
        self._alone = alone
        self._synced_s[:] = self._all_synced_s[:] = self._popularity_synced_s = float("-inf")

    async def advance(self, newest_s: int) -> None:
        """Move event time on to `newest_s`, and hold the spans of popularity that count from then on."""
        self.newest_s = max(self.newest_s, newest_s)
        self._engine.advance_time(self.newest_s)
        span = self.newest_s // SHORTEST_SPAN_S
        if span == self._newest_span:
            return
        counting = self._popularity_rows()
        if wanted := [address for address in counting if address not in self._held]:
            await self._load_popularity(wanted)
        self._dirty.difference_update(self._held.keep_counts(counting))
        self._newest_span = span

    def absorb(self, delta: Delta, results: Sequence[GroupResult]) -> None:
        """Take in what this worker appended; `results` are the store's answers for all groups in order, all applied."""
        lengths = np.frombuffer(b"".join(result.row_lengths for result in results), "<u4").astype(np.int64)
        groups = np.repeat(np.arange(delta.item_groups), np.diff(delta.groups))
        for epoch, grown in delta.by_epoch():
            landed = self._landed(delta, epoch, grown, lengths[grown])
            self._engine.learn_pairs(delta, epoch, grown if landed.all() else grown[landed])
        self._absorb_counts(delta, delta.count_rows(), lengths, groups)

    def _absorb_counts(self, delta: Delta, grown: I64, lengths: I64, groups: I64) -> None:
        """Take in the rows of popularity (r,) of a delta."""
        landed: list[int] = []
        counts = self._counts_at(delta)[delta.span[grown]]
        sizes, after = delta.sizes_of(grown) * RECORD_BYTES, lengths[grown]
        columns = (grown, groups[grown], sizes, after, counts)
        for row, group, size, length, still_counts in zip(*(column.tolist() for column in columns), strict=True):
            if still_counts and self._one_landed((group, delta.rows[row]), size, length):
                landed.append(row)
        self._engine.learn_counts(delta, np.array(landed, np.int64))
        if not counts.all():
            self._note_past(delta, grown[~counts], lengths, groups)

    def _counts_at(self, delta: Delta) -> NDArray[np.bool_]:
        """Return which of a delta's spans still count for popularity, (S,)."""
        holds = self._engine.popularity.holds
        return np.array([kind == "pop" and holds(str(window), span) for kind, window, span in delta.spans], np.bool_)

    def _note_past(self, delta: Delta, grown: I64, lengths: I64, groups: I64) -> None:
        """Note expired rows of popularity that are due to be compacted. They are not held, so their compacted lengths are not known: they
        are due when longer than COMPACT_RATIO times the longest that a compacted row can be."""
        most = -(-self._engine.n_items // delta.item_groups)
        longest = COMPACT_RATIO * (HEADER_BYTES + RECORD_BYTES * most) + COMPACT_SLACK_BYTES
        for row in grown[lengths[grown] > longest].tolist():
            self._long.add((int(groups[row]), delta.rows[row]))

    def invalidate(self, delta: Delta) -> None:
        """Read rows of a delta again before their next use: they may have changed in an unknown way."""
        loaded = self._engine.neighbours.loaded
        for group in range(delta.item_groups):
            for row_id in delta.rows_of(group):
                address = (group, row_id)
                known = address in self._held if row_id[0] == "pop" else row_id[0] == "c" and loaded[row_id[2]]
                if known:
                    self._dirty.add(address)

    async def refresh(self, numbers: I64) -> None:
        """Hold the rows of these items and the popularity counts, none older than the staleness bound."""
        engine, now_s = self._engine, self._clock()
        staleness_s = self._staleness_s * (ALONE_STALENESS if self._alone else 1)
        if len(self._synced_s) < len(engine.neighbours.loaded):
            more = len(engine.neighbours.loaded) - len(self._synced_s)
            self._synced_s, self._all_synced_s = np.pad(self._synced_s, (0, more)), np.pad(self._all_synced_s, (0, more))
            self._synced_epoch = np.pad(self._synced_epoch, (0, more))
        loaded = engine.neighbours.loaded[numbers]
        self._lookups.note(len(numbers), len(numbers) - int(np.count_nonzero(loaded)))
        await self._load(numbers[~loaded].tolist())
        self._synced_s[numbers[~loaded]] = now_s
        self._all_synced_s[numbers[~loaded]] = now_s
        stale = loaded & (self._synced_s[numbers] < now_s - staleness_s)
        addresses: dict[RowAddress, None] = dict.fromkeys(self._dirty_rows(numbers[loaded].tolist()))
        since = np.maximum(np.minimum(self._synced_epoch[numbers], engine.newest_epoch) - 1, 0)
        everything = stale & (self._all_synced_s[numbers] < now_s - OLD_EPOCHS_STALENESS * staleness_s)
        everything |= stale & (engine.newest_epoch - since >= self._live_epochs)
        newest = stale & ~everything
        for number, epoch in zip(numbers[newest].tolist(), since[newest].tolist(), strict=True):
            addresses.update((self._address(("c", at, number)), None) for at in range(epoch, engine.newest_epoch + 1))
        for number, epochs in zip(numbers[everything].tolist(), await self._epochs_of(numbers[everything].tolist()), strict=True):
            addresses.update((self._address(("c", at, number)), None) for at in epochs)
        self._synced_epoch[numbers[stale | ~loaded]] = engine.newest_epoch
        self._synced_s[numbers[stale]] = now_s
        self._all_synced_s[numbers[everything]] = now_s
        if self._popularity_synced_s < now_s - staleness_s or any(row_id[0] == "pop" for _, row_id in self._dirty):
            self._popularity_synced_s = now_s
            addresses.update(dict.fromkeys(self._popularity_rows()))
        await self._read_tails(list(addresses))

    def expire(self, numbers: I64) -> None:
        """Look at these items' rows with the next `refresh` that has them, whenever they were looked at last."""
        known = numbers[numbers < len(self._synced_s)]
        self._synced_s[known] = self._all_synced_s[known] = float("-inf")

    async def compact(self) -> int:
        """Replace long rows by their sums, COMPACT_ROWS at most, and return how many were replaced. Changes no sum."""
        found = await self.read_long()
        return await self.replace(found, self.shortened(found)) if found else 0

    async def read_long(self) -> list[tuple[RowAddress, bytes]]:
        """Return some rows that are due to be compacted, as they are now."""
        chosen = [self._long.pop() for _ in range(min(COMPACT_ROWS, len(self._long)))]
        found = await self._store.read_rows(chosen) if chosen else []
        return [(address, row) for address, row in zip(chosen, found, strict=True) if row is not None]

    def shortened(self, found: Sequence[tuple[RowAddress, bytes]]) -> list[bytes]:
        """Return shorter bodies with the same sums. Touches nothing else, so it may run in another thread."""
        bodies: list[bytes] = [b""] * len(found)
        for is_popularity, cap in ((False, self._max_neighbours), (True, item_row.MOST_NUMBERS)):  # counts of items are sums, never cut
            places = [at for at, (address, _) in enumerate(found) if (address[1][0] == "pop") is is_popularity]
            for at, body in zip(places, item_row.compact_rows([found[at][1] for at in places], cap), strict=True):
                bodies[at] = body
        return bodies

    async def replace(self, found: Sequence[tuple[RowAddress, bytes]], bodies: Sequence[bytes]) -> int:
        """Replace what was read by these bodies and return how many rows were replaced. What was appended since stays, and a row that was
        compacted since is left alone."""
        by_group: dict[int, list[tuple[RowAddress, Compaction]]] = defaultdict(list)
        for (address, row), body in zip(found, bodies, strict=True):
            generation, _ = item_row.parse_header(row)
            held = self._held.get(address)
            if held is not None and held.generation == UNREAD:
                self._held.put(address, held._replace(generation=generation))
            by_group[address[0]].append((address, Compaction(address[1], generation, len(row), body)))
        answers = await asyncio.gather(*(self._store.compact_rows(group, [plan for _, plan in plans]) for group, plans in by_group.items()))
        done = 0
        for plans, lengths in zip(by_group.values(), answers, strict=True):
            for (address, plan), length in zip(plans, lengths, strict=True):
                done += length > 0
                self._compacted(address, plan, length)
        return done

    async def _epochs_of(self, numbers: list[int]) -> list[list[int]]:
        """Return the epochs that count of each item, ascending: the newest in which it has a row."""
        return [epochs[-self._live_epochs :] for epochs in await self._store.item_epochs(numbers)] if numbers else []

    def _dirty_rows(self, numbers: Iterable[int], *, popularity: bool = True) -> list[RowAddress]:
        if not self._dirty:
            return []
        wanted = set(numbers)
        return [address for address in self._dirty if (popularity if address[1][0] == "pop" else address[1][2] in wanted)]

    def _popularity_rows(self) -> list[RowAddress]:
        groups = range(self._engine.config.item_groups)
        row_ids: list[RowId] = [("pop", ALL_TIME, 0)]
        for window, span_s in WINDOWS_S.items():
            newest = self.newest_s // span_s
            row_ids += [("pop", window, span) for span in range(max(0, newest - LIVE_SPANS + 1), newest + 1)]
        return [(group, row_id) for row_id in row_ids for group in groups]

    def _landed(self, delta: Delta, epoch: int, grown: I64, lengths: I64) -> NDArray[np.bool_]:
        """Return which rows of an epoch (r,) the engine holds up to where the append begins; `lengths` are those after it. Other held rows
        are read before their next use."""
        numbers, is_sure = delta.numbers[grown], np.ones(len(grown), np.bool_)
        if self._dirty:
            is_sure = np.array([self._address(delta.rows[row]) not in self._dirty for row in grown.tolist()])
        may_hold = self._engine.neighbours.loaded[numbers]
        sizes = delta.sizes_of(grown) * RECORD_BYTES
        held, landed, base = self._held.grown(epoch, numbers, sizes, lengths, may_hold, is_sure)
        self._dirty.update(self._address(delta.rows[row]) for row in grown[held & ~landed].tolist())
        self._reload_crowded(numbers)
        longest = np.where(held, COMPACT_RATIO * base, base) + COMPACT_SLACK_BYTES
        self._long.update(self._address(delta.rows[row]) for row in grown[lengths > longest].tolist())
        return landed

    def _one_landed(self, address: RowAddress, size: int, length: int) -> bool:
        """Take in that `size` bytes were appended to a row, which has `length` bytes now; return whether it was held up to there."""
        held = self._held.get(address) or MADE_HERE
        landed = held.length + size == length and address not in self._dirty
        if not landed:
            self._dirty.add(address)
        self._held.put(address, Held(held.generation, length, held.base) if landed else held)
        if length > COMPACT_RATIO * held.base + COMPACT_SLACK_BYTES:
            self._long.add(address)
        return landed

    def _address(self, row_id: RowId) -> RowAddress:
        """Return the address of a row of co-occurrence."""
        return row_id[2] % self._engine.config.item_groups, row_id

    def _reload_crowded(self, numbers: I64) -> None:
        """Load items again before their next use whose oldest row no longer counts, because a newer epoch came."""
        if self._held.has_more_epochs_than(self._live_epochs):
            self._engine.neighbours.loaded[numbers[self._held.n_epochs(numbers) > self._live_epochs]] = False

    async def _load(self, numbers: list[int]) -> None:
        if not numbers:
            return
        found, engine = await self._read_items(numbers), self._engine
        self._held.drop_items(np.array(numbers, np.int64))
        if self._dirty:
            self._dirty.difference_update(self._dirty_rows(numbers, popularity=False))
        for number, rows in zip(numbers, found, strict=True):
            newest = max(rows, default=NO_EPOCH)
            parts = []
            for epoch, row in rows.items():
                neighbours, values = self._parsed(self._address(("c", epoch, number)), row)
                parts.append((neighbours, values * np.float32(0.5 ** (newest - epoch))))
            engine.neighbours.set_row(number, *_summed(parts), newest)

    async def _read_items(self, numbers: list[int]) -> list[dict[int, bytes]]:
        """Return the rows of each item by epoch, of the epochs that count. Those of the newest two are read at once, others when it is
        known which there are."""
        newest = self._engine.newest_epoch
        likely = [(i, epoch) for i in range(len(numbers)) for epoch in range(max(newest - 1, 0), newest + 1)]
        found: list[dict[int, bytes]] = [{} for _ in numbers]

        async def read(places: list[tuple[int, int]]) -> None:
            addresses = [self._address(("c", epoch, numbers[i])) for i, epoch in places]
            for (i, epoch), row in zip(places, await self._store.read_rows(addresses) if addresses else [], strict=True):
                if row is not None:
                    found[i][epoch] = row

        epochs_of, _ = await asyncio.gather(self._epochs_of(numbers), read(likely))
        await read([(i, epoch) for i, epochs in enumerate(epochs_of) for epoch in epochs if epoch not in found[i]])
        return [{epoch: rows[epoch] for epoch in sorted(rows)[-self._live_epochs :]} for rows in found]

    async def _load_popularity(self, addresses: list[RowAddress]) -> None:
        for address, row in zip(addresses, await self._store.read_rows(addresses), strict=True):
            self._put_popularity(address, row)

    def _put_popularity(self, address: RowAddress, row: bytes | None) -> None:
        _, (_, window, span) = address
        if row is None:
            self._held.put(address, MADE_HERE)
        elif self._engine.popularity.holds(str(window), span):
            items, units = item_row.sum_records(*self._records(address, row))
            self._make_room(items)
            self._engine.popularity.put(str(window), span, items, units)

    def _records(self, address: RowAddress, row: bytes) -> tuple[U32, U32]:
        """Hold a row up to its end; return its neighbours and weights, unsummed."""
        parsed = item_row.parse_row(row)
        self._held.put(address, Held(parsed.generation, len(row), HEADER_BYTES + parsed.base_length))
        return parsed.neighbours, parsed.weights

    def _parsed(self, address: RowAddress, row: bytes) -> tuple[U32, NDArray[np.float32]]:
        neighbours, values = item_row.neighbour_values(*self._records(address, row))
        self._make_room(neighbours)
        return neighbours, values

    def _make_room(self, neighbours: U32) -> None:
        if len(neighbours):  # another worker may have numbered items that this one has not met
            self._engine.ensure_items(int(neighbours.max()) + 1)

    async def _read_tails(self, addresses: list[RowAddress]) -> None:
        if not addresses:
            return
        engine = self._engine
        known = [self._held.get(address) or MADE_HERE for address in addresses]
        asked = [(address, max(held.generation, 0), held.length) for address, held in zip(addresses, known, strict=True)]
        for address, held, tail in zip(addresses, known, await self._store.read_row_tails(asked), strict=True):
            self._dirty.discard(address)
            kind, _, number = address[1]
            if tail.kind is TailKind.MISSING or (tail.kind is TailKind.TAIL and not tail.content):
                continue
            if tail.kind is TailKind.FULL and kind == "pop":
                self._put_popularity(address, tail.content)
            elif tail.kind is TailKind.FULL and held.length > HEADER_BYTES:
                engine.neighbours.loaded[number] = False  # its older part cannot be separated any more: load it whole when next needed
            else:
                content = tail.content[HEADER_BYTES:] if tail.kind is TailKind.FULL else tail.content
                self._add_tail(address, held, tail.kind, tail.content, content)
        read = np.unique(np.array([number for _, (kind, _, number) in addresses if kind == "c"], np.int64))
        self._reload_crowded(read)
        await self._load(read[~engine.neighbours.loaded[read]].tolist())

    def _add_tail(self, address: RowAddress, held: Held, tail_kind: TailKind, raw: bytes, body: bytes) -> None:
        engine, (kind, where, number) = self._engine, address[1]
        neighbours, units = item_row.sum_records(*item_row.records(body))
        self._make_room(neighbours)
        if kind == "pop":
            engine.popularity.add(str(where), number, neighbours, units)
        else:
            engine.neighbours.add_row(number, neighbours, units.astype(np.float32) / np.float32(item_row.WEIGHT_ONE), int(where))
        if tail_kind is TailKind.FULL:
            parsed = item_row.parse_row(raw)
            self._held.put(address, Held(parsed.generation, len(raw), HEADER_BYTES + parsed.base_length))
        else:
            self._held.put(address, Held(held.generation, held.length + len(raw), held.base))

    def _compacted(self, address: RowAddress, plan: Compaction, length: int) -> None:
        held = self._held.get(address)
        if length == 0 or held is None:
            return
        base = HEADER_BYTES + len(plan.new_body)
        if held.generation == plan.generation and held.length >= plan.bytes_read:
            self._held.put(address, Held(plan.generation + 1, base + held.length - plan.bytes_read, base))
        else:
            self._held.put(address, held._replace(base=base))
            self._dirty.add(address)


def _summed(parts: list[tuple[NDArray[np.uint32], NDArray[np.float32]]]) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """Return the distinct neighbours of several rows and the sums of their values."""
    if not parts:
        return np.zeros(0, np.uint32), np.zeros(0, np.float32)
    if len(parts) == 1:
        return parts[0]
    distinct, place = np.unique(np.concatenate([part[0] for part in parts]), return_inverse=True)
    return distinct, np.bincount(place, np.concatenate([part[1] for part in parts]), len(distinct)).astype(np.float32)
