"""Measure the Redis memory of users and items, that it stays within its caps, and how fast users are read back.

Examples:
    python -m benchmarks.state
    python -m benchmarks.state --users 10000 100000 1000000 --json

Sizes are differences of Valkey's `used_memory` without the buffers of connections, so they include keys, headers, the hash table and the
allocator's rounding.

* users: everyone has a full history (100) and one embedding of 64, committed by the state store, 4,000 users at a time. Events come in
  sessions: a seventh of the gaps are days (exponential, mean one), the others minutes (mean three). Items are any of 100,000, weights any
  of three. `steady` is the same with even gaps (exponential, mean one day).
* items: `Pipeline` over a Zipf stream of ten events per item, with users in proportion. Then user rows and event ids are deleted; numbers,
  catalogue, neighbours and popularity remain. Neighbours grow with events up to `state.max_neighbours`, so the table shows neighbours per
  item as well.
* growth: the same 400 users and 500 items again and again with low caps (history 100, older items 50, neighbours 64), measured after every
  65,000 events, all within an hour of event time, because popularity has a row per hour. `growth_ratio` is the last measurement over the
  second, when every cap had been reached: in total, of users' rows, of items' neighbours. `growth_by_kind` is the memory by kind of key.
* aging: the same, but 15,000 events span twenty days of event time, an epoch is three days, an item keeps its newest six, and expired rows
  are deleted after each measurement. `aging_ratio` is the last of eight measurements over the fourth, eighty days after the first event;
  `aging_ratio_kept` is the same without deletion.
* load: the store reads all users into a table, 4,000 at a time.
* naive: the same users in the layout of `benchmarks.naive_faust`: a list for the history and a set of event ids, no embedding; event ids as
  `EventPublisher` makes them.

For context, not measured here: Metarank names 0.8 GiB of Redis for a million users with four clicks each (its doc/performance.md).
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import redis
from numpy.typing import NDArray

from benchmarks.datasets import Stream, zipf_stream
from benchmarks.figures import benchmark_parser, emit, resident_bytes, run_benchmark
from recsys.state.user_table import UserTable, pack_embeddings
from schemas.events import EventType
from tests.histories import arrays_of
from workers.bootstrap import open_store
from workers.kafka.partitioner import partition_for
from workers.kafka.records import Record
from workers.local.embedded import EmbeddedStack
from workers.settings import Settings
from workers.state.layout import layout_of
from workers.state.port import ItemRecord, StateStore, UserCommit
from workers.stream.pipeline import Pipeline
from workers.stream.row_expiry import RowExpiry

HISTORY, DIMENSION, N_ITEMS, EXPONENT = 100, 64, 100_000, 1.05
BATCH = 4_000
EVENTS_AN_ITEM, MOST_ITEMS = 10, 50_000
WEIGHTS = np.array([16, 32, 48], np.int8)
"""View, play and purchase, in units of 1/32."""
TYPES = np.zeros(128, np.uint8)
TYPES[WEIGHTS] = [EventType.VIEW.code, EventType.PLAY.code, EventType.PURCHASE.code]
DAY_S, SITTING_S, PAUSES = 86_400.0, 180.0, 1 / 7
GROWTH = {"users": 400, "items": 500, "events": 65_000, "looks": 3}
GROWTH_EVENTS_PER_S = 100
GROWTH_STATE: dict[str, float] = {"history_length": 100, "seen_length": 50, "max_neighbours": 64, "duplicate_chunk": 1_024}
AGING = {"users": 400, "items": 500, "events": 15_000, "looks": 8}
AGING_STATE = {**GROWTH_STATE, "half_life_days": 3.0, "live_epochs": 6}
AGING_DAYS_PER_LOOK = 20
SETTLE_S, SETTLED_S = 0.05, 0.3
TOPIC_ID = "benchmark"


class Memory:
    """Reads `used_memory` of the stack's Valkey once it is stable: a grown hash table is rehashed step by step."""

    def __init__(self, stack: EmbeddedStack) -> None:
        self.client = redis.from_url(stack.redis_url)

    def used(self) -> int:
        """Return used bytes without the buffers of clients."""
        last, since = -1, time.monotonic()
        while time.monotonic() - since < SETTLED_S:
            info = self.client.info("memory")
            now = int(info["used_memory"]) - int(info["mem_clients_normal"])
            if now != last:
                last, since = now, time.monotonic()
            time.sleep(SETTLE_S)
        return last

    def by_kind(self, pattern: str) -> dict[str, int]:
        """Return bytes by kind of key (`u` users, `c` neighbours, `pop` popularity, `dup` event ids, …), from MEMORY USAGE."""
        keys = list(self.client.scan_iter(pattern, count=10_000))
        asking = self.client.pipeline(transaction=False)
        for key in keys:
            asking.memory_usage(key, samples=0)
        found: dict[str, int] = {}
        for key, size in zip(keys, asking.execute(), strict=True):
            kind = key.decode().split("}:", 1)[1].split(":", 1)[0]
            found[kind] = found.get(kind, 0) + size
        return dict(sorted(found.items()))

    def delete(self, pattern: str) -> None:
        """Delete all keys that match."""
        keys = list(self.client.scan_iter(pattern, count=10_000))
        for at in range(0, len(keys), 10_000):
            self.client.delete(*keys[at : at + 10_000])


@dataclass(frozen=True, slots=True)
class Users:
    """Full histories of U users: items, weights and times in seconds (U, 100), embeddings (U, 64)."""

    names: list[str]
    items: NDArray[np.uint32]
    times_s: NDArray[np.uint32]
    weights: NDArray[np.int8]
    vectors: NDArray[np.float32]


def users_of(first: int, n_users: int, *, steady: bool = False) -> Users:
    """Generate users by number. The same arguments give the same users."""
    random = np.random.default_rng([first, n_users, steady])
    shape = (n_users, HISTORY)
    gaps_s = random.exponential(DAY_S, shape)
    if not steady:
        gaps_s = np.where(random.random(shape) < PAUSES, gaps_s, random.exponential(SITTING_S, shape))
    return Users(
        [f"u{number}" for number in range(first, first + n_users)],
        random.integers(0, N_ITEMS, shape).astype(np.uint32),
        (1_600_000_000 + np.cumsum(gaps_s, axis=1)).astype(np.uint32),
        random.choice(WEIGHTS, shape),
        random.normal(size=(n_users, DIMENSION)).astype(np.float32),
    )


def rows_of(users: Users) -> dict[str, bytes]:
    """Pack users' rows as a worker does."""
    table = UserTable(HISTORY, 0, capacity=len(users.names))
    table.load(dict.fromkeys(users.names))
    slots = np.array([table.slot(name) for name in users.names])
    types, ones = TYPES[users.weights], np.ones_like(users.items)
    columns = (users.items, users.times_s, users.times_s, users.weights, types, ones, ones)
    for held, column in zip(arrays_of(table.histories.columns), columns, strict=True):
        held[slots] = column
    table.lengths[slots] = HISTORY
    return dict(zip(users.names, table.pack(slots.tolist(), [[part] for part in pack_embeddings(7, users.vectors)]), strict=True))


class UserStore:
    """Commits users through the state store and reads them back."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.store = settings, open_store(settings)
        self.partitions = settings.topics.partitions
        self._last = dict.fromkeys(range(self.partitions), -1)
        self.n_users, self.packed_bytes = 0, 0

    async def open(self) -> None:
        await self.store.open(layout_of(self.settings))

    async def grow_to(self, n_users: int, *, steady: bool = False) -> None:
        """Commit users until there are `n_users`."""
        while self.n_users < n_users:
            users = users_of(self.n_users, min(BATCH, n_users - self.n_users), steady=steady)
            by_partition: dict[int, dict[str, bytes]] = {}
            for name, row in rows_of(users).items():
                by_partition.setdefault(partition_for(name.encode(), self.partitions), {})[name] = row
                self.packed_bytes += len(row)
            commits = [UserCommit(p, TOPIC_ID, self._last[p], self._last[p] + 1, rows) for p, rows in by_partition.items()]
            for result in await self.store.commit_users(commits):
                if not result.committed:
                    raise RuntimeError("another process writes to the benchmark's namespace")
                self._last[result.partition] += 1
            self.n_users += len(users.names)

    async def load(self) -> tuple[float, float]:
        """Read all users into a table; return the seconds, and the part of them spent on decoding into the table."""
        table = UserTable(HISTORY, 0, capacity=2 * BATCH)
        reading_s = decoding_s = 0.0
        for asked in self._asked():
            started = time.perf_counter()
            found = await self.store.read_users_of(asked)
            read = time.perf_counter()
            table.load({name: row for p, names in asked.items() for name, row in zip(names, found[p], strict=True)})
            reading_s, decoding_s = reading_s + read - started, decoding_s + time.perf_counter() - read
            slots = np.array([table.slot(name) for name in next(iter(asked.values()))])
            if not (table.lengths[slots] == HISTORY).all():
                raise RuntimeError("a user that was written is not there")
            table.shrink(0)
        return reading_s + decoding_s, decoding_s

    def _asked(self) -> Iterator[dict[int, list[str]]]:
        for first in range(0, self.n_users, BATCH):
            asked: dict[int, list[str]] = {}
            for number in range(first, min(first + BATCH, self.n_users)):
                asked.setdefault(partition_for(f"u{number}".encode(), self.partitions), []).append(f"u{number}")
            yield asked


def naive_bytes(memory: Memory, n_users: int) -> float:
    """Return bytes per user in the layout of `benchmarks.naive_faust`."""
    before = memory.used()
    users, random = users_of(0, n_users), np.random.default_rng(0)
    write = memory.client.pipeline(transaction=False)
    for user, name in enumerate(users.names):
        entries = [f"i{item}|{at_s * 1000}" for item, at_s in zip(users.items[user].tolist(), users.times_s[user].tolist(), strict=True)]
        write.lpush(f"naive:h:{name}", *entries)
        write.sadd(f"naive:seen:{name}", *(str(uuid.UUID(bytes=bytes(random.bytes(16)), version=4)) for _ in range(HISTORY)))
        if len(write) >= 1_000:
            write.execute()
    write.execute()
    found = (memory.used() - before) / n_users
    memory.delete("naive:*")
    return found


def records_of(stream: Stream, start: int, stop: int, ends: dict[int, int]) -> dict[int, list[Record]]:
    """Return the stream's events from `start` to `stop` as records of the events topic; `ends` counts each partition's records."""
    batch: dict[int, list[Record]] = {}
    for i in range(start, stop):
        user, at_ms = stream.users[i], int(stream.times_s[i]) * 1000
        event = {"event_id": str(i), "user_id": user, "item_id": stream.items[i], "type": "play", "event_ts_ms": at_ms}
        partition = partition_for(user.encode(), len(ends))
        value = json.dumps(event).encode()
        batch.setdefault(partition, []).append(Record("events", partition, ends[partition], user.encode(), value, at_ms))
        ends[partition] += 1
    return batch


class Feed:
    """A pipeline without Kafka and lists. It takes events as records and compacts after every fourth batch."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.store = settings, open_store(settings)
        self.pipeline = Pipeline(settings, self.store, ranks=False)
        self.ends = dict.fromkeys(range(settings.topics.partitions), 0)

    async def open(self) -> None:
        await self.pipeline.open()
        await self.pipeline.assign(list(self.ends), TOPIC_ID)

    async def take(self, stream: Stream, start: int, stop: int) -> None:
        """Apply the stream's events from `start` to `stop`."""
        for number, at in enumerate(range(start, stop, BATCH)):
            await self.pipeline.process(records_of(stream, at, min(stop, at + BATCH), self.ends))
            if number % 4 == 3:
                await self.compact()

    async def compact(self) -> None:
        while await self.pipeline.state.compact_rows():
            pass

    async def close(self) -> None:
        await self.store.close()


async def item_bytes(stack: EmbeddedStack, memory: Memory, n_users: int, n_items: int) -> dict[str, float]:
    """Return bytes and neighbours per item after a stream over these numbers of users and items."""
    namespace = f"items{n_items}"
    feed = Feed(stack.settings(redis={"namespace": namespace}))
    n_events = n_items * EVENTS_AN_ITEM
    stream = zipf_stream(n_events, seed=n_items, n_users=n_users, n_items=n_items, exponent=EXPONENT)
    await feed.open()
    before = memory.used()
    await catalogue(feed.store, stream)
    await feed.take(stream, 0, n_events)
    await feed.compact()
    n_rows, row_bytes = 0, 0
    for part in ("u:*", "dup:*"):
        memory.delete(f"{{{namespace}:p*}}:{part}")
    with memory.client.pipeline(transaction=False) as lengths:
        for key in memory.client.scan_iter(f"{{{namespace}:g*}}:c:*", count=10_000):
            lengths.strlen(key)
            n_rows += 1
        row_bytes = sum(lengths.execute())
    found = (memory.used() - before) / n_items
    await feed.close()
    memory.delete(f"{{{namespace}:*")
    return {"bytes_per_item": found, "neighbours_per_item": (row_bytes - 8 * n_rows) / 8 / n_items, "item_events": n_events}


async def catalogue(store: StateStore, stream: Stream) -> None:
    """Number every item of the stream and store its content."""
    names = list(stream.content)
    for at in range(0, len(names), BATCH):
        some = names[at : at + BATCH]
        content = [json.dumps({"item_id": name, "categories": list(stream.content[name].categories)}).encode() for name in some]
        numbers = await store.item_numbers(some)
        await store.upsert_items([ItemRecord(number, 0, at + i, content[i]) for i, number in enumerate(numbers)])


async def growth(
    stack: EmbeddedStack, memory: Memory, sizes: Mapping[str, int], state: Mapping[str, float], gap_s: float, *, sweeps: bool = False
) -> tuple[list[int], list[dict[str, int]]]:
    """Apply a stream with an event every `gap_s` seconds of event time; return bytes at each measurement, in total and by kind of key."""
    feed = Feed(stack.settings(redis={"namespace": "growth"}, state=state, topics={"partitions": 2}))
    n_events, sweeper = sizes["events"], RowExpiry(feed.settings)
    stream = zipf_stream(n_events * sizes["looks"], seed=1, n_users=sizes["users"], n_items=sizes["items"], exponent=0.5)
    stream = replace(stream, times_s=stream.times_s[0] + (np.arange(len(stream)) * gap_s).astype(np.int64))
    await feed.open()
    before = memory.used()
    looks, kinds = [], []
    for number in range(sizes["looks"]):
        await feed.take(stream, number * n_events, (number + 1) * n_events)
        await feed.compact()
        if sweeps:
            await sweeper.look(feed.store, feed.pipeline.state.item_cache.newest_s)
        looks.append(memory.used() - before)
        kinds.append(memory.by_kind("{growth:*"))
    await feed.close()
    memory.delete("{growth:*")
    return looks, kinds


async def at_sizes(stack: EmbeddedStack, memory: Memory, sizes: Sequence[int], items_a_user: float) -> list[dict[str, Any]]:
    """Return the figures for each number of users, ascending."""
    users = UserStore(stack.settings(redis={"namespace": "users"}))
    await users.open()
    before, found = memory.used(), list[dict[str, Any]]()
    for n_users in sizes:
        started = time.perf_counter()
        await users.grow_to(n_users)
        written_s = time.perf_counter() - started
        taken = memory.used() - before
        found.append({"n_users": n_users, "bytes_per_user": round(taken / n_users, 1), "row_bytes": round(users.packed_bytes / n_users, 1)})
        found[-1] |= {"users_gib": round(taken / 2**30, 3), "write_s": round(written_s, 2)}
    load_s, decoding_s = await users.load()
    found[-1] |= {
        "load_users_per_s": round(users.n_users / load_s),
        "decode_us_per_user": round(decoding_s / users.n_users * 1e6, 2),
        "process_mib": round(resident_bytes(stack.valkey.process.pid) / 2**20) if stack.valkey else None,
    }
    await users.store.close()
    memory.delete("{users:*")
    for figures in found:
        n_items = min(round(figures["n_users"] * items_a_user), MOST_ITEMS)
        figures |= {
            "n_items": n_items,
            **{name: round(v, 1) for name, v in (await item_bytes(stack, memory, figures["n_users"], n_items)).items()},
        }
    return found


async def steady_bytes(stack: EmbeddedStack, memory: Memory, n_users: int) -> float:
    """Return bytes per user for events at even gaps."""
    users = UserStore(stack.settings(redis={"namespace": "steady"}))
    await users.open()
    before = memory.used()
    await users.grow_to(n_users, steady=True)
    found = (memory.used() - before) / n_users
    await users.store.close()
    memory.delete("{steady:*")
    return found


def _in_mib(looks: Sequence[int]) -> str:
    return " ▸ ".join(f"{look / 2**20:.2f}" for look in looks) + " MiB"


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--users", type=int, nargs="+", default=[10_000, 100_000], metavar="N", help="users (default: 10000 100000)")
    parser.add_argument("--items-per-user", type=float, default=0.1, help=f"items per user (default: 0.1); at most {MOST_ITEMS:,} items")
    parser.add_argument("--naive-users", type=int, default=2_000, help="users of the baseline (default: 2,000)")
    arguments = parser.parse_args()
    sizes = sorted(set(arguments.users))
    with tempfile.TemporaryDirectory() as folder, EmbeddedStack(Path(folder)) as stack:
        memory = Memory(stack)
        found = asyncio.run(at_sizes(stack, memory, sizes, arguments.items_per_user))
        steady = asyncio.run(steady_bytes(stack, memory, sizes[0]))
        looks, kinds = asyncio.run(growth(stack, memory, GROWTH, GROWTH_STATE, 1 / GROWTH_EVENTS_PER_S))
        gap_s = AGING_DAYS_PER_LOOK * DAY_S / AGING["events"]
        (aged, _), (kept, _) = (asyncio.run(growth(stack, memory, AGING, AGING_STATE, gap_s, sweeps=sweeps)) for sweeps in (True, False))
        naive = naive_bytes(memory, arguments.naive_users)
    largest = found[-1]
    columns = ("n_users", "bytes_per_user", "row_bytes", "users_gib", "n_items", "bytes_per_item", "neighbours_per_item")
    rows = [tuple(f"{figures[name]:,}" for name in columns) for figures in found]
    rows += [
        ("naive", f"{naive:,.0f}", *[""] * 5),
        ("steady", f"{steady:,.0f}", *[""] * 5),
        *[(name, _in_mib(of), *[""] * 5) for name, of in (("growth", looks), ("aging", aged[3::2]), ("all kept", kept[3::2]))],
        ("load", f"{largest['load_users_per_s']:,}/s", *[""] * 5),
    ]
    emit(
        "state",
        f"history {HISTORY}, embedding {DIMENSION}, {N_ITEMS:,} item numbers",
        columns,
        rows,
        {
            "history": HISTORY,
            "dimension": DIMENSION,
            "seed": "user number",
            "sizes": found,
            **{name: value for name, value in largest.items() if name not in ("write_s",)},
            "gib_per_million_users": round(largest["bytes_per_user"] * 1e6 / 2**30, 3),
            "steady_bytes_per_user": round(steady, 1),
            "naive_bytes_per_user": round(naive, 1),
            "naive_users": arguments.naive_users,
            "ratio_to_naive": round(naive / largest["bytes_per_user"], 2),
            "growth_bytes": looks,
            "growth_by_kind": kinds,
            "growth_events_per_look": GROWTH["events"],
            "growth_ratio": round(looks[-1] / looks[1], 4),
            "growth_ratio_users": round(kinds[-1]["u"] / kinds[1]["u"], 4),
            "growth_ratio_items": round(kinds[-1]["c"] / kinds[1]["c"], 4),
            "aging_bytes": aged,
            "aging_bytes_kept": kept,
            "aging_days_per_look": AGING_DAYS_PER_LOOK,
            "aging_ratio": round(aged[-1] / aged[3], 4),
            "aging_ratio_kept": round(kept[-1] / kept[3], 4),
        },
        as_json=arguments.json,
    )
    return 0


if __name__ == "__main__":
    run_benchmark(main)
