"""How fast events become state and lists, on the embedded stack, with broker, Redis and worker on this machine.

    [RECSYS_DATA=…] python -m benchmarks.ingest [--events N] [--json]

Stream: the ratings ≥ 4 of MovieLens 1M where RECSYS_DATA has them, else a generated one; the output says which. Every figure is that of
a worker process of its own (`recsys worker stream`), read from outside: watermarks in Redis, ends of topics.

* state: state only (`stream.publish_lists` off), events in time order.
* full: every touched user gets a list, all sources on, iALS and SASRec trained on the same stream. Users interleaved (everybody's first
event, then
  everybody's second, …) at the original times, because a month of MovieLens replayed in a second is a few users, and their events would
  coalesce.
* naive: `benchmarks.naive_faust`, event by event with redis-py, state only.
* decode: a consumer that only polls and validates: the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from rich.console import Console
from rich.table import Table

from benchmarks.datasets import DatasetMissing, Stream, generated_stream, movielens_1m
from recsys.models.base import Model
from recsys.models.interactions import TrainingSet
from recsys.models.registry import MODELS
from schemas.announcements import ModelAction
from schemas.decoding import decode_events, encode
from workers.embedded import EmbeddedStack, environment
from workers.kafka import aiokafka_consumer_arguments, aiokafka_producer_arguments, partition_for
from workers.list_publisher import ListPublisher
from workers.model_store import ModelStore, TrainedOn, open_model_store
from workers.settings import Settings
from workers.store import layout_of, open_store
from workers.topics import end_offsets, provision

PARTITIONS = 4
PRODUCE_BATCH_BYTES = 500_000
TIMEOUT_S = 300.0
POLL_S = 0.02
TRAINED_EVENTS = 100_000


@dataclass(frozen=True, slots=True)
class Rate:
    """Progress between the first and the last look at a running worker."""

    events: int
    lists: int
    seconds: float

    @property
    def events_per_s(self) -> float:
        return self.events / self.seconds

    @property
    def lists_per_s(self) -> float:
        return self.lists / self.seconds


class Bench:
    """One embedded stack; every run has topics, groups and a namespace of its own."""

    def __init__(self, stack: EmbeddedStack, stream: Stream, folder: Path) -> None:
        self.stack, self.stream, self.folder = stack, stream, folder
        self.redis = redis.from_url(stack.redis_url)

    def settings(self, **stream: Any) -> tuple[Settings, dict[str, Any]]:
        """Settings and their sections for one run, with topics made."""
        name = uuid.uuid4().hex[:8]
        sections = self.stack.settings_overrides()
        roles = ("events", "items", "users", "recommendations", "models", "dead_letters")
        sections["topics"] |= {role: f"{name}.{role}" for role in roles} | {"partitions": PARTITIONS}
        sections["redis"] |= {"namespace": name}
        sections["stream"] = {"group_id": name, **stream}
        sections["trainer"] = {"model_url": str(self.folder / "models"), "app_id": f"{name}-t", "log_url": str(self.folder / name)}
        settings = self.stack.settings(**sections)
        provision(settings)
        return settings, sections

    async def publish(self, settings: Settings, order: np.ndarray[Any, Any]) -> None:
        """The events in this order (at the stream's own times, ascending), and the catalogue."""
        stream = self.stream
        events: dict[int, list[tuple[bytes, bytes | None]]] = {}
        for place, i in enumerate(order.tolist()):
            user = stream.users[i]
            record = {
                "event_id": str(i), "user_id": user, "item_id": stream.items[i], "type": "rating",
                "value": float(stream.ratings[i]), "event_ts_ms": int(stream.times_s[place]) * 1000,
            }  # fmt: skip
            events.setdefault(partition_for(user.encode(), PARTITIONS), []).append((user.encode(), json.dumps(record).encode()))
        items: dict[int, list[tuple[bytes, bytes | None]]] = {}
        for item_id, content in stream.content.items():
            record = {"item_id": item_id, "categories": list(content.categories)}
            if content.published_s is not None:
                record["published_ts_ms"] = content.published_s * 1000
            items.setdefault(partition_for(item_id.encode(), PARTITIONS), []).append((item_id.encode(), json.dumps(record).encode()))
        producer = AIOKafkaProducer(
            **aiokafka_producer_arguments(settings), max_batch_size=PRODUCE_BATCH_BYTES, max_request_size=2 * PRODUCE_BATCH_BYTES
        )
        await producer.start()
        try:
            await ListPublisher(producer, settings.topics.items).publish(items)
            await ListPublisher(producer, settings.topics.events).publish(events)
        finally:
            await producer.stop()

    def applied(self, settings: Settings) -> int:
        """Events below the user watermarks."""
        keys = [f"{{{settings.redis.namespace}:p{p}}}:wm" for p in range(PARTITIONS)]
        return sum(int(value.rsplit(b":", 1)[1]) + 1 for value in self.redis.mget(keys) if isinstance(value, bytes))

    def run_worker(self, settings: Settings, sections: dict[str, Any], n_events: int) -> Rate:
        """A worker on a full topic, from its first progress to its last event."""
        env = {"RECSYS_CONFIG": os.devnull, **environment(sections)}
        child = self.stack.start_worker("stream", env)
        try:
            return self.watch(lambda: self.applied(settings), n_events, lambda: self.lists(settings), child.process)
        finally:
            self.stack.stop_workers()

    def watch(self, applied: Callable[[], int], n_events: int, lists: Callable[[], int], process: subprocess.Popen[bytes]) -> Rate:
        """Look until all is applied. Raises RuntimeError when the process ends or time is up."""
        deadline = time.monotonic() + TIMEOUT_S
        started_at, first, first_lists = 0.0, 0, 0
        while True:
            done, now = applied(), time.monotonic()
            if done and not first:
                started_at, first, first_lists = now, done, lists()
            if done >= n_events:
                seconds = now - started_at
                return Rate(done - first, lists() - first_lists, max(seconds, 1e-9))
            if now > deadline or process.poll() is not None:
                raise RuntimeError(f"the worker stopped at {done} of {n_events} events")
            time.sleep(POLL_S)

    def lists(self, settings: Settings) -> int:
        """Lists on the recommendations topic."""
        return sum(end_offsets(settings, [settings.topics.recommendations]).values())

    # -- the runs ------------------------------------------------------------------------------------------------------------------------

    def state(self, n_events: int) -> Rate:
        settings, sections = self.settings(publish_lists=False)
        asyncio.run(self.publish(settings, np.arange(n_events)))
        return self.run_worker(settings, sections, n_events)

    def full(self, n_events: int) -> Rate:
        settings, sections = self.settings()
        asyncio.run(self.publish(settings, interleaved(self.stream)[:n_events]))
        asyncio.run(self.serve_models(settings))
        rate = self.run_worker(settings, sections, n_events)
        sources = {source for item in asyncio.run(_newest_list(settings))["items"] for source in item["sources"]}
        missing = {"cooccurrence", "content", "ials", "sasrec"} - sources
        if missing:
            raise RuntimeError(f"the lists were made without {', '.join(sorted(missing))}")
        return rate

    def naive(self, n_events: int) -> Rate:
        settings, sections = self.settings()
        asyncio.run(self.publish(settings, np.arange(n_events)))
        env = {**os.environ, "RECSYS_CONFIG": os.devnull, **environment(sections), "NAIVE_ID": f"naive-{settings.redis.namespace}"}
        with open(self.folder / "naive.log", "wb") as log, _process([sys.executable, "-m", "benchmarks.naive_faust"], env, log) as process:
            return self.watch(lambda: int(self.redis.get("naive:applied") or 0), n_events, lambda: 0, process)

    def decode(self, n_events: int) -> Rate:
        settings, _ = self.settings()
        asyncio.run(self.publish(settings, np.arange(n_events)))
        return asyncio.run(_only_decode(settings, n_events))

    async def serve_models(self, settings: Settings) -> None:
        """Train both models on the start of the stream and make them the serving ones."""
        stream, n = self.stream, min(TRAINED_EVENTS, len(self.stream))
        item_ids = list(dict.fromkeys(stream.items[:n]))
        numbers = {item_id: number for number, item_id in enumerate(item_ids)}
        users = np.unique(stream.users[:n], return_inverse=True)[1]
        items = np.array([numbers[item_id] for item_id in stream.items[:n]])
        training = TrainingSet.from_columns(users, items, item_ids, np.ones(n, np.float32), stream.times_s[:n] * 1000)
        models = open_model_store(settings)
        store = open_store(settings)
        await store.open(layout_of(settings))
        for order, (kind, options) in enumerate((("ials", {"epochs": 3}), ("sasrec", {"fixed_epochs": 1}))):
            if models.champion(kind) is None:
                fitted = MODELS[kind].fit(training, MODELS[kind].configure(options))
                version = _save(models, fitted, training)
                models.promote(kind, version)
            version = models.champion(kind) or ""
            announcement = models.announcement(kind, version, ModelAction.PROMOTED, champion=None, reason="benchmark")
            await store.set_serving(kind, encode(announcement), order)
        await store.close()


def _save(models: ModelStore, fitted: Model, training: TrainingSet) -> str:
    trained_on = TrainedOn(
        n_events=len(training), first_event_ts_ms=int(training.ts_ms.min()), last_event_ts_ms=int(training.ts_ms.max()), next_offsets={}
    )
    manifest = models.save(
        fitted, parent=None, metrics={}, decision="not judged: for a benchmark of speed", trained_on=trained_on,
        trained_ts_ms=int(time.time() * 1000), train_s=0.0, refit=None, code_version="benchmark",
    )  # fmt: skip
    return str(manifest.version)


async def _newest_list(settings: Settings) -> dict[str, Any]:
    """One of the newest lists on the topic."""
    consumer = AIOKafkaConsumer(**aiokafka_consumer_arguments(settings), group_id=None, enable_auto_commit=False)
    await consumer.start()
    try:
        at = TopicPartition(settings.topics.recommendations, 0)
        consumer.assign([at])
        end = (await consumer.end_offsets([at]))[at]
        consumer.seek(at, end - 1)
        found: dict[str, Any] = json.loads((await consumer.getone()).value)
        return found
    finally:
        await consumer.stop()


def interleaved(stream: Stream) -> np.ndarray[Any, Any]:
    """Positions of the stream's events with users taking turns: everybody's first event, then everybody's second, and so on."""
    users = np.unique(stream.users, return_inverse=True)[1]
    order = np.argsort(users, kind="stable")
    starts = np.searchsorted(users[order], np.arange(users.max() + 1))
    turn = np.empty(len(users), np.int64)
    turn[order] = np.arange(len(users)) - starts[users[order]]
    return np.lexsort((np.arange(len(users)), turn))


async def _only_decode(settings: Settings, n_events: int) -> Rate:
    consumer = AIOKafkaConsumer(
        settings.topics.events,
        **aiokafka_consumer_arguments(settings),
        group_id=None,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    done, started = 0, 0.0
    first = 0
    try:
        while done < n_events:
            polled = await consumer.getmany(timeout_ms=1000, max_records=settings.stream.batch_max_events)
            for records in polled.values():
                times = [r.timestamp for r in records]
                done += len(decode_events([(r.key, r.value) for r in records], record_ts_ms=times, future_skew_ms=300_000))
            if not started and done:
                started, first = time.monotonic(), done
    finally:
        await consumer.stop()
    return Rate(done - first, 0, max(time.monotonic() - started, 1e-9))


@contextmanager
def _process(command: Sequence[str], env: dict[str, str], log: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=300_000, help="events of the state run (default 300,000)")
    parser.add_argument("--full-events", type=int, default=60_000, help="events of the run with lists (default 60,000)")
    parser.add_argument("--naive-events", type=int, default=5_000, help="events of the baseline (default 5,000)")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    try:
        stream, name = movielens_1m(4.0), "MovieLens 1M, ratings of 4 and 5"
    except DatasetMissing:
        stream, name = generated_stream(arguments.events, seed=0), "generated: 6,000 users, 3,500 items, Zipf"
    n_events = min(arguments.events, len(stream))
    console = Console(stderr=False)
    with tempfile.TemporaryDirectory() as folder, EmbeddedStack(Path(folder) / "stack") as stack:
        bench = Bench(stack, stream, Path(folder))
        decode = bench.decode(n_events)
        naive = bench.naive(min(arguments.naive_events, n_events))
        state = bench.state(n_events)
        full = bench.full(min(arguments.full_events, n_events))
    found = {
        "stream": name,
        "n_events": n_events,
        "state_events_per_s": round(state.events_per_s),
        "full_events_per_s": round(full.events_per_s),
        "lists_per_s": round(full.lists_per_s),
        "naive_events_per_s": round(naive.events_per_s),
        "decode_events_per_s": round(decode.events_per_s),
        "ratio_to_naive": round(state.events_per_s / naive.events_per_s, 2),
        "share_of_limit": round(state.events_per_s / decode.events_per_s, 4),
        "cpus": os.cpu_count(),
    }
    table = Table(title=f"ingest — {name}, {os.cpu_count()} CPUs, everything on this machine")
    table.add_column("run")
    table.add_column("events/s", justify="right")
    table.add_column("lists/s", justify="right")
    table.add_column("× naive", justify="right")
    for label, rate in (
        ("state", state),
        ("full, a list for every touched user", full),
        ("naive Faust agent", naive),
        ("decode only (limit)", decode),
    ):
        table.add_row(label, f"{rate.events_per_s:,.0f}", f"{rate.lists_per_s:,.0f}", f"{rate.events_per_s / naive.events_per_s:.1f}")
    console.print(table)
    if arguments.json:
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
