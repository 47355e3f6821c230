"""Measure the time from an event to its user's list, on an embedded stack: broker, Redis and worker on this machine.

Examples:
    python -m benchmarks.freshness --load 0.5
    KAFKA_HOME=… python -m benchmarks.freshness --load 0.5 --broker kafka --json
    RECSYS_DATA=… python -m benchmarks.freshness --rate 500 1000 --seconds 30

1. The state is built from the start of the stream.
2. A worker (`recsys worker stream`, all sources on, iALS and SASRec serving) processes a backlog, one list per event:
   `backlog_events_per_s`.
3. The same worker is overloaded for some seconds; its rate then is the maximum, `max_rate_events_per_s`. `--load` is a share of it. (With
   `--rate`, loads are events per second and no maximum is measured.)
4. Each load runs on a state built in the same way. An Apache Kafka keeps running from one load to the next, Redis is emptied.

The load is open: a separate process hands single events to its producer at random times (Poisson, seeded) and never waits for answers.
The producer lingers for `--linger-ms`: 5 ms, as `EventPublisher` and Kafka's own client since 4.0 do; with 0 every event is a batch. This
process consumes the lists. Both use librdkafka, which needs little of the machine.

An event's latency runs from the time at which it was due, not from when it was sent, to the first consumed list of its user whose trigger
is at or after the event's offset. So neither a stalled generator nor a stalled worker hides anything. Each user's events are dealt to four
users and users are interleaved, so that events do not coalesce. The first seconds of each load do not count (`--warm-up`): five, and thirty
for the first load on an Apache Kafka, whose JVM is still compiling.

The table's "broker" column is one hop: the same events at the same times through a topic without a worker, from due to consumed. It is the
limit on this machine; an event's list takes two hops. The embedded broker becomes slower with the number of batches in a topic, so long
runs measure the broker. Apache Kafka does not.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import chosen_stream
from benchmarks.figures import Spread, benchmark_parser, cpu_seconds, emit, run_benchmark
from benchmarks.live import LiveBench, consuming, live_arguments, stack_on, until_listed_s
from benchmarks.open_load import OpenLoad, arrivals
from workers.kafka.offsets import end_offsets
from workers.settings import Settings

LOADS = (0.1, 0.5, 0.8)
STREAM_EVENTS = 400_000
"""Events of a generated stream, which repeats after its end."""
WARM_EVENTS = 150_000
"""Events from which the state is built first."""
BACKLOG_EVENTS = 30_000
SATURATED_S = 6.0
"""Duration of the overload that finds the maximum, after the warm-up."""
WARM_UP_S = {"embedded": 5.0, "kafka": 30.0}
"""Seconds of the first load that do not count."""
WARM_S = 5.0
"""Upper bound on that for later loads: an Apache Kafka that goes on is warm by then."""
DRAIN_S = 60.0
"""Lists of the last events must arrive within this time."""
CORES = ("worker", "redis", "broker", "reader", "load")
F64 = NDArray[np.float64]
PERCENTILES = {"p50_ms": 50.0, "p90_ms": 90.0, "p99_ms": 99.0, "p999_ms": 99.9, "max_ms": 100.0}


@dataclass(frozen=True, slots=True)
class Load:
    """Events per second at random times drawn from `seed`: `warm_up_s` seconds that do not count, then `seconds` that do."""

    rate: float
    seconds: float
    warm_up_s: float
    seed: int
    linger_ms: int

    @property
    def name(self) -> str:
        return f"{self.seed}-{self.rate:.0f}"

    def due_s(self) -> F64:
        """Return when each event is due, in seconds after the start, (n,)."""
        return arrivals(int(self.rate * (self.warm_up_s + self.seconds)), self.rate, self.seed)


async def latencies(bench: LiveBench, load: Load, pids: Mapping[str, int]) -> dict[str, Any]:
    """Run a load against a running worker and return the latencies of its events' lists."""
    due_s = load.due_s()
    plan = bench.plan(due_s, linger_ms=load.linger_ms)
    _, offsets = plan.places()
    lasts = plan.lasts()
    sending = OpenLoad(plan, bench.folder, f"load-{load.name}")
    try:
        async with consuming(bench.live, bench.live.topics.recommendations, triggers=True) as seen:
            before = {**{name: cpu_seconds(pid) for name, pid in pids.items()}, "reader": time.process_time()}
            waited_s = cpu_wait_seconds(pids["worker"])
            started_s = sending.start()
            sent = await sending.finish()
            waited_s = cpu_wait_seconds(pids["worker"]) - waited_s
            after = {**{name: cpu_seconds(pid) for name, pid in pids.items()}, "reader": time.process_time()}
            if not await seen.until(lasts, DRAIN_S):
                raise RuntimeError(f"at {load.rate:.0f} events/s the worker fell behind: no list of the last events within {DRAIN_S:g} s")
    finally:
        sending.close()
    _check_ends(bench.live, plan.topic, lasts)
    lists = [(key, trigger, consumed_s) for key, _, trigger, consumed_s in seen.records]
    latency_s = until_listed_s([key for _, key, _ in plan.records], offsets, due_s + started_s, lists)
    if np.isnan(latency_s).any():
        raise RuntimeError(f"{int(np.isnan(latency_s).sum())} events have no list")
    counted = due_s >= load.warm_up_s
    span_s = float(due_s[-1])
    cpu_s = {**{name: after[name] - before[name] for name in before}, "load": sent.cpu_s}
    return {
        **_percentiles(latency_s[counted]),
        "late_sends_p99_ms": round(1000 * float(np.percentile(sent.late_s[counted], 99)), 3),
        "rate_events_per_s": round(load.rate),
        "n_events": int(counted.sum()),
        "n_lists": len(lists),
        "events_per_list": round(len(due_s) / len(lists), 3),
        "worker_cpu_wait_share": round(waited_s / span_s, 3),
        "cpu_share": {name: round(used / span_s, 3) for name, used in cpu_s.items()},
    }


async def maximal_rate(bench: LiveBench, load: Load) -> float:
    """Return the events per second that the worker processes under overload while lists are consumed. It must finish all of them."""
    plan = bench.plan(load.due_s(), linger_ms=load.linger_ms)
    lasts = plan.lasts()
    sending = OpenLoad(plan, bench.folder, f"maximum-{load.name}")
    try:
        async with consuming(bench.live, bench.live.topics.recommendations, triggers=True) as seen:
            started_s = sending.start()
            await sending.finish()
            ended_s = time.monotonic()
            if not await seen.until(lasts, DRAIN_S):
                raise RuntimeError(f"the worker did not finish {load.rate:.0f} events/s within {DRAIN_S:g} s after the load")
    finally:
        sending.close()
    first_s = started_s + load.warm_up_s
    counted = [consumed_s for *_, consumed_s in seen.records if first_s <= consumed_s < ended_s]
    return len(counted) / (ended_s - first_s)


async def bare_broker(bench: LiveBench, load: Load) -> dict[str, float]:
    """Send the same events through a topic that no worker reads and return their latencies."""
    settings, _ = bench.settings()
    due_s = load.due_s()
    plan = bench.plan(due_s, settings, linger_ms=load.linger_ms)
    partitions, offsets = plan.places()
    lasts = plan.lasts()
    sending = OpenLoad(plan, bench.folder, f"broker-{load.name}")
    try:
        async with consuming(settings, plan.topic, triggers=False) as seen:
            started_s = sending.start()
            await sending.finish()
            if not await seen.until(lasts, DRAIN_S):
                raise RuntimeError("the bare broker fell behind")
    finally:
        sending.close()
    _check_ends(settings, plan.topic, lasts)
    consumed_s = {(partition, offset): at_s for _, partition, offset, at_s in seen.records}
    places = zip(partitions.tolist(), offsets.tolist(), strict=True)
    trip_s = np.array([consumed_s[place] for place in places]) - (due_s + started_s)
    return {f"broker_{name}": value for name, value in _percentiles(trip_s[due_s >= load.warm_up_s]).items()}


def cpu_wait_seconds(pid: int) -> float:
    """Return the seconds for which a process's main thread was runnable without a processor (Linux). High values mean a busy machine."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def _check_ends(settings: Settings, topic: str, lasts: Mapping[int, int]) -> None:
    """Check that every record is in the topic exactly once: the offsets were computed, not read from the broker."""
    ends = {partition: end for (_, partition), end in end_offsets(settings, [topic]).items()}
    wrong = [partition for partition, last in lasts.items() if ends[partition] != last + 1]
    if wrong:
        raise RuntimeError(f"partitions {wrong} do not end where the load ended: a record was lost or sent twice")


def _percentiles(latency_s: F64) -> dict[str, float]:
    found = np.percentile(latency_s, list(PERCENTILES.values()))
    return {name: round(1000 * float(value), 2) for name, value in zip(PERCENTILES, found, strict=True)}


def maximum(bench: LiveBench, n_warm: int, warm_up_s: float, seed: int, linger_ms: int) -> dict[str, int]:
    """Return the maximal rate of a worker on a backlog, and under load."""
    bench.warm_up(n_warm)
    backlog = bench.work_off(bench.serving_worker(), BACKLOG_EVENTS)
    top = asyncio.run(maximal_rate(bench, Load(backlog.events_per_s, SATURATED_S, warm_up_s, seed, linger_ms)))
    return {"max_rate_events_per_s": round(top), "backlog_events_per_s": round(backlog.events_per_s)}


def measure_load(bench: LiveBench, n_warm: int, load: Load) -> dict[str, Any]:
    """Measure one load against a worker, then the broker alone at the same rate."""
    bench.warm_up(n_warm)
    worker = bench.serving_worker()
    gc.collect()
    gc.freeze()  # no collection walks these objects while latencies are measured
    assert bench.stack.valkey is not None
    assert bench.stack.broker is not None
    pids = {"worker": worker.process.pid, "redis": bench.stack.valkey.process.pid, "broker": bench.stack.broker.process.pid}
    found = asyncio.run(latencies(bench, load, pids))
    bench.stack.stop_workers()
    found |= asyncio.run(bare_broker(bench, load))
    for name in ("p50", "p99"):
        found[f"ratio_to_broker_{name}"] = round(found[f"{name}_ms"] / found[f"broker_{name}_ms"], 2)
    return found


def measure(make: Callable[[], AbstractContextManager[LiveBench]], arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the maximum and every load `repeats` times, each on an emptied Redis and a newly built state."""
    wanted = [f"{rate:g}/s" for rate in arguments.rate] or [f"{share:g}" for share in arguments.load]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in wanted}
    warm_up_s = arguments.warm_up
    for repeat in range(arguments.repeats):
        seed, rates, top = arguments.seed + repeat, arguments.rate, {}
        if not rates:
            with make() as bench:
                top = maximum(bench, arguments.warm_events, warm_up_s, seed, arguments.linger_ms)
            warm_up_s = min(warm_up_s, WARM_S)
            rates = [share * top["max_rate_events_per_s"] for share in arguments.load]
        for name, rate in zip(wanted, rates, strict=True):
            with make() as bench:
                load = Load(rate, arguments.seconds, warm_up_s, seed, arguments.linger_ms)
                runs[name].append(top | measure_load(bench, arguments.warm_events, load))
            warm_up_s = min(warm_up_s, WARM_S)
    found = {name: _together(some) for name, some in runs.items()}
    together = {**(next(iter(found.values())) if len(found) == 1 else {}), "loads": found}
    if not arguments.rate:
        tops = tuple(one["max_rate_events_per_s"] for some in runs.values() for one in some)
        together["max_rate_events_per_s"] = round(Spread(tops).median)
    return together


def _together(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the median of repeated runs; of several runs also the lowest and highest percentiles."""
    joined: dict[str, Any] = dict(runs[-1])
    for name, value in runs[-1].items():
        if isinstance(value, int | float):
            spread = Spread(tuple(run[name] for run in runs))
            joined[name] = spread.median
            if len(runs) > 1 and name.startswith("p"):
                joined |= {f"{name}_low": spread.low, f"{name}_high": spread.high}
    return joined


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--load", type=float, nargs="+", default=list(LOADS), help="loads as shares of the maximum (default: 0.1 0.5 0.8)")
    parser.add_argument("--rate", type=float, nargs="+", default=[], help="loads in events per second instead; no maximum is measured")
    parser.add_argument("--seconds", type=float, default=15.0, help="duration of each load after its warm-up (default: 15)")
    parser.add_argument("--warm-events", type=int, default=WARM_EVENTS, help=f"events to build the state from (default: {WARM_EVENTS:,})")
    parser.add_argument("--warm-up", type=float, help="seconds of the first load that do not count (default: 5, with --broker kafka 30)")
    arguments = live_arguments(parser)
    if arguments.warm_up is None:
        arguments.warm_up = WARM_UP_S[arguments.broker]
    if not all(rate > 0 for rate in arguments.rate):
        parser.error("--rate: rates must be above 0")
    if not all(0 < share <= 1 for share in arguments.load):
        parser.error("--load: shares must be above 0 and at most 1")
    stream, stream_name = chosen_stream(arguments.stream, STREAM_EVENTS)
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)
        kafka = running.enter_context(stack_on(arguments.broker, folder / "stack")) if arguments.broker == "kafka" else None

        @contextmanager
        def make() -> Iterator[LiveBench]:
            with nullcontext(kafka) if kafka is not None else stack_on(arguments.broker, folder / uuid.uuid4().hex[:8]) as stack:
                yield (bench := LiveBench(stack, stream, folder, arguments.set))  # models are trained once and kept in the folder
                stack.stop_workers()
                bench.redis.flushall()

        found = measure(make, arguments)
    rows = [
        (
            name if name.endswith("/s") else f"{float(name):.0%}",
            f"{one['rate_events_per_s']:,.0f}",
            *(f"{one[percentile]:.1f}" for percentile in PERCENTILES),
            f"{one['broker_p50_ms']:.1f} / {one['broker_p99_ms']:.1f}",
            f"{one['late_sends_p99_ms']:.1f}",
            f"{one['worker_cpu_wait_share']:.0%}",
            ", ".join(f"{one['cpu_share'][process]:.2f}" for process in CORES),
        )
        for name, one in found["loads"].items()
    ]
    columns = (
        "load",
        "events/s",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "broker p50 / p99",
        "late p99",
        "no cpu",
        "cores: " + ", ".join(CORES),
    )
    maximum_said = f"maximum {found['max_rate_events_per_s']:,} events/s; " if "max_rate_events_per_s" in found else ""
    emit(
        "freshness",
        f"{stream_name}; {maximum_said}ms from event to list",
        columns,
        rows,
        {
            "stream": arguments.stream,
            "broker": arguments.broker,
            "stream_name": stream_name,
            "seed": arguments.seed,
            "repeats": arguments.repeats,
            "seconds": arguments.seconds,
            "warm_up_s": arguments.warm_up,
            "warm_events": arguments.warm_events,
            "linger_ms": arguments.linger_ms,
            "set": arguments.set,
            **found,
        },
        as_json=arguments.json,
    )
    return 0


if __name__ == "__main__":
    run_benchmark(main)
