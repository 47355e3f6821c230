"""One round's topics and namespace: a log that is published while things break, and everything that is read back."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from tests.builders import value_of
from tests.fault.lanes import FaultLane
from tests.fault.logs import ERASURES, Record, fault_log, merge_plan
from tests.fault.registry import Lane
from tests.fault.worker_spawner import Worker
from tests.fold import Fact, Log, weight_units
from tests.fresh import ListedItems
from tests.merging import end_of
from tests.raw_batches import send_raw
from workers.bootstrap import open_store
from workers.kafka.connection import aiokafka_consumer_arguments, aiokafka_producer_arguments
from workers.kafka.partitioner import partition_for
from workers.kafka.topics import provision
from workers.settings import Settings, load_settings
from workers.state.port import StateStore

PARTITIONS = 4
DUPLICATE_CHUNK = 48
"""Offsets; a log of a few hundred events has several chunks a partition."""
CATEGORIES = ("drama", "comedy", "war")
DRAIN_S = 180.0
LOOK_S = 0.05
SWEEP_S = 0.3
"""Seconds between scans for expired rows: so short that rows are deleted while other things happen."""
SELDOM_S = 3_600.0
"""Longer than a round: nothing is deleted, and everything is compared."""
SHOWN_ITEMS = 5
"""Shown items that are counted in half of the rounds: so few that some leave."""
PATIENCE_S = 120.0
HIDDEN_SHARE = 0.15
"""Share of the items that are never available; as many more turn unavailable half way through the log."""


@dataclass(frozen=True)
class Made:
    """One list as it came: the offset and event that it is up to date with, and its items with their scores."""

    source_offset: int
    event_id: str | None
    items: ListedItems


@dataclass
class Seen:
    """Everything that was read from the topics so far."""

    events: dict[int, dict[int, bytes]] = field(default_factory=lambda: {partition: {} for partition in range(PARTITIONS)})
    lists: dict[str, list[Made]] = field(default_factory=dict)
    dead: list[tuple[int, int]] = field(default_factory=list)
    """Source partition and offset."""
    gone: set[str] = field(default_factory=set)
    """Users whose newest list was removed."""


class RoundTopics:
    """The topics of a round. Every choice comes from `chance`; what it starts ends with it.

    `workers_redis_url`: where the workers find Redis, if it is not where the comparison does (a proxy).
    """

    def __init__(
        self,
        lane: Lane,
        chance: random.Random,
        folder: Path,
        *,
        redis_url: str | None = None,
        workers_redis_url: str | None = None,
        bootstrap_servers: str | None = None,
        sections: Mapping[str, Mapping[str, Any]] | None = None,
        n_events: tuple[int, int] = (200, 500),
        poison: float = 0.05,
        drain_s: float = DRAIN_S,
        with_merges: bool = False,
    ) -> None:
        assert isinstance(lane, FaultLane)
        self.lane, self.chance, self.folder = lane, chance, folder
        self._workers_redis_url = workers_redis_url
        self.drain_s = drain_s
        self.sections = self._sections(redis_url, bootstrap_servers, sections or {})
        made = load_settings(**self.sections)
        self.settings = made.model_copy(update={"state": made.state.model_copy(update={"duplicate_chunk": DUPLICATE_CHUNK})})
        n_users, self.n_items = chance.randint(6, 20), chance.randint(20, 40)
        sizes = {"n_users": n_users, "n_items": self.n_items, "partitions": PARTITIONS}
        erasures = 0.0 if with_merges else ERASURES
        self.plan = fault_log(chance, chance.randint(*n_events), **sizes, poison=poison, erasures=erasures)
        self.merge_plan = merge_plan(chance, n_users, len(self.plan)) if with_merges else []
        """(how much of the plan is published before, user, the id that the user goes on as; empty: none), in their order."""
        self.merges: dict[str, tuple[str, int]] = {}
        """What was published: ended id ▸ the id that goes on, and the time of the record."""
        self.published = self._nudges = 0
        self.seen = Seen()
        self.workers: list[Worker] = []
        self._facts: dict[bytes, Fact | None] = {record.value: record.fact for record in self.plan}
        n_hidden = max(1, int(HIDDEN_SHARE * self.n_items))
        chosen = [f"i{number}" for number in chance.sample(range(self.n_items), 2 * n_hidden)]
        self.hidden, self._to_hide = set(chosen[:n_hidden]), chosen[n_hidden:]
        """Items that no list may hold, and those that turn unavailable."""
        self._ends: dict[int, int] = dict.fromkeys(range(PARTITIONS), 0)
        self._acknowledged: list[tuple[int, int, bytes]] = []
        self._turned: set[str] = set()
        """Items that have turned unavailable."""
        self._opened = contextlib.AsyncExitStack()
        self._producer: AIOKafkaProducer | None = None
        self._consumer: AIOKafkaConsumer | None = None

    def _sections(
        self, redis_url: str | None, bootstrap_servers: str | None, more: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        name, counts = f"f{uuid.uuid4().hex[:10]}", self.chance.choice((True, True, False))
        chosen: dict[str, dict[str, Any]] = {
            "kafka": {**self.lane.kafka_settings(), "bootstrap_servers": bootstrap_servers or self.lane.bootstrap_servers},
            "topics": {role: f"{name}.{role}" for role in ("events", "items", "users", "recommendations", "models", "dead_letters")}
            | {role: f"{name}.{role}" for role in ("similar", "bought_together", "trending")}
            | {"partitions": PARTITIONS, "replication_factor": 1},
            "redis": {"url": redis_url or self.lane.redis_url, "namespace": name, "timeout_s": 2.0},
            "state": {"item_groups": 3, "half_life_days": 1.0, "history_length": 20, "seen_length": 3, "live_epochs": 32}
            | {"sweep_s": self.chance.choice((SWEEP_S, SELDOM_S)), "shown_items": (n_shown := self.chance.choice((0, SHOWN_ITEMS)))},
            "lists": {"frequency_cap": {"times": 2}} if n_shown else {},
            "stream": {"group_id": f"{name}-stream", "staleness_ms": 1}
            | {"batch_max_events": self.chance.choice((20, 30, 60)), "catch_up_events": self.chance.choice((40, 100_000))},
            "related": {"similar": counts, "bought_together": counts, "trending": counts, "items_per_user": 8, "least_users": 2}
            | {"again_s": 2.0}  # the order of a list depends on how often others were chosen, which asks for no list of its own
            | {"event_types": ("play", "like", "purchase", "rating")},
            "trainer": {"model_url": str(self.folder / "models"), "log_url": str(self.folder / "log")},
        }
        for section, values in more.items():
            chosen[section] = {**chosen.get(section, {}), **values}
        return chosen

    def own_store(self) -> StateStore:
        """Return a store for this process, whose time limit is not under test: on a busy machine it may stand still for seconds."""
        return open_store(self.patient_settings())

    def patient_settings(self) -> Settings:
        """Return the round's settings with more time for Redis."""
        return self.settings.model_copy(update={"redis": self.settings.redis.model_copy(update={"timeout_s": PATIENCE_S})})

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(provision, self.settings)
        producer = AIOKafkaProducer(**aiokafka_producer_arguments(self.settings))
        await producer.start()
        self._opened.push_async_callback(producer.stop)
        self._producer = producer
        arguments = {**aiokafka_consumer_arguments(self.settings), "auto_offset_reset": "earliest", "enable_auto_commit": False}
        consumer = AIOKafkaConsumer(**arguments, group_id=None)
        self._opened.push_async_callback(consumer.stop)
        await consumer.start()
        self._consumer = consumer
        topics = self.settings.topics
        names = {topics.events: PARTITIONS, topics.recommendations: PARTITIONS, topics.dead_letters: 1}
        consumer.assign([TopicPartition(name, partition) for name, count in names.items() for partition in range(count)])
        for number in range(self.n_items):
            await self._describe(f"i{number}", available=f"i{number}" not in self.hidden)
        await producer.flush()
        return self

    async def _describe(self, item_id: str, *, available: bool) -> None:
        assert self._producer is not None
        number, key = int(item_id[1:]), item_id.encode()
        item = {"item_id": item_id, "title": f"film {number}", "categories": [CATEGORIES[number % 3]], "available": available}
        await self._producer.send(self.settings.topics.items, orjson.dumps(item), key=key, partition=partition_for(key, PARTITIONS))

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for worker in self.workers:
            worker.kill()
        await self._opened.aclose()

    async def wait_for(self, condition: Callable[[], bool], what: str, timeout_s: float | None = None) -> None:
        """Read topics until a condition holds. Raises TimeoutError saying what never came."""
        deadline = time.monotonic() + (timeout_s or self.drain_s)
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {timeout_s or self.drain_s:.0f} s")
            await self._read(int(LOOK_S * 1000))

    async def publish(self, n_events: int) -> None:
        """Publish the next events of the plan, a few at a time."""
        end = min(len(self.plan), self.published + n_events)
        while self.published < end:
            some = self.plan[self.published : min(end, self.published + self.chance.randint(1, 12))]
            await self._send(some)
            self.published += len(some)
            if self.published * 2 >= len(self.plan):
                await self._hide_more()
            while self.merge_plan and self.merge_plan[0][0] <= self.published:
                await self._publish_merge(*self.merge_plan.pop(0)[1:])

    async def _publish_merge(self, user_id: str, into: str) -> None:
        """Publish that a user goes on as another one, or with nobody named a profile: the user's id is its own again."""
        assert self._producer is not None
        value = orjson.dumps({"user_id": user_id, "merged_into": into} if into else {"user_id": user_id})
        key = user_id.encode()
        sent = await self._producer.send_and_wait(self.settings.topics.users, value, key=key, partition=partition_for(key, PARTITIONS))
        self.merges.pop(user_id, None)
        if into:
            self.merges[user_id] = into, sent.timestamp

    def is_merged(self, user_id: str) -> bool:
        """Return whether another id goes on in a user's place."""
        return end_of(user_id, self.merges) != user_id

    async def _hide_more(self) -> None:
        """Turn some items unavailable."""
        assert self._producer is not None
        hide, self._to_hide = self._to_hide, []
        for item_id in hide:
            await self._describe(item_id, available=False)
        if hide:
            await self._producer.flush()
            self._turned.update(hide)

    async def _send(self, records: list[Record]) -> None:
        assert self._producer is not None
        sending = [
            await self._producer.send(self.settings.topics.events, r.value, key=r.key or None, partition=r.partition) for r in records
        ]
        for record, sent in zip(records, await asyncio.gather(*sending), strict=True):
            self._acknowledge(record.partition, sent.offset, record.value)
            self._ends[record.partition] = max(self._ends.get(record.partition, 0), sent.offset + 1)

    def _acknowledge(self, partition: int, source_offset: int, value: bytes) -> None:
        self._acknowledged.append((partition, source_offset, value))

    @contextlib.asynccontextmanager
    async def publishing(self, seconds: float) -> AsyncIterator[None]:
        """Publish what is left of the plan over some seconds, while the block runs; ends when all of it is out."""

        async def spread() -> None:
            pause_s = seconds / max(1, (len(self.plan) - self.published) / 6.5)
            while self.published < len(self.plan):
                await self.publish(self.chance.randint(1, 12))
                await asyncio.sleep(pause_s)

        task = asyncio.create_task(spread())
        try:
            yield
            await task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, KafkaError):
                await task

    async def event(self, user_id: str, item_id: str, event_ts_ms: int, event_id: str) -> tuple[int, int]:
        """Publish one more play, and return its partition and offset."""
        fact = Fact(user_id, item_id, event_id, "play", None, event_ts_ms)
        partition = partition_for(user_id.encode(), PARTITIONS)
        self._facts[value_of(fact)] = fact
        await self._send([Record(partition, user_id.encode(), value_of(fact), fact)])
        return partition, self._ends[partition] - 1

    async def bomb(self, partition: int, raw: bytes) -> None:
        """Publish a batch of one record that no worker may unpack."""
        offset = await send_raw(self.settings, self.settings.topics.events, partition, raw)
        self._facts[b""] = None
        self._acknowledge(partition, offset, b"")
        self._ends[partition] = max(self._ends.get(partition, 0), offset + 1)

    async def _read(self, timeout_ms: int) -> None:
        assert self._consumer is not None
        topics = self.settings.topics
        for at, records in (await self._consumer.getmany(timeout_ms=timeout_ms)).items():
            for record in records:
                if at.topic == topics.events:
                    self._take_event(at.partition, record.offset, record.value)
                elif at.topic == topics.dead_letters:
                    letter = orjson.loads(record.value)
                    if letter["source_topic"] == topics.events:
                        self.seen.dead.append((letter["source_partition"], letter["source_offset"]))
                elif record.value is None:
                    self.seen.gone.add(record.key.decode())
                else:
                    self.seen.gone.discard(record.key.decode())
                    made = orjson.loads(record.value)
                    items = {item["item_id"]: item["score"] for item in made["items"]}
                    trigger = made["trigger"]
                    self.seen.lists.setdefault(made["user_id"], []).append(Made(trigger["source_offset"], trigger["event_id"], items))

    def _take_event(self, partition: int, source_offset: int, value: bytes) -> None:
        self.seen.events[partition][source_offset] = value

    def newest_ms(self) -> int:
        """Return the newest event time that was read back."""
        return max(fact.event_ts_ms for facts in self.log().values() for fact in facts if fact is not None)

    def lost(self) -> list[str]:
        """Return events that were acknowledged and are not in the topic."""
        return [
            f"event {partition}/{source_offset} was acknowledged and is not in the topic"
            for partition, source_offset, value in self._acknowledged
            if self.seen.events[partition].get(source_offset) != value
        ]

    def log(self) -> Log:
        """Return the events topic as it was read back. What lies in another partition than its user's is refused, like poison."""
        return {
            partition: [self._fact(partition, value) for _, value in sorted(records.items())]
            for partition, records in self.seen.events.items()
        }

    def _fact(self, partition: int, value: bytes) -> Fact | None:
        fact = self._facts[value]
        return None if fact is None or partition_for(fact.user_id.encode(), PARTITIONS) != partition else fact

    def due(self) -> dict[str, int]:
        """Return user ▸ offset of the newest event that counts: no duplicate within two chunks, and of a type with a weight."""
        due: dict[str, int] = {}
        for facts in self.log().values():
            chunks: dict[tuple[str, str], int] = {}
            for source_offset, fact in enumerate(facts):
                if fact is None:
                    continue
                if fact.erases:
                    due.pop(fact.user_id, None)
                    continue
                chunk, name = source_offset // DUPLICATE_CHUNK, (fact.user_id, fact.event_id)
                if name in chunks and chunks[name] >= chunk - 1:
                    continue
                chunks[name] = chunk
                if weight_units(fact, self.settings):
                    due[fact.user_id] = source_offset
        return {user_id: at for user_id, at in due.items() if not self.is_merged(user_id)}

    def still_listed(self) -> list[str]:
        """Return users whose newest record erases them, and whose newest list is not removed."""
        newest = {fact.user_id: fact for facts in self.log().values() for fact in facts if fact is not None}
        erased = {user_id for user_id, fact in newest.items() if fact.erases}
        return sorted(user_id for user_id in erased & self.seen.lists.keys() if user_id not in self.seen.gone)

    def read_back(self) -> bool:
        """Whether every published event was read back."""
        return all(len(self.seen.events.get(partition, {})) >= end for partition, end in self._ends.items() if partition < PARTITIONS)

    def newest(self, user_id: str) -> int:
        """Return the offset of a user's newest list; −1 without one."""
        return max((made.source_offset for made in self.seen.lists.get(user_id, [])), default=-1)

    def answered(self) -> bool:
        """Return whether everything is published and every user's newest list is up to date."""
        return self.published == len(self.plan) and self.applied_all()

    def applied_all(self) -> bool:
        """Return whether all that was published so far has become lists and dead letters."""
        listed = self.read_back() and all(self.newest(user_id) >= at for user_id, at in self.due().items())
        return listed and set(self.seen.dead) >= self.poison()

    def forget_events(self) -> None:
        """Forget what was read from the events topic: it was created again, and offsets start at 0."""
        self.seen.events = {partition: {} for partition in range(PARTITIONS)}
        self._ends = dict.fromkeys(range(PARTITIONS), 0)
        self._acknowledged.clear()

    async def spread_over(self, partitions: int) -> None:
        """Send the rest of the log where its keys go once clients see more partitions."""
        assert self._producer is not None
        topic, deadline = self.settings.topics.events, time.monotonic() + self.drain_s
        while len(await self._producer.partitions_for(topic)) != partitions:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the producer never saw {partitions} partitions")
            await self._producer.client.force_metadata_update()
            await asyncio.sleep(LOOK_S)
        self.plan[self.published :] = [replace(r, partition=partition_for(r.key, partitions)) for r in self.plan[self.published :]]

    def tracebacks(self) -> list[str]:
        """Return the workers whose log holds a traceback."""
        return [f"{worker.name} wrote a traceback: {worker.log.name}" for worker in self.workers if "Traceback" in worker.said()]

    def poison(self) -> set[tuple[int, int]]:
        return {(partition, at) for partition, facts in self.log().items() for at, fact in enumerate(facts) if fact is None}
