"""The world of one trainer round: topics, model store, trainers, a worker that follows models, and the comparison at the end.

The event log must equal the topic: every readable record once, by partition and offset. Every version in the model store is whole, but for
those that the round damaged. The models topic says last what the store says, and a worker that follows that topic serves it.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

import workers.trainer.app
from schemas import EventType
from tests.announced import last_announcements
from tests.fault.registry import Lane, Round
from tests.fault.trainer_entry import TrainingInside, leading, trainer_process
from workers.bootstrap import open_store
from workers.errors import Fatal
from workers.kafka.connection import aiokafka_arguments, aiokafka_producer_arguments
from workers.kafka.offsets import end_offsets_async
from workers.kafka.partitioner import partition_for
from workers.kafka.records import Record
from workers.kafka.topics import provision
from workers.local.embedded import environment
from workers.models.store import ModelStore
from workers.settings import Settings, load_settings
from workers.state.layout import layout_of
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.model_sync import ModelFollower
from workers.stream.pipeline import Pipeline
from workers.stream.reference_topics import Intake
from workers.stream.stored_models import StoredModels
from workers.trainer.event_log import EventLog

PARTITIONS = 2
N_CLUSTERS, PER_CLUSTER, PER_USER = 4, 12, 10
START_MS = 1_700_000_000_000
DEADLINE_S = 240.0
POLL_S = 0.02
ENOUGH = 400
"""Readable events that start the first round of training …"""
FIRST = 500
"""… and records published for it: some of them are no events."""
ONE_ROUND = 9_999
"""`every_events` where one round of training is enough."""
MORE = 150
"""Events that start another."""
PAGE = 4_096

Row = tuple[str, str, int, float, int]
"""User, item, event type, value (−1: none), event time."""


class Said(logging.Handler):
    """Lines of the trainer and its store in this process."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")

    def count(self, *parts: str) -> int:
        """Lines that hold all of these."""
        return sum(all(part in line for part in parts) for line in self.lines)


class World:
    """Topics, folders and the truth of one round: what was published, and so what every copy of it must be."""

    def __init__(self, lane: Lane, chance: random.Random, folder: Path, **trainer: Any) -> None:
        name = f"f{uuid.uuid4().hex[:10]}"
        self.chance, self.folder = chance, folder
        self.sections: dict[str, dict[str, Any]] = {
            "kafka": {
                "bootstrap_servers": lane.bootstrap_servers,
                "security_protocol": "PLAINTEXT",
                "fetch_max_wait_ms": 20 if lane.name == "embedded" else 100,
                "idempotence": lane.name == "kafka",
            },
            "topics": {role: f"{name}.{role}" for role in ("events", "items", "users", "recommendations", "models", "dead_letters")}
            | {"partitions": PARTITIONS, "replication_factor": 1},
            "redis": {"url": lane.redis_url, "namespace": name},
            "state": {"item_groups": 2},
            "trainer": {
                "log_url": str(folder / "log"),
                "model_url": str(folder / "models"),
                "kinds": ["ials"],
                "min_events": ENOUGH,
                "every_events": MORE,
                "every_s": 9_999,
                "flush_s": 0.1,
                "segment_events": 150,
                "tolerance": 0.9,
                "min_targets": 5,
                "options": {"ials": {"factors": 8, "epochs": 3, "unobserved_weight": 0.1, "regularisation": 0.003}},
                **trainer,
            },
        }
        self.settings = load_settings(**self.sections)
        self.rows: dict[int, list[Row]] = {partition: [] for partition in range(PARTITIONS)}
        self.ends: dict[int, int] = dict.fromkeys(range(PARTITIONS), 0)
        self.damaged: set[str] = set()
        self.differences: list[str] = []
        self.faults = 0
        self._n = 0
        self._open: list[tuple[str, list[int]]] = []
        self._users = 0
        self._last: tuple[bytes, bytes] | None = None

    @property
    def n_published(self) -> int:
        return sum(self.ends.values())

    @property
    def store(self) -> ModelStore:
        return ModelStore(self.settings.trainer.model_url)

    def differ(self, what: str) -> None:
        self.differences.append(what)

    def round(self) -> Round:
        return Round(self.n_published, self.faults, self.differences)

    async def publish(self, n_events: int) -> None:
        """So many more events of people with one taste each; some records that nobody can read, and some events twice."""
        producer = AIOKafkaProducer(**aiokafka_producer_arguments(self.settings))
        await producer.start()
        try:
            for _ in range(n_events):
                key, value, row = self._next()
                partition = partition_for(key, PARTITIONS)
                await producer.send(self.settings.topics.events, value, key=key, partition=partition)
                self.ends[partition] += 1
                if row is not None:
                    self.rows[partition].append(row)
            await producer.flush()
        finally:
            await producer.stop()

    def forget_events(self) -> None:
        """The topic is another one: it holds nothing, and the event that was last in the old one would be no repetition in it."""
        self.rows, self.ends, self._last = {p: [] for p in range(PARTITIONS)}, dict.fromkeys(range(PARTITIONS), 0), None

    def _next(self) -> tuple[bytes, bytes, Row | None]:
        chance = self.chance.random()
        if chance < 0.03:
            return f"u{self._users}".encode(), b"{" * self.chance.randrange(1, 9), None
        if chance < 0.06 and self._last is not None:
            return *self._last, None
        while len(self._open) < 8:
            cluster = self._users % N_CLUSTERS
            items = [cluster * PER_CLUSTER + n for n in self.chance.sample(range(PER_CLUSTER), PER_USER)]
            self._open.append((f"u{self._users}", items))
            self._users += 1
        at = self.chance.randrange(len(self._open))
        user_id, items = self._open[at]
        item_id, self._n = f"i{items.pop()}", self._n + 1
        if not items:
            del self._open[at]
        rated = self.chance.random() < 0.3
        row: Row = (
            user_id,
            item_id,
            EventType.RATING.code if rated else EventType.LIKE.code,
            4.5 if rated else -1.0,
            START_MS + 60_000 * self._n,
        )
        fields: dict[str, Any] = {"event_id": f"e{self._n}", "user_id": user_id, "item_id": item_id, "event_ts_ms": row[4]}
        fields |= {"type": "rating", "value": 4.5} if rated else {"type": "like"}
        self._last = user_id.encode(), orjson.dumps(fields)
        return *self._last, row

    @asynccontextmanager
    async def trainer(self, settings: Settings | None = None) -> AsyncIterator[tuple[Any, Said]]:
        """A trainer in this process, its rounds of training in a thread, and what it says."""
        said, logger = Said(), logging.getLogger("workers")
        level = logger.level
        logger.addHandler(said)
        logger.setLevel(logging.INFO)
        try:
            with mock.patch.object(workers.trainer.app, "TrainingProcess", TrainingInside):
                service = leading(settings or self.settings)
                await service.start()
                try:
                    yield service, said
                finally:
                    await service.stop()
        finally:
            logger.removeHandler(said)
            logger.setLevel(level)

    def process(self, fault: str | None = None, nth: int = 1) -> Any:
        """A trainer process of its own, forked from a server that has imported everything."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.fault.trainer_entry"])
        env = {**environment(self.sections), "RECSYS_CONFIG": os.devnull, "OMP_NUM_THREADS": "1"}
        process = context.Process(target=trainer_process, args=(env, str(self.log_file), fault, nth), daemon=True)
        process.start()
        return process

    @property
    def log_file(self) -> Path:
        return self.folder / "trainer.log"

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Raises TimeoutError."""
        deadline = time.monotonic() + DEADLINE_S
        while not await asyncio.to_thread(condition):
            if time.monotonic() > deadline:
                said = self.log_file.read_text()[-3_000:] if self.log_file.exists() else ""
                raise TimeoutError(f"{what}: not within {DEADLINE_S:g} s {said}")
            await asyncio.sleep(POLL_S)

    def logged(self) -> bool:
        """Whether the log covers everything that was published."""
        wanted = {partition: end for partition, end in self.ends.items() if end}
        return EventLog(self.settings.trainer.log_url).next_offsets() == wanted

    async def until_logged(self) -> None:
        """Until the log covers everything that was published."""
        await self.until(self.logged, "the log is complete")

    def said_by_processes(self, part: str) -> int:
        """How often trainer processes have said so."""
        return self.log_file.read_text().count(part) if self.log_file.exists() else 0

    async def until_said(self, version: str) -> None:
        """Until the models topic says that a version serves."""
        deadline = time.monotonic() + DEADLINE_S
        while (await self.serving_said()) != version:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{version} was not announced within {DEADLINE_S:g} s")
            await asyncio.sleep(POLL_S)

    async def serving_said(self) -> str | None:
        """The version of `ials` that serves, by the models topic."""
        announced = (await last_announcements(self.settings)).get("ials")
        return None if announced is None or announced.serving is None else announced.serving.version

    async def compare(self, worker: Worker | None = None) -> None:
        """Note every difference from the oracle."""
        log = EventLog(self.settings.trainer.log_url)
        ends = {p: end for (_, p), end in (await end_offsets_async(self.settings, [self.settings.topics.events])).items()}
        if ends != self.ends:
            self.differ(f"the topic ends at {ends}, {self.ends} were published")
        self._compare_rows(log)
        store = self.store
        for version in store.versions("ials"):
            try:
                store.load("ials", version)
            except Fatal as error:
                if version not in self.damaged:
                    self.differ(f"a version is not whole: {error}")
        champion = store.champion("ials")
        said = await self.serving_said()
        if champion != said:
            self.differ(f"the topic says that {said} serves, the store {champion}")
        if champion in self.damaged:
            self.differ(f"{champion} is damaged and still the champion")
        if worker is None:
            async with self.worker() as worker:
                await worker.follow()
        else:
            await worker.follow()
        if worker.serving != champion:
            self.differ(f"a worker serves {worker.serving}, the champion is {champion}")

    def _compare_rows(self, log: EventLog) -> None:
        found = log.read()
        values = [-1.0 if value != value else value for value in found.values.tolist()]
        users, items = ([ids[c] for c in codes] for ids, codes in ((found.user_ids, found.user_codes), (found.item_ids, found.item_codes)))
        rows = list(zip(users, items, found.types.tolist(), values, found.event_ts_ms.tolist(), strict=True))
        wanted = [row for partition in range(PARTITIONS) for row in self.rows[partition]]
        if rows != wanted:
            at = next((i for i, (one, other) in enumerate(zip(rows, wanted, strict=False)) if one != other), min(len(rows), len(wanted)))
            self.differ(f"the log holds {len(rows)} events, the topic {len(wanted)}; the first difference is at {at}")

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[Worker]:
        """The part of a stream worker that follows models, with everything around it real."""
        pipeline = Pipeline(self.settings, open_store(self.settings), ranks=False)
        await pipeline.state.store.open(layout_of(self.settings))
        await pipeline.open()
        consumer = AIOKafkaConsumer(**aiokafka_arguments(self.settings), enable_auto_commit=False, auto_offset_reset="earliest")
        await consumer.start()
        place = TopicPartition(self.settings.topics.models, 0)
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        worker = Worker(self.settings, pipeline, consumer)
        try:
            yield worker
        finally:
            worker.models.close()
            await consumer.stop()
            await pipeline.state.store.close()


class Worker:
    """Follows the models topic when it is told to."""

    def __init__(self, settings: Settings, pipeline: Pipeline, consumer: AIOKafkaConsumer) -> None:
        self.settings, self.pipeline, self._consumer = settings, pipeline, consumer
        self.intake = Intake(settings, pipeline.state, pipeline.lists, CatalogueFollower(pipeline.state))
        models = StoredModels(settings)
        self.models = ModelFollower(pipeline.state, models.load, models.serving)

    @property
    def serving(self) -> str | None:
        """The version of `ials` in the engine."""
        model = self.pipeline.state.engine.models.get("ials")
        return None if model is None else model.version

    async def follow(self) -> list[str]:
        """Take everything announced so far, and load what it says; the errors logged meanwhile."""
        place = TopicPartition(self.settings.topics.models, 0)
        end = (await end_offsets_async(self.settings, [place.topic]))[place.topic, 0]
        said, logger = Said(), logging.getLogger("workers.stream.model_sync")
        logger.addHandler(said)
        try:
            while await self._consumer.position(place) < end:
                for records in (await self._consumer.getmany(place, timeout_ms=200)).values():
                    await self.intake.announcements([Record(r.topic, r.partition, r.offset, r.key, r.value) for r in records])
            async with self.pipeline.state.turn():
                await self.models.follow()
                while self.models._loading:
                    await asyncio.wait([task for _, task in self.models._loading.values()])
                    await self.models.follow()
        finally:
            logger.removeHandler(said)
        return [line for line in said.lines if line.startswith("ERROR")]


@asynccontextmanager
async def world(lane: Lane, chance: random.Random, folder: Path, **trainer: Any) -> AsyncIterator[World]:
    folder.mkdir(parents=True, exist_ok=True)
    made = World(lane, chance, folder, **trainer)
    await asyncio.to_thread(provision, made.settings)
    yield made
