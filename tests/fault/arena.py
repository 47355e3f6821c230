"""One round's own world: topics, namespace, workers, a log that is published while things break, and the comparison at its end."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from tests.builders import value_of
from tests.fault.lanes import FaultLane
from tests.fault.logs import Record, fault_log
from tests.fault.registry import Lane, Round
from tests.fault.wishes import Crash, Wishes
from tests.fault.zygote import Worker
from tests.fold import Fact, Log, State, counted, fold, read_state, weight_units
from tests.fresh import ListedItems, fresh_lists
from tests.raw_batches import send_raw
from workers.bootstrap import open_store
from workers.errors import Transient
from workers.kafka.connection import aiokafka_consumer_arguments, aiokafka_producer_arguments
from workers.kafka.partitioner import partition_for
from workers.kafka.topics import provision
from workers.local.embedded import environment
from workers.settings import Settings, load_settings
from workers.state.layout import layout_of
from workers.state.port import StateStore, UserCommit
from workers.stream.service import FOLLOW_S

PARTITIONS = 4
DUPLICATE_CHUNK = 48
"""Offsets; a log of a few hundred events has several chunks a partition."""
CATEGORIES = ("drama", "comedy", "war")
DRAIN_S = 60.0
LOOK_S = 0.05
SWEEP_S = 0.3
"""So often that rows are deleted in the midst of everything."""
SELDOM_S = 3_600.0
"""Longer than a round: nothing is deleted, and everything is compared."""
PATIENCE_S = 30.0
SCORE_TOLERANCE = 1e-3
HIDDEN_SHARE = 0.15
"""Of the items so many are never available, and as many turn unavailable half way through the log."""


@dataclass(frozen=True)
class Made:
    """One list as it came: what it is up to date with, and its items with their scores."""

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


class Arena:
    """A round. Everything that it chooses comes from `chance`; what it starts ends with it.

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
    ) -> None:
        assert isinstance(lane, FaultLane)
        self.lane, self.chance, self.folder = lane, chance, folder
        self._workers_redis_url = workers_redis_url
        self.drain_s = drain_s
        self.sections = self._sections(redis_url, bootstrap_servers, sections or {})
        made = load_settings(**self.sections)
        self.settings = made.model_copy(update={"state": made.state.model_copy(update={"duplicate_chunk": DUPLICATE_CHUNK})})
        n_users, self.n_items = chance.randint(6, 20), chance.randint(20, 40)
        self.plan = fault_log(
            chance, chance.randint(*n_events), n_users=n_users, n_items=self.n_items, partitions=PARTITIONS, poison=poison
        )
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
        name = f"f{uuid.uuid4().hex[:10]}"
        chosen: dict[str, dict[str, Any]] = {
            "kafka": {**self.lane.kafka_settings(), "bootstrap_servers": bootstrap_servers or self.lane.bootstrap_servers},
            "topics": {role: f"{name}.{role}" for role in ("events", "items", "users", "recommendations", "models", "dead_letters")}
            | {"partitions": PARTITIONS, "replication_factor": 1},
            "redis": {"url": redis_url or self.lane.redis_url, "namespace": name, "timeout_s": 2.0},
            "state": {"item_groups": 3, "half_life_days": 1.0, "history_length": 20, "seen_length": 3, "live_epochs": 32}
            | {"sweep_s": self.chance.choice((SWEEP_S, SELDOM_S))},
            "stream": {"group_id": f"{name}-stream", "staleness_ms": 1}
            | {"batch_max_events": self.chance.choice((20, 30, 60)), "catch_up_events": self.chance.choice((40, 100_000))},
            "trainer": {"model_url": str(self.folder / "models"), "log_url": str(self.folder / "log")},
        }
        for section, values in more.items():
            chosen[section] = {**chosen.get(section, {}), **values}
        return chosen

    def own_store(self) -> StateStore:
        """A store for this process, whose patience is not what is tested: on a busy machine it may stand still for seconds."""
        return open_store(self.patient_settings())

    def patient_settings(self) -> Settings:
        """The round's settings with more time for Redis."""
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

    # -- workers -------------------------------------------------------------------------------------------------------------------------

    def start_worker(self, crash: Crash | None = None, jumps: tuple[tuple[float, float], ...] = (), **sections: Any) -> Worker:
        """Start a stream worker; `sections` change its settings."""
        wanted = {name: {**values, **sections.get(name, {})} for name, values in self.sections.items()}
        if self._workers_redis_url is not None:
            wanted["redis"]["url"] = self._workers_redis_url
        name = f"stream-{len(self.workers)}"
        wishes = Wishes(crash, jumps, DUPLICATE_CHUNK)
        worker = self.lane.zygote.start(name, environment(wanted), self.folder / f"{name}.log", wishes)
        self.workers.append(worker)
        return worker

    async def wait_for(self, condition: Callable[[], bool], what: str, timeout_s: float | None = None) -> None:
        """Read topics until a condition holds. Raises TimeoutError saying what never came."""
        deadline = time.monotonic() + (timeout_s or self.drain_s)
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {timeout_s or self.drain_s:.0f} s")
            await self._read(int(LOOK_S * 1000))

    async def ended(self, worker: Worker, timeout_s: float | None = None) -> int:
        """Wait until a worker has ended; its exit code."""
        await self.wait_for(lambda: not worker.running, f"the end of {worker.name}", timeout_s)
        assert worker.exit_code is not None
        return worker.exit_code

    async def died(self, worker: Worker) -> None:
        """Wait until a worker has met its end."""
        await self.reached(worker, lambda: not worker.running)

    async def reached(self, worker: Worker, condition: Callable[[], bool]) -> None:
        """Wait until a worker has come to the point that was wished for, with more events once the plan is through.

        Raises TimeoutError if it never does.
        """
        deadline = time.monotonic() + self.drain_s
        while not condition():
            await self.wait_for(lambda: condition() or self.answered(), f"the point where {worker.name} ends or stops")
            if not condition():
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{worker.name} never came to the point where it should have ended or stopped")
                await self.nudge()

    async def nudge(self) -> None:
        """One more event in each partition, of users of the plan."""
        newest_ms = max(record.fact.event_ts_ms for record in self.plan if record.fact is not None)
        users = {record.partition: record.fact.user_id for record in self.plan if record.fact is not None}
        for user_id in users.values():
            self._nudges += 1
            await self.event(user_id, f"i{self.chance.randrange(self.n_items)}", newest_ms, f"nudge{self._nudges}")

    async def owning(self, *workers: Worker) -> None:
        """Wait until these workers own all partitions, each at least one."""
        everything = list(range(PARTITIONS))
        await self.wait_for(
            lambda: sorted(p for w in workers for p in owned(w)) == everything and all(map(owned, workers)),
            f"partitions of {', '.join(w.name for w in workers)}",
        )

    # -- publishing ----------------------------------------------------------------------------------------------------------------------

    async def publish(self, n_events: int) -> None:
        """Publish the next events of the plan, a few at a time."""
        end = min(len(self.plan), self.published + n_events)
        while self.published < end:
            some = self.plan[self.published : min(end, self.published + self.chance.randint(1, 12))]
            await self._send(some)
            self.published += len(some)
            if self.published * 2 >= len(self.plan):
                await self._hide_more()

    async def _hide_more(self) -> None:
        """Some items turn unavailable from now on."""
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
        """Publish one more play; its partition and offset."""
        fact = Fact(user_id, item_id, event_id, "play", None, event_ts_ms)
        partition = partition_for(user_id.encode(), PARTITIONS)
        self._facts[value_of(fact)] = fact
        await self._send([Record(partition, user_id.encode(), value_of(fact), fact)])
        return partition, self._ends[partition] - 1

    async def bomb(self, partition: int, raw: bytes) -> None:
        """Publish a batch of one record that nobody may unpack."""
        offset = await send_raw(self.settings, self.settings.topics.events, partition, raw)
        self._facts[b""] = None
        self._acknowledge(partition, offset, b"")
        self._ends[partition] = max(self._ends.get(partition, 0), offset + 1)

    # -- reading -------------------------------------------------------------------------------------------------------------------------

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
                else:
                    made = orjson.loads(record.value)
                    items = {item["item_id"]: item["score"] for item in made["items"]}
                    trigger = made["trigger"]
                    self.seen.lists.setdefault(made["user_id"], []).append(Made(trigger["source_offset"], trigger["event_id"], items))

    def _take_event(self, partition: int, source_offset: int, value: bytes) -> None:
        self.seen.events[partition][source_offset] = value

    async def differences_from(self, store: StateStore, log: Log) -> list[str]:
        """How the state differs from the fold of a log; where it counts, if workers delete the rest while they are at it."""
        expected = fold(log, self.settings)
        found = await read_state(store, self.settings, expected)
        if self.settings.state.sweep_s == SELDOM_S:
            return state_differences(found, expected)
        return state_differences(counted(found, self.settings, log), counted(expected, self.settings, log))

    def newest_ms(self) -> int:
        """The newest event time that was read back."""
        return max(fact.event_ts_ms for facts in self.log().values() for fact in facts if fact is not None)

    def lost(self) -> list[str]:
        """Events that were acknowledged and are not in the topic."""
        return [
            f"event {partition}/{source_offset} was acknowledged and is not in the topic"
            for partition, source_offset, value in self._acknowledged
            if self.seen.events[partition].get(source_offset) != value
        ]

    def log(self) -> Log:
        """The events topic as it was read back. What lies in another partition than its user's is refused, like poison."""
        return {
            partition: [self._fact(partition, value) for _, value in sorted(records.items())]
            for partition, records in self.seen.events.items()
        }

    def _fact(self, partition: int, value: bytes) -> Fact | None:
        fact = self._facts[value]
        return None if fact is None or partition_for(fact.user_id.encode(), PARTITIONS) != partition else fact

    def due(self) -> dict[str, int]:
        """User ▸ offset of the newest event that counts: no duplicate within two chunks, and of a type with a weight."""
        due: dict[str, int] = {}
        for facts in self.log().values():
            chunks: dict[tuple[str, str], int] = {}
            for source_offset, fact in enumerate(facts):
                if fact is None:
                    continue
                chunk, name = source_offset // DUPLICATE_CHUNK, (fact.user_id, fact.event_id)
                if name in chunks and chunks[name] >= chunk - 1:
                    continue
                chunks[name] = chunk
                if weight_units(fact, self.settings):
                    due[fact.user_id] = source_offset
        return due

    def newest(self, user_id: str) -> int:
        """The offset of a user's newest list; −1 without one."""
        return max((made.source_offset for made in self.seen.lists.get(user_id, [])), default=-1)

    def answered(self) -> bool:
        """Whether everything is published and every user's newest list up to date."""
        return self.published == len(self.plan) and self.applied_all()

    def applied_all(self) -> bool:
        """Whether all that was published so far has become lists and dead letters."""
        listed = self.read_back() and all(self.newest(user_id) >= at for user_id, at in self.due().items())
        return listed and set(self.seen.dead) >= self.poison()

    def forget_events(self) -> None:
        """The events topic was made again: offsets start at 0, and what was read from the old one is no more."""
        self.seen.events = {partition: {} for partition in range(PARTITIONS)}
        self._ends = dict.fromkeys(range(PARTITIONS), 0)
        self._acknowledged.clear()

    async def spread_over(self, partitions: int) -> None:
        """Clients see more partitions: what is left of the plan goes where its keys go now."""
        assert self._producer is not None
        topic, deadline = self.settings.topics.events, time.monotonic() + self.drain_s
        while len(await self._producer.partitions_for(topic)) != partitions:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the producer never saw {partitions} partitions")
            await self._producer.client.force_metadata_update()
            await asyncio.sleep(LOOK_S)
        self.plan[self.published :] = [replace(r, partition=partition_for(r.key, partitions)) for r in self.plan[self.published :]]

    def tracebacks(self) -> list[str]:
        """Workers whose log holds a traceback."""
        return [f"{worker.name} wrote a traceback: {worker.log.name}" for worker in self.workers if "Traceback" in worker.said()]

    def poison(self) -> set[tuple[int, int]]:
        return {(partition, at) for partition, facts in self.log().items() for at, fact in enumerate(facts) if fact is None}

    # -- comparing -----------------------------------------------------------------------------------------------------------------------

    async def finish(
        self,
        faults: int,
        *,
        alive: list[Worker] | None = None,
        catalogue: bool = True,
    ) -> Round:
        """Publish the rest, wait until all of it is applied, and compare. `alive`: who must still run (default: the newest worker),
        No log may hold a traceback."""
        differences: list[str] = []
        try:
            await self.publish(len(self.plan))
            await self._drain(differences)
            if not differences:
                await self._compare(differences, catalogue)
        except (TimeoutError, KafkaError, Transient) as error:
            differences.append(f"{type(error).__name__}: {error}")
        expected = self.workers[-1:] if alive is None else alive
        differences += [f"{w.name} ended with {w.exit_code}: {w.last_lines(3)}" for w in expected if not w.running]
        differences += self.tracebacks()
        if differences:
            await self.stacks()
        return Round(sum(self._ends.values()), faults, differences)

    async def stacks(self) -> None:
        """What every worker is doing now, into its log."""
        for worker in self.workers:
            worker.signal(signal.SIGRTMIN)
        await asyncio.sleep(1.0)

    async def _drain(self, differences: list[str]) -> None:
        await self.wait_for(self.read_back, "the events topic")
        differences += self.lost()
        due = self.due()
        try:
            await self.wait_for(lambda: all(self.newest(user_id) >= at for user_id, at in due.items()), "every user's newest list")
        except TimeoutError:
            late = {user_id: (self.newest(user_id), at) for user_id, at in due.items() if self.newest(user_id) < at}
            differences.append(f"users whose newest list is behind (has, should have): {late}")
        try:
            await self.wait_for(lambda: set(self.seen.dead) >= self.poison(), "dead letters", 10.0)
        except TimeoutError:
            differences.append(f"poison without a dead letter: {sorted(self.poison() - set(self.seen.dead))}")
        if more := set(self.seen.dead) - self.poison():
            differences.append(f"dead letters of good records: {sorted(more)}")

    def read_back(self) -> bool:
        """Whether every published event was read back."""
        return all(len(self.seen.events.get(partition, {})) >= end for partition, end in self._ends.items() if partition < PARTITIONS)

    async def _compare(self, differences: list[str], catalogue: bool) -> None:
        store = self.own_store()
        await store.open(layout_of(self.settings))
        try:
            await self._applied(store)
            differences.extend(await self.differences_from(store, self.log()))
            if catalogue:
                differences.extend(await self._catalogue_differences(store))
            await asyncio.sleep(2 * FOLLOW_S)  # workers look so often at the catalogue, which may have changed a moment ago
            differences.extend(await self.every_list(store))
        finally:
            await store.close()
        differences.extend(await self._last_lists())
        differences.extend(self.hidden_listed())

    async def _applied(self, store: StateStore) -> None:
        deadline = time.monotonic() + self.drain_s
        ends = {partition: end - 1 for partition, end in self._ends.items() if end}
        while True:
            marks = await store.watermarks(list(ends))
            behind = {p: end for p, end in ends.items() if (-1 if (w := marks[p]) is None else w.last_applied_offset) < end}
            if not behind:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"partitions were not applied to their ends: {behind}")
            await asyncio.sleep(LOOK_S)

    async def _catalogue_differences(self, store: StateStore) -> list[str]:
        names = await store.item_names()
        deadline = time.monotonic() + self.drain_s
        while True:
            stored = await store.read_items(list(range(len(names))))
            missing = sorted({f"i{number}" for number in range(self.n_items)} - {n for n, s in zip(names, stored, strict=True) if s})
            if not missing:
                break
            if time.monotonic() > deadline:
                return [f"items that the catalogue lost: {missing}"]
            await asyncio.sleep(LOOK_S)
            names = await store.item_names()
        items = {name: orjson.loads(s) for name, s in zip(names, stored, strict=True) if s}
        wrong = [name for name, item in items.items() if item["item_id"] != name]
        unavailable = {name for name, item in items.items() if not item["available"]}
        differences = [f"items stored under another's number: {wrong}"] if wrong else []
        if unavailable != (should := self.hidden | self._turned):
            differences.append(f"unavailable items: {sorted(unavailable)} instead of {sorted(should)}")
        return differences

    def hidden_listed(self) -> list[str]:
        """Lists with an item that was unavailable before the first event."""
        found = {user_id for user_id, lists in self.seen.lists.items() if any(self.hidden & made.items.keys() for made in lists)}
        return [f"lists of {len(found)} of {len(self.seen.lists)} users held unavailable items: {sorted(found)[:5]}"] if found else []

    def n_lists(self) -> dict[str, int]:
        """How many lists of each user have come."""
        return {user_id: len(lists) for user_id, lists in self.seen.lists.items()}

    async def listed_since(self, before: Mapping[str, int], users: Collection[str]) -> None:
        """Wait until each of these users has another list than before. Raises TimeoutError."""

        def late() -> list[str]:
            return [user_id for user_id in users if len(self.seen.lists.get(user_id, [])) <= before.get(user_id, 0)]

        try:
            await self.wait_for(lambda: not late(), "another list of every user")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; missing: {late()[:5]}") from None

    async def lists_differ(self, users: Collection[str]) -> list[str]:
        """How these users' newest lists differ from those of a fresh process. The state must not have changed since they were made."""
        chosen = sorted(users)
        store = self.own_store()
        try:
            fresh = await fresh_lists(self.settings, store, [(partition_for(u.encode(), PARTITIONS), u) for u in chosen])
        finally:
            await store.close()
        found = {user_id: list_difference(self.seen.lists[user_id][-1].items, fresh[user_id]) for user_id in chosen}
        wrong = {user_id: difference for user_id, difference in found.items() if difference is not None}
        if not wrong:
            return []
        user_id, difference = next(iter(wrong.items()))
        return [f"newest lists of {len(wrong)} of {len(chosen)} users differ from a fresh process: {user_id}: {difference}"]

    async def every_list(self, store: StateStore) -> list[str]:
        """Every user's list, made again of the state as it is: idle users' too, by the workers that were there and by one that is new.

        All users are noted as waiting for a list, and another worker joins: the group deals out the partitions again, and the workers that
        take them make the lists. No event comes in between, so a fresh process must make the same ones.
        """
        marks, users = await store.watermarks(range(PARTITIONS)), set()
        before = self.n_lists()
        for partition, mark in marks.items():
            here = {user_id async for user_id in store.scan_users(partition)}
            if mark is not None and here:
                last = mark.last_applied_offset
                await store.commit_users([UserCommit(partition, mark.topic_id, last, last, {}, owed=sorted(here))])
                users |= here
        self.start_worker()
        await self.listed_since(before, users)
        return await self.lists_differ(users)

    async def _last_lists(self) -> list[str]:
        """One more event of two users, one by one: the list that it leads to is the one that a fresh process makes of the same state."""
        differences = []
        users = sorted(self.due())
        newest_ms = self.newest_ms()
        for number, user_id in enumerate(self.chance.sample(users, min(2, len(users)))):
            item_id, at_ms = f"i{self.chance.randrange(self.n_items)}", newest_ms + 1_000 * (1 + number)
            partition, source_offset = await self.event(user_id, item_id, at_ms, f"last{number}")
            try:
                await self.wait_for(lambda u=user_id, at=source_offset: self.newest(u) >= at, f"the last list of {user_id}")  # type: ignore[misc]
            except TimeoutError as error:
                differences.append(str(error))
                continue
            made = [made for made in self.seen.lists[user_id] if made.source_offset == source_offset][-1]
            store = self.own_store()
            try:
                fresh = (await fresh_lists(self.settings, store, [(partition, user_id)]))[user_id]
            finally:
                await store.close()
            if (difference := list_difference(made.items, fresh)) is not None:
                differences.append(f"the last list of {user_id} ({partition}/{source_offset}): {difference}")
        return differences


def owned(worker: Worker) -> list[int]:
    """Partitions that a worker owns, as it said last."""
    said = re.findall(r"owns partitions \[([0-9, ]*)\]", worker.said())
    return [int(partition) for partition in said[-1].split(",") if partition.strip()] if said and worker.running else []


def state_differences(found: State, expected: State) -> list[str]:
    """Each part of the state that differs, with the first few places."""
    differences = []
    for part in State.__dataclass_fields__:
        has, should = getattr(found, part), getattr(expected, part)
        places = [place for place in {**has, **should} if has.get(place) != should.get(place)]
        if places:
            shown = "; ".join(f"{place}: {has.get(place)} instead of {should.get(place)}" for place in places[:2])
            differences.append(f"{part} differs in {len(places)} of {len(should)} places: {shown}"[:600])
    return differences


def list_difference(made: ListedItems, fresh: ListedItems) -> str | None:
    """None for lists of the same items and scores; items that tie with the last one may differ."""
    floor = min([*made.values(), *fresh.values()], default=0.0)
    apart = {
        item: (made.get(item), fresh.get(item))
        for item in {**made, **fresh}
        if abs(made.get(item, floor) - fresh.get(item, floor)) > SCORE_TOLERANCE
    }
    if len(made) != len(fresh):
        return f"{len(made)} items instead of {len(fresh)}"
    return f"scores (made, of the final state): {dict(list(apart.items())[:4])}, {len(apart)} of {len(fresh)}" if apart else None
