"""What breaks around the trainer: its disks, its process, its files, its topic, a second trainer. Each round ends with the same comparison.

The event log must equal the topic: every readable record once, by partition and offset. Of the model store every version that is there is
whole, but for those that the round damaged; the models topic says last what the store says; and a worker that follows that topic serves it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import multiprocessing
import os
import random
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import orjson
import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

import workers.trainer.app
from schemas import EventType
from tests.announced import last_announcements
from tests.fault.registry import Lane, Round, scenario
from tests.fault.trainer_entry import FAULTS, TrainingInside, leading, trainer_process
from workers import storage
from workers.bootstrap import open_store
from workers.errors import Fatal, Transient
from workers.kafka.admin import admin_client
from workers.kafka.connection import aiokafka_arguments, aiokafka_producer_arguments
from workers.kafka.offsets import end_offsets_async
from workers.kafka.partitioner import partition_for
from workers.kafka.records import Record
from workers.kafka.topics import provision
from workers.local.embedded import environment
from workers.models.store import ModelStore
from workers.settings import Settings, load_settings
from workers.state.layout import layout_of
from workers.stream.app import StoredModels
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.model_sync import ModelFollower
from workers.stream.pipeline import Pipeline
from workers.stream.reference_topics import Intake
from workers.trainer.event_log import EventLog

PARTITIONS = 2
N_CLUSTERS, PER_CLUSTER, PER_USER = 4, 12, 10
START_MS = 1_700_000_000_000
DEADLINE_S = 60.0
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
                "options": {"ials": {"factors": 8, "epochs": 3}},
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

    # -- publishing ----------------------------------------------------------------------------------------------------------------------

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

    # -- trainers ------------------------------------------------------------------------------------------------------------------------

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

    # -- waiting -------------------------------------------------------------------------------------------------------------------------

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

    # -- comparing -----------------------------------------------------------------------------------------------------------------------

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


# -- disks ---------------------------------------------------------------------------------------------------------------------------------


class Disk:
    """A folder whose file system can be full: a small one of its own where this process may mount, or injected errors."""

    def __init__(self, folder: Path, mounted: bool) -> None:
        self._folder, self._mounted = folder, mounted
        self._writes_left: int | None = None

    def fill(self, left: int) -> None:
        """From now on `left` small files fit."""
        if not self._mounted:
            self._writes_left = left
            return
        ballast = self._folder / "ballast"
        n_bytes = 0
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    n_bytes += file.write(b"x" * PAGE)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            file.truncate(max(n_bytes // PAGE - left, 0) * PAGE)

    def make_room(self) -> None:
        self._writes_left = None
        (self._folder / "ballast").unlink(missing_ok=True)

    def replace(self, path: str, content: bytes) -> None:
        """In the place of the storage's own write, where nothing is mounted."""
        if self._writes_left is not None and Path(path).is_relative_to(self._folder):
            if self._writes_left == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._writes_left -= 1
        _true_replace(path, content)


_true_replace = storage.replace_file


@contextmanager
def small_disk(lane: Lane, folder: Path) -> Iterator[Disk]:
    """A file system of 1 MiB at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    mounted = lane.can("root") and subprocess.run(command, capture_output=True, check=False).returncode == 0
    disk = Disk(folder, mounted)
    try:
        if mounted:
            yield disk
        else:
            with mock.patch.object(storage, "replace_file", disk.replace):
                yield disk
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=True)


@scenario("log_disk_full", alone=True)
async def log_disk_full(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """The disk of the event log fills while events come, and has room again later: nothing is lost, and training starts."""
    with small_disk(lane, folder / "log") as disk:
        async with world(lane, chance, folder) as here:
            async with here.trainer() as (_, said):
                first = chance.randrange(50, ENOUGH - 50)
                await here.publish(first)
                if chance.random() < 0.5:
                    await here.until_logged()
                disk.fill(chance.randrange(0, 2))
                here.faults += 1
                await here.publish(FIRST + MORE - first)
                await here.until(lambda: said.count("WARNING", "waiting", "the disk is full") > 0, "a full disk is told")
                if here.store.champion("ials") is not None:
                    here.differ("a model was trained on a log that could not be written")
                disk.make_room()
                await here.until_logged()
                await here.until_said("ials-000001")
            await here.compare()
            return here.round()


@scenario("model_disk_full", alone=True)
async def model_disk_full(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """The disk of the model store is full when a round wants to store its model: the round fails with a line, the next one works."""
    with small_disk(lane, folder / "models") as disk:
        async with world(lane, chance, folder) as here:
            left = chance.randrange(0, 4)
            disk.fill(left)
            here.faults += 1
            async with here.trainer() as (service, said):
                await here.publish(FIRST)
                await here.until(lambda: service.rounds == 1, "a round that fails")
                await here.until(lambda: said.count("WARNING", "ials", "failed", "the disk is full") == 1, "one line about the full disk")
                if here.store.champion("ials") is not None or await here.serving_said() is not None:
                    here.differ("a model serves that could not be stored")
                unfinished = set(here.store._folders("ials")) - set(here.store.versions("ials"))
                if unfinished:
                    here.differ(f"half a version was left: {sorted(unfinished)}")
                disk.make_room()
                await here.publish(MORE)
                await here.until(lambda: here.store.champion("ials") is not None, "the next round's model")
                await here.until_said(str(here.store.champion("ials")))
            await here.until_logged()
            await here.compare()
            return here.round()


# -- processes -----------------------------------------------------------------------------------------------------------------------------


@scenario("trainer_killed", alone=True)
async def trainer_killed(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """`kill -9` in every phase, one trainer after the other on one log; no child outlives its trainer, and the last one sets all right."""
    async with world(lane, chance, folder) as here:
        before: str | None = None
        for number, fault in enumerate(FAULTS):
            (folder / "survived").unlink(missing_ok=True)
            (folder / "child.pid").unlink(missing_ok=True)
            process = here.process(fault, nth=chance.randint(1, 2) if number < 2 else 1)
            if number < 2:  # below trainer.min_events: nothing is trained yet
                await here.until(lambda number=number: here.said_by_processes("trainer leads") > number, "a leader")  # type: ignore[misc]
                for _ in range(8):  # one after the other, so that they come in several polls, and in segments that merge
                    await here.publish(ENOUGH // 20)
                    await here.until(lambda process=process: process.exitcode is not None or here.logged(), "a segment")  # type: ignore[misc]
                    if process.exitcode is not None:
                        break
            elif fault == "training":
                await here.publish(FIRST - here.n_published)
            await here.until(lambda process=process: process.exitcode is not None, f"{fault}: the trainer is killed")  # type: ignore[misc]
            here.faults += 1
            if process.exitcode != -9:
                here.differ(f"{fault}: the trainer ended with {process.exitcode}")
            if fault in ("training", "saved"):
                child = int((folder / "child.pid").read_text())
                await here.until(lambda child=child: not _alive(child), f"{fault}: the training child ends")  # type: ignore[misc]
                if (folder / "survived").exists():
                    here.differ(f"{fault}: the training child outlived its trainer")
            champion = here.store.champion("ials")
            if (champion is not None) != (fault == "promoted"):
                here.differ(f"{fault}: {champion} is the champion")
            before = await here.serving_said()
            if before is not None:
                here.differ(f"{fault}: {before} was announced already")
        async with here.trainer() as (_, said):
            await here.until_said(str(here.store.champion("ials")))
            await here.until_logged()
            await here.until(lambda: said.count("announced again") > 0, "the promotion that was never announced is announced again")
        if len(here.store.versions("ials")) != 2:
            here.differ(f"the store holds {here.store.versions('ials')}, one saved and one promoted were expected")
        await here.compare()
        return here.round()


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


@scenario("two_trainers", alone=True)
async def two_trainers(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """Two that both believe they lead write the same log and the same store all the time."""
    async with world(lane, chance, folder) as here:
        processes = [here.process() for _ in range(2)]
        try:
            await here.until(lambda: here.said_by_processes("trainer leads") == 2, "two leaders")
            await here.publish(FIRST)
            here.faults += 1
            deadline = time.monotonic() + 3 * DEADLINE_S
            while len(here.store.versions("ials")) < 2 or here.n_published < 2 * FIRST:  # both have trained, or one of them twice
                await here.publish(chance.randrange(MORE // 2, MORE * 2))
                await here.until_logged()
                if time.monotonic() > deadline:
                    raise TimeoutError("two trainers stored fewer than two versions")
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                await asyncio.to_thread(process.join, 20)
                if process.exitcode != 0:
                    here.differ(f"a trainer ended with {process.exitcode}")
                    process.kill()
        if "Traceback" in here.log_file.read_text():
            here.differ("a trainer printed a traceback")
        promoted = [entry.version for entry in here.store.history("ials")]
        if len(set(promoted)) != len(promoted):
            here.differ(f"a version was promoted twice: {promoted}")
        calm = here.settings.model_copy(update={"trainer": here.settings.trainer.model_copy(update={"every_events": 10**9})})
        async with here.trainer(calm) as (_, said):  # whoever leads next says what the store says; this one trains nothing more
            await here.until(lambda: said.count("trainer leads") > 0, "the next leader")
        await here.compare()
        return here.round()


# -- files and topics ----------------------------------------------------------------------------------------------------------------------

DAMAGES = ("flipped", "truncated", "missing")


def damage(path: Path, how: str, chance: random.Random) -> None:
    """Flip one bit, cut the end off, or remove a file."""
    content = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
        return
    if how == "flipped":
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    else:
        del content[chance.randrange(len(content)) :]
    path.write_bytes(content)


@scenario("model_corrupt", alone=True)
async def model_corrupt(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """Three announced versions in a row are damaged before a worker loads them: it keeps the one before, and the trainer goes on."""
    async with world(lane, chance, folder) as here, here.worker() as worker, here.trainer() as (_, said):
        await here.publish(FIRST)
        await here.until_said("ials-000001")
        await worker.follow()
        for number, how in enumerate(chance.sample(DAMAGES, len(DAMAGES)), 2):
            await here.publish(MORE)
            version = f"ials-{number:06d}"
            await here.until_said(version)
            damage(folder / "models/ials" / version / "model.safetensors", how, chance)
            here.damaged.add(version)
            here.faults += 1
            errors = await worker.follow()
            if len(errors) != 1 or version not in errors[0] or "the one before goes on serving" not in errors[0]:
                here.differ(f"{how}: the worker says {errors}")
            if worker.serving != "ials-000001":
                here.differ(f"{how}: the worker serves {worker.serving}")
            if await worker.follow():
                here.differ(f"{how}: the worker says it again")
        await here.publish(MORE)
        await here.until_said("ials-000005")
        await here.until_logged()
        for version in here.damaged:
            if not said.count(version, "cannot be read and counts as none"):
                here.differ(f"the trainer did not say that {version} cannot be read")
        await here.compare(worker)
        return here.round()


@scenario("segment_corrupt", alone=True)
async def segment_corrupt(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """A segment is cut off between two terms, another one while the trainer runs: both are set aside and read from Kafka again."""
    async with world(lane, chance, folder, segment_events=chance.choice((60, 150)), every_events=ONE_ROUND) as here:
        async with here.trainer():
            await here.publish(chance.randrange(300, FIRST))
            await here.until_logged()
        _tear(here, chance.choice(EventLog(here.settings.trainer.log_url).segments()).name)
        async with here.trainer() as (_, said):
            await here.until_logged()
            await here.publish(FIRST)
            await here.until_logged()
            partition = chance.randrange(PARTITIONS)
            _tear(here, EventLog(here.settings.trainer.log_url).segments(partition)[-1].name)
            if chance.random() < 0.5:
                await here.publish(MORE)
            await here.until_logged()
        async with here.trainer() as (_, later):  # a segment that nothing was merged with is found when somebody leads anew
            await here.until(lambda: later.count("trainer leads") > 0, "another term")
            await here.until_logged()
            champion = here.store.champion("ials")
            if champion is None:
                here.differ("nothing was trained")
            else:
                await here.until_said(champion)
        if said.count("is set aside") + later.count("is set aside") != here.faults:
            here.differ(f"{here.faults} segments were torn, the trainer says: {[line for line in said.lines if 'set aside' in line]}")
        await here.compare()
        return here.round()


def _tear(here: World, name: str) -> None:
    damage(Path(here.settings.trainer.log_url) / name, "truncated", here.chance)
    here.faults += 1


@scenario("trainer_topic_recreated", alone=True)
async def trainer_topic_recreated(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """The events topic is deleted and made again: the log of the old one is refused with a remedy and stays as it is; a new log works."""
    async with world(lane, chance, folder, every_events=ONE_ROUND) as here:
        async with here.trainer():
            await here.publish(FIRST)
            await here.until_said("ials-000001")
            await here.until_logged()
        old = _files(here)
        await asyncio.to_thread(_recreate, here.settings)
        here.faults += 1
        here.forget_events()
        await here.publish(chance.randrange(ENOUGH + 50, FIRST))
        async with here.trainer() as (service, said):
            await here.until(lambda: bool(service.crashed), "the trainer stops")
            if said.count("ERROR trainer:", "another topic of that name", "move trainer.log_url away") != 1:
                here.differ(f"the trainer says {said.lines}")
        if _files(here) != old:
            here.differ("the log of the old topic was changed")
        Path(here.settings.trainer.log_url).rename(folder / "old-log")
        async with here.trainer():
            await here.until_logged()
            await here.until_said("ials-000002")
        await here.compare()
        return here.round()


def _files(here: World) -> dict[str, bytes]:
    folder = Path(here.settings.trainer.log_url)
    return {segment.name: (folder / segment.name).read_bytes() for segment in EventLog(str(folder)).segments()}


def _recreate(settings: Settings) -> None:
    with admin_client(settings) as admin:
        admin.delete_topics([settings.topics.events])
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            provision(settings)
            return
        except (Transient, Fatal):  # a cluster deletes when it likes
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_S)
