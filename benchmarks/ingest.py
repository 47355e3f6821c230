"""Measure how fast events become state and lists, on an embedded stack: broker, Redis and worker on this machine.

Examples:
    python -m benchmarks.ingest
    python -m benchmarks.ingest --stream zipf --only state --repeats 3
    RECSYS_DATA=… python -m benchmarks.ingest --json

Streams: `ml-1m`, the ratings of 4 and 5 of MovieLens 1M (RECSYS_DATA names the folder; without it `generated`, 6,000 users and 3,500
items); `zipf`, 200,000 users and 100,000 items drawn by Zipf's law. Each figure comes from a worker process of its own (`recsys worker
stream`), observed from outside: watermarks in Redis, ends of topics.

Runs:
* state: state only (`stream.publish_lists` off), events in order of time.
* full: a list for every touched user, all sources on, iALS and SASRec trained on the same stream. Users are interleaved (the first event of
  each user, then the second of each, …) at the original times: a month of MovieLens replayed in a second would be a few users whose events
  coalesce. There is one partition, because a batch of a backlog comes from one partition and would hold a quarter of the users three times.
  `lists_per_event` shows how many events still coalesced.
* without_sequence: the same without SASRec.
* homepage: the same as full with a ranker of as many trees as a trained one, and with `HOMEPAGE`: rules, freshness, calibration,
  diversity, caps and reasons.
* naive: `benchmarks.naive_faust`, event by event with redis-py, state only: the baseline.
* decode: a consumer that only polls and validates.
* redis: the commands that the state path sends, replayed from a file by a C client. The slower of decode and redis is the limit.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hiredis
import numpy as np
from aiokafka import AIOKafkaConsumer

from benchmarks.bench import Bench, Rate, in_turns
from benchmarks.datasets import chosen_stream
from benchmarks.figures import Spread, benchmark_parser, emit, run_benchmark
from schemas.decoding import decode_events
from workers.bootstrap import open_store
from workers.kafka.connection import aiokafka_consumer_arguments
from workers.kafka.records import Record
from workers.local.embedded import EmbeddedStack, environment
from workers.redis.commands import Command
from workers.redis.connection import Link
from workers.redis.store import RedisStore
from workers.settings import Settings
from workers.stream.pipeline import Pipeline

RUNS = ("decode", "redis", "naive", "state", "full", "without_sequence", "homepage")
OF_LISTS: Mapping[str, str] = {
    "full": "lists_per_s",
    "without_sequence": "lists_without_sequence_per_s",
    "homepage": "lists_with_homepage_per_s",
}
"""Runs that make lists, and the keys of their lists per second."""
HOMEPAGE: Mapping[str, Any] = {
    "rules": [
        {"name": "no documentaries", "when": '"Documentary" in item.categories', "action": "deny"},
        {"name": "westerns later", "when": '"Western" in item.categories', "action": "bury", "amount": 1.0},
        {"name": "recent films first", "when": "has(item.age_days) && item.age_days < 365.0", "action": "boost", "amount": 0.5},
    ],
    "freshness": {"weight": 0.2},
    "calibration": {"strength": 0.1},
    "diversity": {"kind": "dpp"},
    "caps": [{"by": "category", "most": 6}],
    "reasons": True,
}
"""Settings of `lists` with rules of three actions, every stage and reasons on."""
LEAST_EVENTS = 20_000
LARGE_CATALOGUE = 20_000
"""Items that take a worker longer to load than a run's events."""
COMPACT_EVERY = 4
"""Batches between two compactions while commands are recorded. A worker compacts by the clock."""

PAIR = ("decode", "state")
"""Short runs whose ratio is reported, so `--state-repeats` repeats both."""


def state(bench: Bench, n_events: int) -> Rate:
    """Measure the state path alone."""
    settings, sections = bench.settings(publish_lists=False)
    asyncio.run(bench.publish(settings, np.arange(n_events)))
    return bench.run_worker(settings, sections, n_events)


def full(
    bench: Bench, n_events: int, kinds: Sequence[str] = ("ials", "sasrec"), lists: Mapping[str, Any] | None = None
) -> Rate:
    """Measure the state path with a list for every touched user. With `lists`, settings of that section, a ranker serves too."""
    settings, sections = bench.settings({"lists": lists} if lists else None)
    order = in_turns(bench.stream, n_events)
    if len(bench.stream.content) > LARGE_CATALOGUE:
        asyncio.run(bench.serve_models(settings, kinds, with_ranker=bool(lists)))
        rate = bench.run_serving_worker(settings, sections, order)
    else:
        asyncio.run(bench.publish(settings, order))
        asyncio.run(bench.serve_models(settings, kinds, with_ranker=bool(lists)))
        rate = bench.run_worker(settings, sections, n_events)
    used = bench.sources_of_newest_lists(settings)
    if not used:
        raise RuntimeError("no list was published before the last event was applied: raise --full-events")
    missing = {"cooccurrence", "content", *kinds} - used
    if missing:
        raise RuntimeError(f"the lists were made without {', '.join(sorted(missing))}")
    return rate


def naive(bench: Bench, n_events: int) -> Rate:
    """Measure the baseline."""
    settings, sections = bench.settings()
    asyncio.run(bench.publish(settings, np.arange(n_events)))
    bench.redis.delete("naive:applied")
    env = {**os.environ, "RECSYS_CONFIG": os.devnull, **environment(sections), "NAIVE_ID": f"naive-{settings.redis.namespace}"}
    with open(bench.folder / "naive.log", "wb") as log, _process([sys.executable, "-m", "benchmarks.naive_faust"], env, log) as process:
        rate = bench.watch(lambda: int(bench.redis.get("naive:applied") or 0), n_events, lambda: 0, [process])
    for keys in _pages(bench.redis.scan_iter("naive:*", count=1_000), 1_000):
        bench.redis.delete(*keys)
    return rate


def decode(bench: Bench, n_events: int) -> Rate:
    """Measure a consumer that only polls and validates."""
    settings, _ = bench.settings()
    asyncio.run(bench.publish(settings, np.arange(n_events)))
    return asyncio.run(_only_decode(settings, n_events))


def redis_only(bench: Bench, n_events: int) -> Rate:
    """Measure the commands of the state path, replayed by a C client on an empty namespace."""
    settings, _ = bench.settings(publish_lists=False)
    commands = bench.folder / f"{settings.redis.namespace}.resp"
    n_commands = asyncio.run(_record_commands(bench, settings, n_events, commands))
    for keys in _pages(bench.redis.scan_iter(f"{{{settings.redis.namespace}:*", count=1_000), 1_000):
        bench.redis.delete(*keys)
    return Rate(n_events, 0, replay(commands, n_commands, bench.stack.redis_url))


async def _record_commands(bench: Bench, settings: Settings, n_events: int, path: Path) -> int:
    """Run a pipeline over the stream, write its commands to a file and return their number."""
    store = open_store(settings)
    assert isinstance(store, RedisStore)
    pipeline = Pipeline(settings, store, ranks=False)
    await pipeline.open()
    await pipeline.assign(range(bench.partitions), "recorded")
    n_commands = 0
    with path.open("wb") as out:
        link: Link = store._link
        attempt = link._attempt

        async def recording(commands: Sequence[Command]) -> list[Any]:
            nonlocal n_commands
            n_commands += len(commands)
            out.writelines(hiredis.pack_command(command.args) for command in commands)  # type: ignore[arg-type]
            return await attempt(commands)

        link._attempt = recording  # type: ignore[method-assign]
        ends = dict.fromkeys(range(bench.partitions), 0)
        for number, start in enumerate(range(0, n_events, settings.stream.batch_max_events)):
            batch: dict[int, list[Record]] = {}
            for i in range(start, min(n_events, start + settings.stream.batch_max_events)):
                at_ms = int(bench.stream.times_s[i]) * 1000
                partition, key, value = bench.event_record(i, at_ms)
                batch.setdefault(partition, []).append(Record("events", partition, ends[partition], key, value, at_ms))
                ends[partition] += 1
            await pipeline.process(batch)
            if number % COMPACT_EVERY == 0:
                await pipeline.state.compact_rows()
    await store.close()
    return n_commands


def replay(path: Path, n_commands: int, redis_url: str) -> float:
    """Return the seconds that the server takes for a file of commands, sent by valkey-cli, redis-cli or a socket of this process."""
    port = int(redis_url.rsplit(":", 1)[1].split("/", 1)[0])
    client = shutil.which("valkey-cli") or shutil.which("redis-cli")
    started = time.perf_counter()
    if client is not None:
        with open(path, "rb") as commands:
            said = subprocess.run([client, "-p", str(port), "--pipe"], stdin=commands, capture_output=True, text=True, check=True).stdout
        if "errors: 0" not in said:
            raise RuntimeError(f"replaying the commands failed: {said.strip().splitlines()[-1]}")
    else:
        _replay_here(path, n_commands, port)
    return time.perf_counter() - started


def _replay_here(path: Path, n_commands: int, port: int) -> None:
    reader = hiredis.Reader()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        sending = threading.Thread(target=lambda: connection.sendall(path.read_bytes()))
        sending.start()
        answered = 0
        while answered < n_commands:
            reader.feed(connection.recv(1 << 20))
            while (answer := reader.gets()) is not False:
                if isinstance(answer, hiredis.ReplyError):
                    raise RuntimeError(f"replaying the commands failed: {answer}")
                answered += 1
        sending.join()


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


def _pages(keys: Iterator[Any], size: int) -> Iterator[list[Any]]:
    page: list[Any] = []
    for key in keys:
        page.append(key)
        if len(page) == size:
            yield page
            page = []
    if page:
        yield page


@contextmanager
def _process(command: Sequence[str], env: dict[str, str], log: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--stream", choices=("ml-1m", "zipf", "generated"), default="ml-1m", help="the events (default: ml-1m)")
    parser.add_argument("--events", type=int, default=300_000, help="events of the state run (default: 300,000)")
    parser.add_argument("--full-events", type=int, default=60_000, help="events of the runs with lists (default: 60,000)")
    parser.add_argument("--naive-events", type=int, default=5_000, help="events of the baseline (default: 5,000)")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), metavar="RUN", help=f"run only these: {', '.join(RUNS)}")
    parser.add_argument("--repeats", type=int, default=1, help="repeats of each run; the median counts (default: 1)")
    parser.add_argument("--state-repeats", type=int, default=0, help=f"repeats of {' and '.join(PAIR)}, if higher; they take turns")
    arguments = parser.parse_args()
    if arguments.events < LEAST_EVENTS:
        parser.error(f"--events: at least {LEAST_EVENTS:,}, fewer are processed before the first measurement")
    stream, name = chosen_stream(arguments.stream, arguments.events)
    n_events = min(arguments.events, len(stream))
    n_full, n_naive = min(arguments.full_events, n_events), min(arguments.naive_events, n_events)
    repeats = {run: max(arguments.repeats, arguments.state_repeats if run in PAIR else 0) for run in arguments.only}
    rates: dict[str, list[Rate]] = {run: [] for run in arguments.only}
    with tempfile.TemporaryDirectory() as folder, EmbeddedStack(Path(folder) / "stack") as stack:
        bench, of_one = Bench(stack, stream, Path(folder)), Bench(stack, stream, Path(folder), partitions=1)
        runs = {
            "decode": lambda: decode(bench, n_events),
            "redis": lambda: redis_only(bench, n_events),
            "naive": lambda: naive(bench, n_naive),
            "state": lambda: state(bench, n_events),
            "full": lambda: full(of_one, n_full),
            "without_sequence": lambda: full(of_one, n_full, ("ials",)),
            "homepage": lambda: full(of_one, n_full, lists=HOMEPAGE),
        }
        for done in range(max(repeats.values())):  # runs take turns, so that a busy minute of the machine affects all of them
            for run in arguments.only:
                if done < repeats[run]:
                    rates[run].append(runs[run]())
    figures, rows = _figures(rates)
    emit(
        "ingest",
        name,
        ("run", "events/s", "lists/s", "processor ms per event: worker, redis, broker"),
        rows,
        {"stream": arguments.stream, "stream_name": name, "n_events": n_events, "seed": 0, "repeats": arguments.repeats, **figures},
        as_json=arguments.json,
    )
    return 0


def _figures(rates: dict[str, list[Rate]]) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    """Return figures by key, and the table's rows."""
    events = {run: Spread(tuple(rate.events_per_s for rate in found)) for run, found in rates.items()}
    lists = {run: Spread(tuple(rate.lists_per_s for rate in rates[run])) for run in OF_LISTS if run in rates}
    figures: dict[str, Any] = {}
    for run, spread in events.items():
        figures[f"{run}_repeats"] = len(rates[run])
        figures |= {f"{run}_events_per_s": round(spread.median), f"{run}_events_per_s_low": round(spread.low)}
        figures[f"{run}_events_per_s_high"] = round(spread.high)
    for run, key in OF_LISTS.items():
        if run in lists:
            figures[key] = round(lists[run].median)
            figures[f"{run}_lists_per_event"] = round(rates[run][-1].lists / max(rates[run][-1].events, 1), 3)
    if "state" in events and "naive" in events:
        figures["ratio_to_naive"] = round(events["state"].median / events["naive"].median, 2)
    if {"state", "decode", "redis"} <= events.keys():
        limit = min(("decode", "redis"), key=lambda run: events[run].median)
        figures |= {"limit": limit, "limit_events_per_s": round(events[limit].median)}
        figures["share_of_limit"] = round(events["state"].median / events[limit].median, 4)
    for run in rates:
        if rates[run][0].cpu_s:
            figures[f"{run}_cpu_s_per_1000_events"] = rates[run][-1].cpu_ms_per_event()
    rows: list[tuple[str, ...]] = [
        (
            run,
            str(spread),
            str(lists.get(run, "")),
            ", ".join(f"{used:.3f}" for used in rates[run][-1].cpu_ms_per_event().values()),
        )
        for run, spread in events.items()
    ]
    return figures, rows


if __name__ == "__main__":
    run_benchmark(main)
