"""A bench with a warm state and a running worker: a stream published in stages, and lists as a consumer sees them."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from aiokafka import AIOKafkaProducer
from numpy.typing import NDArray

from benchmarks.bench import PARTITIONS, PRODUCE_BATCH_BYTES, Bench, Rate, interleaved
from benchmarks.datasets import Stream
from benchmarks.open_load import LINGER_MS, Plan
from tests.kafka_home import KafkaHome
from workers.kafka.batch_publisher import ListPublisher
from workers.kafka.connection import aiokafka_producer_arguments
from workers.kafka.offsets import end_offsets
from workers.local.embedded import Child, EmbeddedStack
from workers.redis.keys import Keys
from workers.settings import Settings

COPIES = 4
"""Users into which each user is split: otherwise 4,000 events of one partition belong to about 1,000 users, and coalesce."""
AFTER_LAST_S = 0.3
"""Time for lists of the same batch as the last awaited one to arrive."""
PROBES = 64
"""Events that show whether lists are made: enough for every partition."""
SERVING_S = 120.0
"""A worker must make lists from all sources within this time from its start."""
SOURCES = ("cooccurrence", "content", "ials", "sasrec")
POLL_S = 0.2
"""Longest wait of the reader before it checks whether to stop."""
LIST_ID = b'"list_id":"'

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]


def split_users(stream: Stream, copies: int = COPIES) -> Stream:
    """Split each user into `copies` users, events in turns, and interleave users, so that no two events of one user are close."""
    users = np.unique(stream.users, return_inverse=True)[1]
    turn = np.zeros(len(users), np.int64)
    seen: dict[int, int] = defaultdict(int)
    for place, user in enumerate(users.tolist()):
        turn[place] = seen[user]
        seen[user] += 1
    named = [f"{user}.{number}" for user, number in zip(stream.users, (turn % copies).tolist(), strict=True)]
    order = interleaved(dataclasses.replace(stream, users=named)).tolist()
    return Stream([named[i] for i in order], [stream.items[i] for i in order], stream.ratings[order], stream.times_s, stream.content)


def triggered_by(value: bytes) -> int:
    """Return the offset of the event that triggered a list, from its `list_id` (`partition-offset-time`) at the start of the record."""
    at = value.index(LIST_ID) + len(LIST_ID)
    return int(value[at : at + 48].split(b"-", 2)[1])


def until_listed_s(users: Sequence[bytes], offsets: I64, due_s: F64, lists: Iterable[tuple[bytes, int, float]]) -> F64:
    """Return the seconds from each event's due time to its user's first list with a trigger at or after it, (n,); NaN without such a list.

    `lists` are (user, the trigger's source offset, time consumed in seconds). A user's events share a partition, so offsets compare.
    """
    by_user: dict[bytes, list[tuple[int, float]]] = defaultdict(list)
    for user, source_offset, consumed_s in lists:
        by_user[user].append((source_offset, consumed_s))
    first: dict[bytes, tuple[list[int], F64]] = {}
    for user, found in by_user.items():
        found.sort()
        consumed = np.array([consumed_s for _, consumed_s in found])
        first[user] = [source_offset for source_offset, _ in found], np.minimum.accumulate(consumed[::-1])[::-1]
    waited = np.full(len(users), np.nan)
    for i, (user, source_offset) in enumerate(zip(users, offsets.tolist(), strict=True)):
        listed, consumed = first.get(user, ([], np.zeros(0)))
        at = bisect_left(listed, source_offset)
        if at < len(listed):
            waited[i] = consumed[at] - due_s[i]
    return waited


def _sources_of(value: bytes) -> set[str]:
    """Return the names of the sources in a list's record."""
    return {source for item in json.loads(value)["items"] for source in item["sources"]}


class Consumed:
    """Records that a consumer has read: (key, partition, offset or trigger, `time.monotonic()`), oldest first."""

    def __init__(self, triggers: bool) -> None:
        self._triggers = triggers
        self.records: list[tuple[bytes, int, int, float]] = []
        self.newest: dict[int, int] = {}

    def add(self, key: bytes, partition: int, offset: int, value: bytes, now_s: float) -> None:
        if self._triggers:
            offset = triggered_by(value)
        self.records.append((key, partition, offset, now_s))
        self.newest[partition] = max(self.newest.get(partition, -1), offset)

    async def until(self, lasts: Mapping[int, int], timeout_s: float) -> bool:
        """Wait until each partition has reached its offset in `lasts`; return False on timeout."""
        deadline = time.monotonic() + timeout_s
        while any(self.newest.get(partition, -1) < last for partition, last in lasts.items()):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.05)
        await asyncio.sleep(AFTER_LAST_S)
        return True


@contextlib.asynccontextmanager
async def consuming(
    settings: Settings, topic: str, *, triggers: bool, look: Callable[[bytes], object] | None = None
) -> AsyncIterator[Consumed]:
    """Consume a topic from its end on, in a thread, with librdkafka, which needs little of the machine. `look` gets every value."""
    from confluent_kafka import Consumer, TopicPartition

    ends = await asyncio.to_thread(end_offsets, settings, [topic])
    seen = Consumed(triggers)
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka.bootstrap_servers,
            "group.id": "benchmark",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": settings.kafka.fetch_max_wait_ms,
        }
    )
    stopped = threading.Event()

    def consume() -> None:
        while not stopped.is_set():
            message = consumer.poll(POLL_S)
            if message is None:
                continue
            if message.error():
                raise RuntimeError(f"the reader failed: {message.error()}")
            key, value, partition, offset = message.key(), message.value(), message.partition(), message.offset()
            if key is None or value is None or partition is None or offset is None:
                raise RuntimeError("the reader got a record without a key, a value or a place")
            seen.add(key, partition, offset, value, time.monotonic())
            if look is not None:
                look(value)

    consumer.assign([TopicPartition(topic, partition, end) for (_, partition), end in ends.items()])
    consumption = asyncio.create_task(asyncio.to_thread(consume))
    try:
        yield seen
    finally:
        stopped.set()
        await consumption
        consumer.close()


class KafkaStack(EmbeddedStack):
    """The embedded stack with an Apache Kafka (Java 17) as its broker, and the default settings for it."""

    def __init__(self, home: Path, folder: Path) -> None:
        super().__init__(folder)
        self._home = KafkaHome(home, folder / "kafka")

    def start(self) -> Self:
        if self.broker is None:
            self.broker = self._home.start().child
            self.bootstrap_servers = self._home.bootstrap_servers
        return super().start()

    def settings_overrides(self) -> dict[str, Any]:
        overrides = super().settings_overrides()
        kafka: dict[str, Any] = overrides["kafka"]
        del kafka["fetch_max_wait_ms"], kafka["idempotence"]
        return overrides


def sections_of(pairs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Parse `SECTION.NAME=VALUE` into setting sections; a value is JSON or else text. Raises: ValueError."""
    sections: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        name, is_given, text = pair.partition("=")
        section, has_name, field = name.partition(".")
        if not is_given or not has_name:
            raise ValueError(f"{pair!r}: give SECTION.NAME=VALUE")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        sections.setdefault(section, {})[field] = value
    return sections


def live_arguments(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Add the options common to `freshness` and `recovery` and parse the command line; `set` becomes setting sections.

    A wrong option ends the process with exit code 2.
    """
    parser.add_argument("--stream", choices=("ml-1m", "zipf", "generated"), default="ml-1m", help="the events (default: ml-1m)")
    parser.add_argument("--broker", choices=("embedded", "kafka"), default="embedded", help="kafka: the one under KAFKA_HOME")
    parser.add_argument("--repeats", type=int, default=1, help="repeats of each run; the median counts")
    parser.add_argument("--seed", type=int, default=0, help="seed of the times at which events are sent")
    parser.add_argument("--linger-ms", type=int, default=LINGER_MS, help=f"linger of the load's producer (default: {LINGER_MS})")
    parser.add_argument("--set", nargs="+", default=[], metavar="SECTION.NAME=VALUE", help="settings of the worker")
    arguments = parser.parse_args()
    try:
        arguments.set = sections_of(arguments.set)
    except ValueError as error:
        parser.error(str(error))
    if arguments.broker == "kafka" and not os.environ.get("KAFKA_HOME"):
        parser.error("--broker kafka: KAFKA_HOME must name an unpacked Apache Kafka (Java 17)")
    return arguments


def stack_on(broker: str, folder: Path) -> EmbeddedStack:
    """Return a stack with this broker, `embedded` or `kafka`. Raises: ValueError if KAFKA_HOME names no Kafka."""
    if broker == "embedded":
        return EmbeddedStack(folder)
    home = os.environ.get("KAFKA_HOME")
    if not home or not Path(home).is_dir():
        raise ValueError("KAFKA_HOME must name an unpacked Apache Kafka (Java 17)")
    return KafkaStack(Path(home), folder)


class LiveBench(Bench):
    """A bench with one namespace, whose stream is published stage by stage; events of the last stage happen now."""

    def __init__(
        self,
        stack: EmbeddedStack,
        stream: Stream,
        folder: Path,
        more: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        partitions: int = PARTITIONS,
    ) -> None:
        super().__init__(stack, split_users(stream), folder, partitions=partitions)
        self.live, self.sections = self.settings(more)
        self._n_published = 0

    def records(self, n: int, at_ms: Sequence[int]) -> list[tuple[int, bytes, bytes]]:
        """Take the next n events as (partition, key, value) with these event times. The stream repeats after its end."""
        first, size = self._n_published, len(self.stream)
        self._n_published += n
        return [self.event_record((first + i) % size, at_ms[i], str(first + i)) for i in range(n)]

    async def publish_past(self, n: int, ends_s: float, *, catalogue: bool = False) -> int:
        """Publish the next n events with the stream's own gaps, the newest at `ends_s`; return the number published so far."""
        places = np.arange(self._n_published, self._n_published + n) % len(self.stream)
        times_s = self.stream.times_s[places]
        at_ms = ((times_s - times_s.max() + int(ends_s)) * 1000).tolist()
        events: dict[int, list[tuple[bytes, bytes | None]]] = {}
        for partition, key, value in self.records(n, at_ms):
            events.setdefault(partition, []).append((key, value))
        producer = AIOKafkaProducer(
            **aiokafka_producer_arguments(self.live), max_batch_size=PRODUCE_BATCH_BYTES, max_request_size=2 * PRODUCE_BATCH_BYTES
        )
        await producer.start()
        try:
            if catalogue:
                await ListPublisher(producer, self.live.topics.items).publish(self.item_records())
            await ListPublisher(producer, self.live.topics.events).publish(events)
        finally:
            await producer.stop()
        return self._n_published

    def warm_up(self, n: int) -> None:
        """Build the state from the first n events, with a worker that makes no lists, and let models serve."""
        n_published = asyncio.run(self.publish_past(n, time.time(), catalogue=True))
        asyncio.run(self.serve_models(self.live))
        sections = {**self.sections, "stream": {**self.sections["stream"], "publish_lists": False}}
        self.run_worker(self.live, sections, n_published)

    def serving_worker(self) -> Child:
        """Start a worker and wait until it makes lists from all sources. Raises: RuntimeError if it does not within `SERVING_S`."""
        worker = self.start_worker(self.sections)
        deadline = time.monotonic() + SERVING_S
        missing = set(SOURCES)
        while missing and time.monotonic() < deadline:
            missing = set(SOURCES) - asyncio.run(self._sources_of_probes(worker, deadline))
        if missing:
            raise RuntimeError(f"the lists are made without {', '.join(sorted(missing))}: {worker.last_lines(3)}")
        return worker

    async def _sources_of_probes(self, worker: Child, deadline: float) -> set[str]:
        """Publish some events and return the names of the sources that scored their lists."""
        found: set[str] = set()
        async with consuming(
            self.live, self.live.topics.recommendations, triggers=True, look=lambda list_: found.update(_sources_of(list_))
        ) as seen:
            n_published = await self.publish_past(PROBES, time.time())
            while len(seen.records) < PROBES and time.monotonic() < deadline:
                if not worker.running:
                    raise RuntimeError(f"the worker ended at {self.applied(self.live)} of {n_published} events: {worker.last_lines(3)}")
                await asyncio.sleep(0.1)
        return found

    def pending_users(self) -> int:
        """Return the number of users whose deferred list is still pending."""
        keys = Keys(self.live.redis.namespace)
        return sum(int(str(self.redis.scard(keys.owed(partition)))) for partition in range(self.partitions))

    def work_off(self, worker: Child, n: int) -> Rate:
        """Measure how fast a running worker processes a backlog of n events, one list for each."""
        before = self._n_published
        n_published = asyncio.run(self.publish_past(n, time.time()))
        return self.watch(lambda: self.applied(self.live) - before, n_published - before, lambda: self.lists(self.live), [worker.process])

    def plan(self, due_s: F64, settings: Settings | None = None, *, linger_ms: int = LINGER_MS) -> Plan:
        """Plan the next events for the events topic of these settings, each with its due time, from now on, as event time."""
        settings = settings or self.live
        now_s = time.time()
        records = self.records(len(due_s), ((due_s + now_s) * 1000).astype(np.int64).tolist())
        ends = {partition: end for (_, partition), end in end_offsets(settings, [settings.topics.events]).items()}
        return Plan(settings.kafka.bootstrap_servers, settings.topics.events, ends, records, due_s, linger_ms)
