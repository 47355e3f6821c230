"""How fast events become state and lists, on the embedded stack, with broker, Redis and worker on this machine.

    [RECSYS_DATA=…] python -m benchmarks.ingest [--stream ml-1m|zipf|generated] [--events N] [--only state …] [--repeats N] [--json]

Streams: `ml-1m`, the ratings ≥ 4 of MovieLens 1M (where RECSYS_DATA has them, else `generated`: 6,000 users and 3,500 items); `zipf`, 200
thousand users and 100 thousand items, both by Zipf. Every figure is that of a worker process of its own (`recsys worker stream`), read from
outside: watermarks in Redis, ends of topics.

* state: state only (`stream.publish_lists` off), events in time order.
* full: every touched user gets a list, all sources on, iALS and SASRec trained on the same stream. Users interleaved (everybody's first
  event, then everybody's second, …) at the original times, because a month of MovieLens replayed in a second is a few users, and their
  events would coalesce; of one partition, because a batch of a backlog is of one, and a quarter of the users would be in it three times.
  `lists_per_event` says how far that went. `without_sequence` is the same without SASRec.
* naive: `benchmarks.naive_faust`, event by event with redis-py, state only: the baseline.
* decode: a consumer that only polls and validates. redis: the very commands that the state path sends, written to a file and replayed by a
  C client. The slower of the two is the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hiredis
import numpy as np
from aiokafka import AIOKafkaConsumer

from benchmarks.bench import Bench, Rate, interleaved
from benchmarks.datasets import DatasetMissing, Stream, generated_stream, movielens_1m, zipf_stream
from benchmarks.figures import Spread, emit
from schemas.decoding import decode_events
from workers.bootstrap import open_store
from workers.kafka.connection import aiokafka_consumer_arguments
from workers.local.embedded import EmbeddedStack, environment
from workers.redis.connection import Command, Link
from workers.redis.store import RedisStore
from workers.settings import Settings
from workers.stream.micro_batch import SourceRecord
from workers.stream.pipeline import Pipeline

RUNS = ("decode", "redis", "naive", "state", "full", "without_sequence")
LEAST_EVENTS = 20_000
COMPACT_EVERY = 4
"""Batches between two compactions when commands are recorded; a worker compacts by the clock."""

PAIR = ("decode", "state")
"""What takes seconds and is told as one's share of the other: both are worth repeating where the rest is not."""


def state(bench: Bench, n_events: int) -> Rate:
    """State only."""
    settings, sections = bench.settings(publish_lists=False)
    asyncio.run(bench.publish(settings, np.arange(n_events)))
    return bench.run_worker(settings, sections, n_events)


def full(bench: Bench, n_events: int, kinds: Sequence[str] = ("ials", "sasrec")) -> Rate:
    """State and a list for every touched user."""
    settings, sections = bench.settings()
    asyncio.run(bench.publish(settings, interleaved(bench.stream)[:n_events]))
    asyncio.run(bench.serve_models(settings, kinds))
    rate = bench.run_worker(settings, sections, n_events)
    missing = {"cooccurrence", "content", *kinds} - bench.sources_of_newest_list(settings)
    if missing:
        raise RuntimeError(f"the lists were made without {', '.join(sorted(missing))}")
    return rate


def naive(bench: Bench, n_events: int) -> Rate:
    """The baseline."""
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
    """Poll and validate, nothing else."""
    settings, _ = bench.settings()
    asyncio.run(bench.publish(settings, np.arange(n_events)))
    return asyncio.run(_only_decode(settings, n_events))


def redis_only(bench: Bench, n_events: int) -> Rate:
    """The commands of the state path, replayed by a C client on an empty namespace."""
    settings, _ = bench.settings(publish_lists=False)
    commands = bench.folder / f"{settings.redis.namespace}.resp"
    n_commands = asyncio.run(_record_commands(bench, settings, n_events, commands))
    for keys in _pages(bench.redis.scan_iter(f"{{{settings.redis.namespace}:*", count=1_000), 1_000):
        bench.redis.delete(*keys)
    return Rate(n_events, 0, replay(commands, n_commands, bench.stack.redis_url))


async def _record_commands(bench: Bench, settings: Settings, n_events: int, path: Path) -> int:
    """Run a pipeline over the stream in this process and write down what it sends from its first batch on; how many commands."""
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
            out.writelines(hiredis.pack_command(command.args) for command in commands)
            return await attempt(commands)

        link._attempt = recording  # type: ignore[method-assign]
        ends = dict.fromkeys(range(bench.partitions), 0)
        for number, start in enumerate(range(0, n_events, settings.stream.batch_max_events)):
            batch: dict[int, list[SourceRecord]] = {}
            for i in range(start, min(n_events, start + settings.stream.batch_max_events)):
                at_ms = int(bench.stream.times_s[i]) * 1000
                partition, key, value = bench.event_record(i, at_ms)
                batch.setdefault(partition, []).append(SourceRecord(ends[partition], key, value, at_ms))
                ends[partition] += 1
            await pipeline.process(batch)
            if number % COMPACT_EVERY == 0:
                await pipeline.mirror.compact()
    await store.close()
    return n_commands


def replay(path: Path, n_commands: int, redis_url: str) -> float:
    """Seconds that the server takes for a file of commands: sent by valkey-cli or redis-cli where there is one, else by a socket here."""
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


def chosen_stream(name: str, n_events: int) -> tuple[Stream, str]:
    """The stream of that name, and what to call it."""
    if name == "zipf":
        return zipf_stream(n_events, seed=0), "Zipf: 200,000 users, 100,000 items"
    if name == "ml-1m":
        try:
            return movielens_1m(4.0), "MovieLens 1M, ratings of 4 and 5"
        except DatasetMissing:
            pass
    return generated_stream(n_events, seed=0), "generated: 6,000 users, 3,500 items"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stream", choices=("ml-1m", "zipf", "generated"), default="ml-1m")
    parser.add_argument("--events", type=int, default=300_000, help="events of the state run (default 300,000)")
    parser.add_argument("--full-events", type=int, default=60_000, help="events of the runs with lists (default 60,000)")
    parser.add_argument("--naive-events", type=int, default=5_000, help="events of the baseline (default 5,000)")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), metavar="RUN", help=f"of {', '.join(RUNS)}")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each kind; the median counts")
    parser.add_argument("--state-repeats", type=int, default=0, help=f"of {' and '.join(PAIR)}, where that is more; they take turns")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    if arguments.events < LEAST_EVENTS:
        parser.error(f"--events: at least {LEAST_EVENTS:,}, or there is nothing between the first look and the last")
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
        }
        for done in range(max(repeats.values())):  # kinds take turns, so that a busy minute of the machine meets all of them
            for run in arguments.only:
                if done < repeats[run]:
                    rates[run].append(runs[run]())
    figures, rows = _figures(rates)
    emit(
        "ingest",
        name,
        ("run", "events/s", "lists/s", "processor ms an event: worker, redis, broker"),
        rows,
        {"stream": arguments.stream, "stream_name": name, "n_events": n_events, "seed": 0, "repeats": arguments.repeats, **figures},
        as_json=arguments.json,
    )
    return 0


def _figures(rates: dict[str, list[Rate]]) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    """Figures by key, and the table's rows."""
    events = {run: Spread(tuple(rate.events_per_s for rate in found)) for run, found in rates.items()}
    lists = {run: Spread(tuple(rate.lists_per_s for rate in rates[run])) for run in ("full", "without_sequence") if run in rates}
    figures: dict[str, Any] = {}
    for run, spread in events.items():
        figures[f"{run}_repeats"] = len(rates[run])
        figures |= {f"{run}_events_per_s": round(spread.median), f"{run}_events_per_s_low": round(spread.low)}
        figures[f"{run}_events_per_s_high"] = round(spread.high)
    for run, key in (("full", "lists_per_s"), ("without_sequence", "lists_without_sequence_per_s")):
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
    rows = [
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
    sys.exit(main())
