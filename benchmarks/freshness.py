"""How long after an event its user's list is there, on the embedded stack, with broker, Redis and worker on this machine.

    [RECSYS_DATA=…] python -m benchmarks.freshness [--load 0.5 …] [--seconds N] [--repeats N] [--broker kafka] [--set …] [--json]

State is made of the start of the stream. Then a worker (`recsys worker stream`, all sources on, iALS and SASRec serving) works off a
backlog, which gives `backlog_events_per_s`, with a list for each event. Then the same worker goes on under an open load: a process of its
own hands events to its producer at random times (Poisson, seeded), one by one, whether or not anything comes back. For some seconds at the
rate of the backlog, which is more than all of this can bear on one machine: how fast lists come then is the maximum,
`max_rate_events_per_s`, and `--load` is a share of it. Each load has a stand of its own, made in the same way. The producer lingers
`--linger-ms`, 5 as `EventPublisher` and, since 4.0, Kafka's own client do; 0 makes a batch of every event. This process consumes the
lists. Both use librdkafka, so as to take little of the machine.

The latency of an event runs from when it was *due*, not from when it was sent, to when the first list of its user whose trigger is at or
after the event's offset was consumed; so neither a stalled generator nor a stalled worker hides anything. Each user's events are dealt
to four users and users interleaved, so that events do not coalesce. The first seconds of each load are left out.

broker: the same events at the same rate and times through a topic that nobody works on, from when they were due to when they were consumed:
what client, broker and machine take for one hop, and the limit here; an event's list takes two. The embedded broker reads the slower the
more batches a topic holds, so longer runs show the broker. A real one (`--broker kafka`, where KAFKA_HOME names an Apache Kafka) does not
age.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import Spread, cpu_seconds, emit
from benchmarks.ingest import chosen_stream
from benchmarks.live import LiveBench, consuming, live_arguments, stack_on, until_listed_s
from benchmarks.open_load import OpenLoad, arrivals
from workers.settings import Settings
from workers.topics import end_offsets

LOADS = (0.1, 0.5, 0.8)
STREAM_EVENTS = 400_000
"""Events of a generated stream; after its end it begins anew."""
WARM_EVENTS = 150_000
BACKLOG_EVENTS = 30_000
SATURATED_S = 9.0
"""How long more comes in than can be borne, to see how much can: the last two thirds count."""
WARM_UP_S = 5.0
DRAIN_S = 60.0
"""Lists of the last events have this long."""
CORES = ("worker", "redis", "broker", "reader", "load")
PERCENTILES = {"p50_ms": 50.0, "p90_ms": 90.0, "p99_ms": 99.0, "p999_ms": 99.9, "max_ms": 100.0}


async def load(bench: LiveBench, rate: float, seconds: float, seed: int, linger_ms: int, pids: Mapping[str, int]) -> dict[str, Any]:
    """Events at a rate beside a running worker; latencies of their lists."""
    due_s = arrivals(int(rate * (WARM_UP_S + seconds)), rate, seed)
    plan = bench.plan(due_s, linger_ms=linger_ms)
    _, offsets = plan.places()
    lasts = plan.lasts()
    sending = OpenLoad(plan, bench.folder, f"load-{seed}-{rate:.0f}")
    try:
        async with consuming(bench.live, bench.live.topics.recommendations, triggers=True) as seen:
            before = {**{name: cpu_seconds(pid) for name, pid in pids.items()}, "reader": time.process_time()}
            waited_s = cpu_wait_seconds(pids["worker"])
            started_s = sending.start()
            sent = await sending.finish()
            waited_s = cpu_wait_seconds(pids["worker"]) - waited_s
            after = {**{name: cpu_seconds(pid) for name, pid in pids.items()}, "reader": time.process_time()}
            if not await seen.until(lasts, DRAIN_S):
                raise RuntimeError(f"at {rate:.0f} events/s the worker fell behind: no list of the last events within {DRAIN_S:g} s")
    finally:
        sending.close()
    _check_ends(bench.live, plan.topic, lasts)
    lists = [(key, trigger, consumed_s) for key, _, trigger, consumed_s in seen.records]
    latency_s = until_listed_s([key for _, key, _ in plan.records], offsets, due_s + started_s, lists)
    if np.isnan(latency_s).any():
        raise RuntimeError(f"{int(np.isnan(latency_s).sum())} events have no list")
    counted = due_s >= WARM_UP_S
    span_s = float(due_s[-1])
    cpu_s = {**{name: after[name] - before[name] for name in before}, "load": sent.cpu_s}
    return {
        **_percentiles(latency_s[counted]),
        "late_sends_p99_ms": round(1000 * float(np.percentile(sent.late_s[counted], 99)), 3),
        "rate_events_per_s": round(rate),
        "n_events": int(counted.sum()),
        "n_lists": len(lists),
        "events_per_list": round(len(due_s) / len(lists), 3),
        "worker_cpu_wait_share": round(waited_s / span_s, 3),
        "cpu_share": {name: round(used / span_s, 3) for name, used in cpu_s.items()},
    }


async def most(bench: LiveBench, rate: float, seed: int, linger_ms: int) -> float:
    """Events a second that are worked off while more than that come in and lists are read, as in `load`. All is worked off at the end."""
    due_s = arrivals(int(rate * SATURATED_S), rate, seed)
    plan = bench.plan(due_s, linger_ms=linger_ms)
    lasts = plan.lasts()
    sending = OpenLoad(plan, bench.folder, f"most-{seed}-{rate:.0f}")
    try:
        async with consuming(bench.live, bench.live.topics.recommendations, triggers=True) as seen:
            started_s = sending.start()
            await sending.finish()
            ended_s = time.monotonic()
            if not await seen.until(lasts, DRAIN_S):
                raise RuntimeError(f"the worker did not work off {rate:.0f} events/s within {DRAIN_S:g} s of their end")
    finally:
        sending.close()
    first_s = started_s + SATURATED_S / 3
    counted = [consumed_s for *_, consumed_s in seen.records if first_s <= consumed_s < ended_s]
    return len(counted) / (ended_s - first_s)


async def bare_broker(bench: LiveBench, rate: float, seconds: float, seed: int, linger_ms: int) -> dict[str, float]:
    """The same events through a topic that nobody else reads."""
    settings, _ = bench.settings()
    due_s = arrivals(int(rate * (WARM_UP_S + seconds)), rate, seed)
    plan = bench.plan(due_s, settings, linger_ms=linger_ms)
    partitions, offsets = plan.places()
    lasts = plan.lasts()
    sending = OpenLoad(plan, bench.folder, f"broker-{seed}-{rate:.0f}")
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
    return {f"broker_{name}": value for name, value in _percentiles(trip_s[due_s >= WARM_UP_S]).items()}


def cpu_wait_seconds(pid: int) -> float:
    """Seconds that the main thread of a process was ready to run and had no processor (Linux): much of it, and others had the machine."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def _check_ends(settings: Settings, topic: str, lasts: Mapping[int, int]) -> None:
    """Offsets were counted, not asked for: that holds only if every record is in the topic once."""
    ends = {partition: end for (_, partition), end in end_offsets(settings, [topic]).items()}
    wrong = [partition for partition, last in lasts.items() if ends[partition] != last + 1]
    if wrong:
        raise RuntimeError(f"partitions {wrong} do not end where the load ended: a record was lost or sent twice")


def _percentiles(latency_s: NDArray[np.float64]) -> dict[str, float]:
    found = np.percentile(latency_s, list(PERCENTILES.values()))
    return {name: round(1000 * float(value), 2) for name, value in zip(PERCENTILES, found, strict=True)}


def maximum(bench: LiveBench, seed: int, linger_ms: int) -> dict[str, int]:
    """What a worker works off at most, with nothing else going on and under load."""
    bench.warm_up(WARM_EVENTS)
    backlog = bench.work_off(bench.serving_worker(), BACKLOG_EVENTS)
    top = asyncio.run(most(bench, backlog.events_per_s, seed, linger_ms))
    return {"max_rate_events_per_s": round(top), "backlog_events_per_s": round(backlog.events_per_s)}


def stand(bench: LiveBench, rate: float, seconds: float, seed: int, linger_ms: int) -> dict[str, Any]:
    """One load beside a worker, then the bare broker at the same rate."""
    bench.warm_up(WARM_EVENTS)
    worker = bench.serving_worker()
    gc.collect()
    gc.freeze()  # what this process holds by now is not looked through again while it takes times
    assert bench.stack.valkey is not None
    assert bench.stack.broker is not None
    pids = {"worker": worker.process.pid, "redis": bench.stack.valkey.process.pid, "broker": bench.stack.broker.process.pid}
    found = asyncio.run(load(bench, rate, seconds, seed, linger_ms, pids))
    bench.stack.stop_workers()
    found |= asyncio.run(bare_broker(bench, rate, seconds, seed, linger_ms))
    for name in ("p50", "p99"):
        found[f"ratio_to_broker_{name}"] = round(found[f"{name}_ms"] / found[f"broker_{name}_ms"], 2)
    return found


def measure(make: Callable[[], AbstractContextManager[LiveBench]], arguments: argparse.Namespace) -> dict[str, Any]:
    """The maximum and every load so many times, each on a stand of its own: the embedded broker answers the slower the more it holds."""
    runs: dict[float, list[dict[str, Any]]] = {share: [] for share in arguments.load}
    for repeat in range(arguments.repeats):
        seed = arguments.seed + repeat
        with make() as bench:
            most_of_all = maximum(bench, seed, arguments.linger_ms)
        for share in arguments.load:
            with make() as bench:
                rate = share * most_of_all["max_rate_events_per_s"]
                runs[share].append(most_of_all | stand(bench, rate, arguments.seconds, seed, arguments.linger_ms))
    found = {f"{share:g}": _together(some) for share, some in runs.items()}
    top = Spread(tuple(one["max_rate_events_per_s"] for some in runs.values() for one in some)).median
    return {**(next(iter(found.values())) if len(found) == 1 else {}), "max_rate_events_per_s": round(top), "loads": found}


def _together(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The median of repeated runs, and where there were several the least and the most of what counts."""
    joined: dict[str, Any] = dict(runs[-1])
    for name, value in runs[-1].items():
        if isinstance(value, int | float):
            spread = Spread(tuple(run[name] for run in runs))
            joined[name] = spread.median
            if len(runs) > 1 and name.startswith("p"):
                joined |= {f"{name}_low": spread.low, f"{name}_high": spread.high}
    return joined


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", type=float, nargs="+", default=list(LOADS), help="shares of the maximum (default 0.1 0.5 0.8)")
    parser.add_argument("--seconds", type=float, default=15.0, help=f"of each load, after {WARM_UP_S:g} that are left out")
    arguments = live_arguments(parser)
    if not all(0 < share <= 1 for share in arguments.load):
        parser.error("--load: above 0, 1 at most")
    stream, name = chosen_stream(arguments.stream, STREAM_EVENTS)
    with tempfile.TemporaryDirectory() as folder:

        @contextmanager
        def make() -> Iterator[LiveBench]:
            with stack_on(arguments.broker, Path(folder) / uuid.uuid4().hex[:8]) as stack:
                yield LiveBench(stack, stream, Path(folder), arguments.set)  # models are trained once: they are in the folder

        found = measure(make, arguments)
    rows = [
        (
            f"{float(share):.0%}",
            f"{one['rate_events_per_s']:,.0f}",
            *(f"{one[name]:.1f}" for name in PERCENTILES),
            f"{one['broker_p50_ms']:.1f} / {one['broker_p99_ms']:.1f}",
            f"{one['late_sends_p99_ms']:.1f}",
            f"{one['worker_cpu_wait_share']:.0%}",
            ", ".join(f"{one['cpu_share'][name]:.2f}" for name in CORES),
        )
        for share, one in found["loads"].items()
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
    emit(
        "freshness",
        f"{name}; maximum {found['max_rate_events_per_s']:,} events/s; ms from event to list",
        columns,
        rows,
        {
            "stream": arguments.stream,
            "broker": arguments.broker,
            "stream_name": name,
            "seed": arguments.seed,
            "repeats": arguments.repeats,
            "seconds": arguments.seconds,
            "linger_ms": arguments.linger_ms,
            "set": arguments.set,
            **found,
        },
        as_json=arguments.json,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
