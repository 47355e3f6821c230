"""One embedded stack for benchmarks: topics, events, worker processes, and progress observed from outside."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import redis
from aiokafka import AIOKafkaProducer

from benchmarks.datasets import Stream
from benchmarks.figures import cpu_seconds
from benchmarks.trees import generated_ranker
from recsys.lists.learned.ranker import LearnedRanker
from recsys.models.base import Model
from recsys.models.registry import MODELS
from recsys.models.training_set import TrainingSet
from schemas.announcements import ModelAction
from schemas.decoding import encode
from workers.bootstrap import open_store
from workers.kafka.batch_publisher import ListPublisher
from workers.kafka.connection import aiokafka_producer_arguments
from workers.kafka.offsets import end_offsets, end_offsets_async
from workers.kafka.partitioner import partition_for
from workers.kafka.records import RangeReader
from workers.kafka.topics import provision
from workers.local.embedded import Child, EmbeddedStack, environment
from workers.models.manifest import TrainedOn
from workers.models.store import ModelStore, open_model_store
from workers.settings import Settings
from workers.state.layout import layout_of
from workers.stream.warm_up import compile_all

PARTITIONS = 4
NEWEST_LISTS = 500
"""Lists that a benchmark looks at for the sources that it was to use."""
PRODUCE_BATCH_BYTES = 500_000
TIMEOUT_S = 600.0
POLL_S = 0.02
TRAINED_EVENTS = 100_000
MODEL_OPTIONS: Mapping[str, Mapping[str, int | float]] = {"ials": {"epochs": 3}, "sasrec": {"fixed_epochs": 1}}


@dataclass(frozen=True, slots=True)
class Rate:
    """A worker's progress between two observations, and the processor seconds used, by process."""

    events: int
    lists: int
    seconds: float
    cpu_s: Mapping[str, float] = field(default_factory=dict)

    @property
    def events_per_s(self) -> float:
        return self.events / self.seconds

    @property
    def lists_per_s(self) -> float:
        return self.lists / self.seconds

    def cpu_ms_per_event(self) -> dict[str, float]:
        """Return processor milliseconds per event by process, which equal processor seconds per thousand events."""
        return {name: round(1000 * seconds / max(self.events, 1), 4) for name, seconds in self.cpu_s.items()}


class Bench:
    """An embedded stack on which each run has its own topics, groups and namespace."""

    def __init__(self, stack: EmbeddedStack, stream: Stream, folder: Path, *, partitions: int = PARTITIONS) -> None:
        compile_all()  # before any worker is timed
        self.stack, self.stream, self.folder, self.partitions = stack, stream, folder, partitions
        self.redis = redis.from_url(stack.redis_url)

    def settings(self, more: Mapping[str, Mapping[str, Any]] | None = None, **stream: Any) -> tuple[Settings, dict[str, Any]]:
        """Create the topics of one run and return its settings and their sections. `stream` adds to that section, `more` to any."""
        name = uuid.uuid4().hex[:8]
        sections = self.stack.settings_overrides()
        roles = ("events", "items", "users", "recommendations", "models", "dead_letters")
        sections["topics"] |= {role: f"{name}.{role}" for role in roles} | {"partitions": self.partitions}
        sections["redis"] |= {"namespace": name}
        sections["stream"] = {"group_id": name, **stream}
        sections["trainer"] = {"model_url": str(self.folder / "models"), "app_id": f"{name}-t", "log_url": str(self.folder / name)}
        for section, values in (more or {}).items():
            sections[section] = {**sections.get(section, {}), **values}
        settings = self.stack.settings(**sections)
        provision(settings)
        return settings, sections

    def event_record(self, i: int, at_ms: int, event_id: str | None = None) -> tuple[int, bytes, bytes]:
        """Return partition, key and value of the stream's i-th event, with the event time `at_ms`."""
        user = self.stream.users[i]
        record = {
            "event_id": event_id or str(i), "user_id": user, "item_id": self.stream.items[i], "type": "rating",
            "value": float(self.stream.ratings[i]), "event_ts_ms": at_ms,
        }  # fmt: skip
        key = user.encode()
        return partition_for(key, self.partitions), key, json.dumps(record).encode()

    async def publish(self, settings: Settings, order: np.ndarray[Any, Any], *, catalogue: bool = True) -> None:
        """Publish the catalogue, then the events in this order, with the stream's own ascending times."""
        events: dict[int, list[tuple[bytes, bytes | None]]] = {}
        for place, i in enumerate(order.tolist()):
            partition, key, value = self.event_record(i, int(self.stream.times_s[place]) * 1000)
            events.setdefault(partition, []).append((key, value))
        producer = AIOKafkaProducer(
            **aiokafka_producer_arguments(settings), max_batch_size=PRODUCE_BATCH_BYTES, max_request_size=2 * PRODUCE_BATCH_BYTES
        )
        await producer.start()
        try:
            if catalogue:
                await ListPublisher(producer, settings.topics.items).publish(self.item_records())
            await ListPublisher(producer, settings.topics.events).publish(events)
        finally:
            await producer.stop()

    def item_records(self) -> dict[int, list[tuple[bytes, bytes | None]]]:
        """Return the catalogue's records by partition."""
        items: dict[int, list[tuple[bytes, bytes | None]]] = {}
        for item_id, content in self.stream.content.items():
            record: dict[str, Any] = {"item_id": item_id, "categories": list(content.categories)}
            if content.published_s is not None:
                record["published_ts_ms"] = content.published_s * 1000
            items.setdefault(partition_for(item_id.encode(), self.partitions), []).append((item_id.encode(), json.dumps(record).encode()))
        return items

    def applied(self, settings: Settings) -> int:
        """Return the number of applied events, read from the users' watermarks in Redis."""
        keys = [f"{{{settings.redis.namespace}:p{p}}}:wm" for p in range(self.partitions)]
        return sum(int(value.rsplit(b":", 1)[1]) + 1 for value in self.redis.mget(keys) if isinstance(value, bytes))

    def lists(self, settings: Settings) -> int:
        """Return the number of lists on the recommendations topic."""
        return sum(end_offsets(settings, [settings.topics.recommendations]).values())

    def start_worker(self, sections: Mapping[str, Any]) -> Child:
        """Start a stream worker with these setting sections."""
        return self.stack.start_worker("stream", {"RECSYS_CONFIG": os.devnull, **environment(sections)})

    def run_worker(self, settings: Settings, sections: Mapping[str, Any], n_events: int, *, workers: int = 1) -> Rate:
        """Run workers on a filled topic and measure from their first progress to its last event."""
        children = [self.start_worker(sections) for _ in range(workers)]
        try:
            return self.watch(lambda: self.applied(settings), n_events, lambda: self.lists(settings), [child.process for child in children])
        finally:
            self.stack.stop_workers()

    def run_serving_worker(self, settings: Settings, sections: Mapping[str, Any], order: np.ndarray[Any, Any]) -> Rate:
        """Run a worker, publish the catalogue and these events once it serves lists, and measure up to the last event.

        Events of a filled topic would be applied before a large catalogue is loaded, and their lists deferred.
        """
        asyncio.run(self.publish(settings, order[:1]))
        child = self.start_worker(sections)
        try:
            deadline = time.monotonic() + TIMEOUT_S
            while not self.lists(settings):
                if time.monotonic() > deadline or child.process.poll() is not None:
                    raise RuntimeError("the worker published no list of the first event")
                time.sleep(POLL_S)
            with ThreadPoolExecutor(1) as publishing:
                published = publishing.submit(lambda: asyncio.run(self.publish(settings, order[1:], catalogue=False)))
                rate = self.watch(lambda: self.applied(settings), len(order), lambda: self.lists(settings), [child.process])
                published.result()
            return rate
        finally:
            self.stack.stop_workers()

    def watch(
        self, applied: Callable[[], int], n_events: int, lists: Callable[[], int], processes: Iterable[subprocess.Popen[bytes]]
    ) -> Rate:
        """Poll until all events are applied. Raises: RuntimeError when a process ends or the time is over."""
        processes = list(processes)
        deadline = time.monotonic() + TIMEOUT_S
        started_at, first, first_lists = 0.0, 0, 0
        before: dict[str, float] = {}
        while True:
            done, now = applied(), time.monotonic()
            if done and not first:
                before = self._cpu(processes)
                started_at, first, first_lists = now, done, lists()
            if done >= n_events:
                seconds = now - started_at
                cpu_s = {name: used - before.get(name, 0.0) for name, used in self._cpu(processes).items()}
                return Rate(done - first, lists() - first_lists, max(seconds, 1e-9), cpu_s)
            if now > deadline or any(process.poll() is not None for process in processes):
                raise RuntimeError(f"the worker stopped at {done} of {n_events} events")
            time.sleep(POLL_S)

    def _cpu(self, processes: Iterable[subprocess.Popen[bytes]]) -> dict[str, float]:
        used = {"worker": sum(cpu_seconds(process.pid) for process in processes)}
        for name, child in (("redis", self.stack.valkey), ("broker", self.stack.broker)):
            if child is not None:
                used[name] = cpu_seconds(child.process.pid)
        return used

    async def serve_models(self, settings: Settings, kinds: Iterable[str] = ("ials", "sasrec"), *, with_ranker: bool = False) -> None:
        """Train models of these kinds on the start of the stream, unless the folder has them, and make them the serving ones, and a
        generated ranker beside them if asked."""
        stream, n = self.stream, min(TRAINED_EVENTS, len(self.stream))
        item_ids = list(dict.fromkeys(stream.items[:n]))
        numbers = {item_id: number for number, item_id in enumerate(item_ids)}
        users = np.unique(stream.users[:n], return_inverse=True)[1]
        items = np.array([numbers[item_id] for item_id in stream.items[:n]])
        training = TrainingSet.from_columns(users, items, item_ids, np.ones(n, np.float32), stream.times_s[:n] * 1000)
        models = open_model_store(settings)
        store = open_store(settings)
        await store.open(layout_of(settings))
        kinds = tuple(kinds)
        for order, kind in enumerate((*kinds, LearnedRanker.kind) if with_ranker else kinds):
            if models.champion(kind) is None:
                made = generated_ranker(kinds) if kind == LearnedRanker.kind else _fitted(kind, training)
                models.promote(kind, _save(models, made, training))
            version = models.champion(kind) or ""
            announcement = models.announcement(kind, version, ModelAction.PROMOTED, champion=None, reason="benchmark")
            await store.set_serving(kind, encode(announcement), order)
        await store.close()

    def sources_of_newest_lists(self, settings: Settings) -> set[str]:
        """Return the names of the sources that scored items of the newest lists. A list alone may lack one: of a user with one event."""
        return {source for found in asyncio.run(_newest_lists(settings)) for item in found["items"] for source in item["sources"]}


def _fitted(kind: str, training: TrainingSet) -> Model:
    return MODELS[kind].fit(training, MODELS[kind].configure(dict(MODEL_OPTIONS[kind])))


def _save(models: ModelStore, fitted: Model | LearnedRanker, training: TrainingSet) -> str:
    trained_on = TrainedOn(
        n_events=len(training), first_event_ts_ms=int(training.ts_ms.min()), last_event_ts_ms=int(training.ts_ms.max()), next_offsets={}
    )
    manifest = models.save(
        fitted, parent=None, metrics={}, decision="not judged: a benchmark of speed", trained_on=trained_on,
        trained_ts_ms=int(time.time() * 1000), train_s=0.0, refit=None, code_version="benchmark",
    )  # fmt: skip
    return str(manifest.version)


async def _newest_lists(settings: Settings) -> list[dict[str, Any]]:
    """Read the newest lists of the first partition of the topic."""
    topic = settings.topics.recommendations
    end = (await end_offsets_async(settings, [topic]))[topic, 0]
    found: list[dict[str, Any]] = []
    async with RangeReader(settings, {(topic, 0): max(0, end - NEWEST_LISTS)}, max_records=NEWEST_LISTS) as reader:
        async for polled in reader.until({(topic, 0): end}):
            found += [json.loads(record.value) for record in polled[topic, 0] if record.value is not None]
    return found


def in_turns(stream: Stream, n_events: int) -> np.ndarray[Any, Any]:
    """Return places of the stream's first `n_events` with users in turns; in its own order where no user would have a second turn."""
    order = interleaved(stream)[:n_events]
    has_second_turn = len({stream.users[place] for place in order.tolist()}) < len(order)
    return order if has_second_turn else np.arange(n_events)


def interleaved(stream: Stream) -> np.ndarray[Any, Any]:
    """Return the stream's event positions with users in turns: the first event of each user, then the second of each, and so on."""
    users = np.unique(stream.users, return_inverse=True)[1]
    order = np.argsort(users, kind="stable")
    starts = np.searchsorted(users[order], np.arange(users.max() + 1))
    turn = np.empty(len(users), np.int64)
    turn[order] = np.arange(len(users)) - starts[users[order]]
    return np.lexsort((np.arange(len(users)), turn))
