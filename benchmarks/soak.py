"""Run workers at half of their maximal rate for a long time with a fault every minute; check memory, lag and state.

Examples:
    python -m benchmarks.soak --minutes 5
    KAFKA_HOME=… python -m benchmarks.soak --minutes 30 --json

A broker, a Valkey with an append-only file, and two workers that make lists. The broker is Apache Kafka if KAFKA_HOME names one: the
embedded broker keeps everything in memory and becomes too slow after three million events. The maximal rate is measured on a backlog at the
start of the same run. One worker, the steady one, is never killed; its memory is observed. After the last event the state is compared with
a plain fold over the log, dead letters with the poison in the log, and every user's newest list with the user's last event.

The exit code is 1 if anything differs, a lag did not recover, less than 95 % of the rate was sent, or the steady worker's memory grew by
more than `--growth-mb`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import marshal
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import redis

from benchmarks.figures import benchmark_parser, resident_bytes, run_benchmark
from tests.builders import START_MS, value_of
from tests.fault.harness import Harness
from tests.fault.lanes import FaultLane, kafka_home
from tests.fault.logs import Record
from tests.fault.servers import OwnValkey
from tests.fault.topics import PARTITIONS
from tests.fault.worker_spawner import Worker
from tests.fold import Fact, Folding, State
from workers.kafka.partitioner import partition_for

N_USERS, N_ITEMS = 2_000, 500
BACKLOG = 20_000
EVENT_STEP_MS = 400
HALF_LIFE_DAYS = 4.0
LIST_SIZE = 5
"""Short lists, because the embedded broker keeps them all in memory."""
FACTS_KEPT = 200_000
"""Events kept in this process between sending and reading back."""
POISON, DUPLICATES = 0.01, 0.02
TICK_S = 0.1
HELD = 0.95
"""Share of the planned rate that must be sent."""
RECOVERY_S = 50.0
"""Time after a fault within which the lag must fall to a second's worth of events."""
SETTLE_S = 5.0
"""Wait after a fault before the lag is checked: sessions time out after three seconds."""
STALENESS_MS = 1_000
WARM_UP = 1 / 3
"""Share of the run from which memory growth counts: caches and allocator are full by then."""


def soak_log(chance: random.Random) -> Iterator[Record]:
    """Yield events without end: skewed users and items, on average `EVENT_STEP_MS` apart in event time, with poison and duplicates."""
    newest: list[Record] = []
    number, at_ms = 0, START_MS
    while True:
        number += 1
        at_ms += chance.randrange(2 * EVENT_STEP_MS)
        user_id = f"u{int(N_USERS * chance.random() ** 2)}"
        key = user_id.encode()
        partition, kind = partition_for(key, PARTITIONS), chance.random()
        if kind < POISON:
            yield Record(partition, key, b'{"nobody": %d}' % number, None)
        elif kind < POISON + DUPLICATES and newest:
            yield chance.choice(newest)
        else:
            item_id, what = f"i{int(N_ITEMS * chance.random() ** 2)}", chance.choice(("play", "view", "like"))
            fact = Fact(user_id, item_id, f"e{number}", what, None, at_ms)
            newest = [*newest[-9:], Record(partition, key, value_of(fact), fact)]
            yield newest[-1]


class Soak(Harness):
    """A fault round without end, in a process whose memory stays small.

    Every record is written to a file when it is read back, then dropped from memory; only each user's newest list is kept. The file is
    folded at the end: folding 4,000 events per second takes a quarter of a core, which the workers need.
    """

    def __init__(self, lane: FaultLane, chance: random.Random, folder: Path, redis_url: str) -> None:
        stream = {"batch_max_events": 1_000, "catch_up_events": 10_000, "user_cache": 1_000, "staleness_ms": STALENESS_MS}
        sections: dict[str, Mapping[str, Any]] = {"stream": stream, "state": {"item_groups": 4, "half_life_days": HALF_LIFE_DAYS}}
        sections["lists"] = {"size": LIST_SIZE}
        super().__init__(lane, chance, folder, redis_url=redis_url, sections=sections, n_events=(0, 0), drain_s=300.0)
        self.records = soak_log(chance)
        self._facts: OrderedDict[bytes, Fact | None] = OrderedDict()
        self.n_items = N_ITEMS
        self._admin = redis.from_url(redis_url)
        self._folding = Folding(self.settings)
        folder.mkdir(exist_ok=True)
        self._log_of_facts, self._folded_bytes = (folder / "facts").open("w+b"), 0
        self._read_to = dict.fromkeys(range(PARTITIONS), 0)
        self._due: dict[str, int] = {}
        self._poison: set[tuple[int, int]] = set()
        self._unread: dict[tuple[int, int], bytes] = {}
        """Acknowledged, not read back yet."""
        self._unacknowledged: dict[tuple[int, int], bytes] = {}
        """Read back before the acknowledgement came."""
        self._lost: list[str] = []
        self._newest_ms = 0

    async def _read(self, timeout_ms: int) -> None:
        await super()._read(timeout_ms)
        for user_id, made in self.seen.lists.items():
            if len(made) > 1:
                self.seen.lists[user_id] = [max(made, key=lambda one: one.source_offset)]

    def _take_event(self, partition: int, source_offset: int, value: bytes) -> None:
        if source_offset != self._read_to[partition]:
            self._lost.append(f"partition {partition} went on at {source_offset} instead of {self._read_to[partition]}")
        self._read_to[partition] = source_offset + 1
        place, fact = (partition, source_offset), self._facts[value]
        fields = (fact.user_id, fact.item_id, fact.event_id, fact.type, fact.value, fact.event_ts_ms) if fact else None
        marshal.dump((partition, source_offset, fields), self._log_of_facts)
        if place in self._unread:
            self._match(place, self._unread.pop(place), value)
        else:
            self._unacknowledged[place] = value

    def _acknowledge(self, partition: int, source_offset: int, value: bytes) -> None:
        place = (partition, source_offset)
        if place in self._unacknowledged:
            self._match(place, value, self._unacknowledged.pop(place))
        else:
            self._unread[place] = value

    def _match(self, place: tuple[int, int], sent: bytes, read: bytes) -> None:
        if sent != read:
            self._lost.append(f"event {place} was acknowledged and another one is in the topic")

    def fold(self) -> None:
        """Fold the events read back since the last call."""
        log = self._log_of_facts
        log.seek(self._folded_bytes)
        with contextlib.suppress(EOFError):
            while True:
                partition, source_offset, fields = marshal.load(log)
                self._fold_one(partition, source_offset, None if fields is None else Fact(*fields))
        self._folded_bytes = log.seek(0, os.SEEK_END)

    def _fold_one(self, partition: int, source_offset: int, fact: Fact | None) -> None:
        if fact is None:
            self._poison.add((partition, source_offset))
        else:
            self._newest_ms = max(self._newest_ms, fact.event_ts_ms)
        if self._folding.add(partition, fact):
            assert fact is not None
            self._due[fact.user_id] = source_offset

    def lost(self) -> list[str]:
        return self._lost + [f"event {place} was acknowledged and is not in the topic" for place in self._unread]

    def expected(self) -> State:
        self.fold()
        return self._folding.state()

    def newest_ms(self) -> int:
        self.fold()
        return self._newest_ms

    def due(self) -> dict[str, int]:
        self.fold()
        return self._due

    def poison(self) -> set[tuple[int, int]]:
        self.fold()
        return self._poison

    def to_read(self) -> int:
        """Return the number of events acknowledged but not read back."""
        return sum(end - self._read_to[partition] for partition, end in self._ends.items())

    def read_back(self) -> bool:
        return all(self._read_to[partition] >= end for partition, end in self._ends.items())

    async def send(self, n_events: int) -> None:
        """Send the next events, once most earlier ones have been read back: this process keeps only `FACTS_KEPT` of them."""
        while self.to_read() > FACTS_KEPT // 2:
            await self._read(int(TICK_S * 1000))
        some = [next(self.records) for _ in range(n_events)]
        self._facts.update({record.value: record.fact for record in some})
        for _ in range(len(self._facts) - FACTS_KEPT):
            self._facts.popitem(last=False)
        await self._send(some)

    async def event(self, user_id: str, item_id: str, event_ts_ms: int, event_id: str) -> tuple[int, int]:
        """Publish an event once the other worker's writes are visible to its worker (`stream.staleness_ms`)."""
        await asyncio.sleep(1.5 * STALENESS_MS / 1000)
        return await super().event(user_id, item_id, event_ts_ms, event_id)

    def lag(self) -> int:
        """Return the number of events acknowledged but not applied."""
        keys = [f"{{{self.settings.redis.namespace}:p{p}}}:wm" for p in range(PARTITIONS)]
        marks: Any = self._admin.mget(keys)
        return sum(self._ends.values()) - sum(int(mark.rsplit(b":", 1)[1]) + 1 for mark in marks if mark)

    async def until_caught_up(self, at_most: int, timeout_s: float) -> float | None:
        """Return the seconds until the lag is at most `at_most`; None on timeout."""
        started_s = time.monotonic()
        while time.monotonic() - started_s < timeout_s:
            try:
                if self.lag() <= at_most:
                    return time.monotonic() - started_s
            except redis.RedisError:
                pass  # a fault has stopped it
            await asyncio.sleep(TICK_S)
        return None


def resident_mb(worker: Worker) -> float:
    """Return the resident memory of a worker in MB."""
    return resident_bytes(worker.pid) / 1e6


async def maximal_rate(soak: Soak) -> float:
    """Return the events per second of the running workers on a backlog, lists included."""
    await soak.send(BACKLOG)
    first, started_s = soak.lag(), time.monotonic()
    while soak.lag() > 0:
        if time.monotonic() - started_s > 120.0:
            raise RuntimeError("the workers never caught up with the backlog")
        await soak._read(50)
    return first / (time.monotonic() - started_s)


async def faults(soak: Soak, server: OwnValkey, chance: random.Random) -> AsyncIterator[str]:
    """Cause one fault at a time, in turn; yield its name."""
    while True:
        for name in ("worker_killed", "redis_killed", "worker_stopped", "functions_flushed", "redis_hangs", "zombie", "worker_added"):
            victim = next((w for w in soak.workers[1:] if w.running), None)
            if name in ("worker_killed", "worker_stopped", "zombie") and victim is None:
                victim = soak.start_worker()
                await asyncio.sleep(5.0)
            if name == "worker_killed" and victim is not None:
                victim.kill()
                soak.start_worker()
            elif name == "worker_stopped" and victim is not None:
                victim.signal(signal.SIGTERM)
                await soak.ended(victim, 30.0)
                soak.start_worker()
            elif name == "zombie" and victim is not None:
                victim.signal(signal.SIGSTOP)
                await asyncio.sleep(8.0)
                victim.signal(signal.SIGCONT)
            elif name == "redis_killed":
                server.kill()
                await asyncio.sleep(chance.uniform(0.0, 3.0))
                server.start_again()
            elif name == "redis_hangs":
                server.hang()
                await asyncio.sleep(4.0)
                server.go_on()
            elif name == "functions_flushed":
                server.do("FUNCTION", "FLUSH")
            else:
                extra = soak.start_worker()
                await asyncio.sleep(6.0)
                extra.kill()
            yield name


async def run(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the soak and return its figures."""
    chance = random.Random(arguments.seed)
    with FaultLane(arguments.lane, folder / "lane") as lane, OwnValkey(folder / "valkey", "--appendonly", "yes") as server:
        async with Soak(lane, chance, folder / "soak", server.url) as soak:
            steady = soak.start_worker()
            soak.start_worker()
            await soak.send(200)
            await soak.wait_for(lambda: bool(soak.seen.lists), "a first list")
            top = await maximal_rate(soak)
            rate = arguments.rate or top / 2
            say(f"maximal rate {top:.0f} events/s, going at {rate:.0f} for {arguments.minutes:g} minutes")
            memory: list[float] = []
            recoveries: list[float | None] = []
            done: list[str] = []
            breaking = faults(soak, server, chance)
            before, began_s = sum(soak._ends.values()), time.monotonic()
            ends_s = time.monotonic() + 60 * arguments.minutes
            over = asyncio.Event()
            reading = asyncio.create_task(keep_reading(soak, over))
            publishing = asyncio.create_task(keep_publishing(soak, rate, over))
            try:
                while time.monotonic() + 30.0 < ends_s:
                    fault_s = time.monotonic() + 60.0
                    done.append(await anext(breaking))
                    await asyncio.sleep(SETTLE_S)
                    recoveries.append(await soak.until_caught_up(int(rate) + 1_000, RECOVERY_S - SETTLE_S))
                    while time.monotonic() < min(fault_s, ends_s):
                        memory.append(resident_mb(steady))
                        await asyncio.sleep(1.0)
                    shown = "never" if recoveries[-1] is None else f"{recoveries[-1]:.1f} s"
                    events = sum(soak._ends.values())
                    say(f"{done[-1]:<18} lag back {SETTLE_S:.0f} s and {shown:>7} later   {memory[-1]:.0f} MB   {events} events")
            finally:
                sent, took_s = sum(soak._ends.values()) - before, time.monotonic() - began_s
                over.set()  # both tasks finish their step, so that every event that a broker took is known here
                await asyncio.gather(publishing, reading)
            last_lag_s = await soak.until_caught_up(0, 120.0)
            say("folding the log")
            await asyncio.to_thread(soak.fold)
            compared = await soak.finish(len(done), alive=[steady])
    start = memory[int(len(memory) * WARM_UP) :][:60]
    start_mb, end_mb = statistics.median(start), statistics.median(memory[-60:])
    return {
        "lane": arguments.lane,
        "minutes": arguments.minutes,
        "seed": arguments.seed,
        "rounds": 1,
        "faults": len(done),
        "fault_kinds": sorted(set(done)),
        "events": compared.events,
        "differences": len(compared.differences),
        "difference_texts": compared.differences,
        "max_rate_events_per_s": round(top),
        "rate_events_per_s": round(rate),
        "share_of_max": round(rate / top, 3),
        "share_sent": round(sent / took_s / rate, 3),
        "recovery_max_s": None if None in recoveries else round(max(r for r in recoveries if r is not None), 1),
        "unrecovered": sum(one is None for one in recoveries) + (last_lag_s is None),
        "rss_start_mb": round(start_mb, 1),
        "rss_end_mb": round(end_mb, 1),
        "rss_growth_mb": round(end_mb - start_mb, 1),
    }


async def keep_reading(soak: Soak, over: asyncio.Event) -> None:
    while not over.is_set():
        await soak._read(200)


async def keep_publishing(soak: Soak, rate: float, over: asyncio.Event) -> None:
    """Publish at `rate` in an open loop: a slow moment is made up for afterwards."""
    started_s, sent = time.monotonic(), 0
    while not over.is_set():
        due = int((time.monotonic() - started_s) * rate) - sent
        if due > 0:
            await soak.send(min(due, 2_000))
            sent += min(due, 2_000)
        else:
            await asyncio.sleep(TICK_S)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="duration (default: 30)")
    usual = "embedded" if kafka_home() is None else "kafka"
    parser.add_argument("--lane", choices=("embedded", "kafka"), default=usual, help="broker (default: kafka if KAFKA_HOME is set)")
    parser.add_argument("--rate", type=float, help="events per second (default: half of the maximal rate)")
    parser.add_argument("--seed", type=int, default=0, help="seed of events and faults (default: 0)")
    parser.add_argument("--growth-mb", type=float, default=40.0, help="limit on memory growth after the first third (default: 40)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recsys-soak-") as folder:
        found = asyncio.run(run(arguments, Path(folder)))
    grew, fell_short = found["rss_growth_mb"] > arguments.growth_mb, found["share_sent"] < HELD
    failed = bool(found["differences"] or found["unrecovered"] or grew or fell_short)
    for text in found["difference_texts"]:
        say(f"  {text}")
    growth = f"memory {found['rss_growth_mb']:+.1f} MB"
    sent = f"{found['share_sent']:.0%} of {found['rate_events_per_s']:,} events/s"
    print(f"{found['faults']} faults, {found['events']} events, {sent}, {found['differences']} differences, {growth}")
    if arguments.json:
        print(json.dumps(found))
    return 1 if failed else 0


if __name__ == "__main__":
    run_benchmark(main)
