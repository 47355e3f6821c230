"""Measure the latency of the HTTP gateway beside the whole running stack: broker, Redis, worker, gateway and loads on this machine.

Examples:
    RECSYS_DATA=… python -m benchmarks.gateway
    python -m benchmarks.gateway --stream generated --seconds 10 --json
    RECSYS_DATA=… python -m benchmarks.gateway --check

1. The state is built from the start of the stream, iALS and SASRec serve, and the worker publishes a list for each of `--warm-lists`
   events.
2. A gateway (`recsys worker gateway`) starts and reads the lists.
3. While `--events` events a second go through the worker, an open load of requests asks the gateway, at random times (Poisson, seeded):
   the newest published list of a random user, then lists on request (`limit`, and for a quarter of them `category`), then sessions.

The load is open: a process of its own sends each request when it is due and never waits for answers. Latency runs from the due time to the
last byte of the answer. The first two seconds of each load do not count. The baseline is `/live` at the rate of published lists, an answer
without any work: what HTTP costs on this machine at this moment.

With `--check` the exit code is 1 if a 99th percentile is above its limit, or a request was not answered with 200. Rates and limits are
those of two cores of a machine of speed 1 (`benchmarks.machine_speed`): on a slower one rates are as much lower, and limits higher.
"""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import chosen_stream
from benchmarks.figures import benchmark_parser, cpu_seconds, emit, resident_bytes, run_benchmark
from benchmarks.http_load import Answered, HttpLoad, HttpPlan
from benchmarks.live import LiveBench, live_arguments, stack_on
from benchmarks.machine_speed import speed
from benchmarks.open_load import OpenLoad, arrivals
from workers.local.embedded import Child, environment, free_port

STREAM_EVENTS = 200_000
WARM_UP_S = 2.0
READY_S = 180.0
PERCENTILES = {"p50_ms": 50.0, "p90_ms": 90.0, "p99_ms": 99.0, "p999_ms": 99.9, "max_ms": 100.0}
LIMIT = 10
"""Places of lists on request."""
F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scenario:
    """Requests of one kind, their rate, and the limit of their 99th percentile in ms, None for the baseline."""

    name: str
    per_s: float
    limit_ms: float | None
    requests: Sequence[bytes]


def get(path: str) -> bytes:
    """Return a GET as it is sent."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def post(path: str, body: bytes) -> bytes:
    """Return a POST as it is sent."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def scenarios(users: Sequence[str], items: Sequence[str], categories: Sequence[str], seed: int, machine: float) -> list[Scenario]:
    """Return the loads of this benchmark on a machine of this speed, in their order. `users` have lists."""
    chance = np.random.default_rng(seed)

    def lists(query: str) -> str:
        return f"/v1/users/{quote(users[int(chance.integers(len(users)))], safe='')}/lists{query}"

    def on_request() -> str:
        category = f"&category={quote(categories[int(chance.integers(len(categories)))])}" if categories and chance.random() < 0.25 else ""
        return lists(f"?limit={LIMIT}{category}")

    def session() -> bytes:
        chosen = ",".join(f'"{items[at]}"' for at in chance.integers(len(items), size=4).tolist())
        return f'{{"items":[{chosen}],"limit":{LIMIT}}}'.encode()

    def load(what: str, per_s: float, limit_ms: float | None, requests: Sequence[bytes]) -> Scenario:
        rate = per_s * machine
        return Scenario(f"{what}, {rate:.0f}/s", rate, None if limit_ms is None else round(limit_ms / machine, 1), requests)

    return [
        load("an empty answer", 500.0, None, [get("/live")]),
        load("published lists", 500.0, 15.0, [get(lists("")) for _ in range(5_000)]),
        load("lists on request", 200.0, 40.0, [get(on_request()) for _ in range(5_000)]),
        load("sessions", 200.0, 40.0, [post("/v1/sessions/lists", session()) for _ in range(2_000)]),
    ]


def start_gateway(bench: LiveBench) -> tuple[Child, int]:
    """Start a gateway and wait until it is ready. Raises: RuntimeError if it is not within `READY_S`."""
    port = free_port()
    sections = {**bench.sections, "gateway": {"port": port, "requests_per_s": 100_000}}
    child = bench.stack.start_worker("gateway", {"RECSYS_CONFIG": os.devnull, **environment(sections)})
    deadline = time.monotonic() + READY_S
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
                if answer.status == 200:
                    return child, port
        except OSError:
            time.sleep(0.2)
        if time.monotonic() > deadline or not child.running:
            raise RuntimeError(f"the gateway is not ready: {child.last_lines(5)}")


def measure(bench: LiveBench, scenario: Scenario, port: int, pids: Mapping[str, int], arguments: Any) -> dict[str, Any]:
    """Run one load beside the events."""
    due_s = arrivals(int(scenario.per_s * (WARM_UP_S + arguments.seconds)), scenario.per_s, arguments.seed)
    requests = [scenario.requests[at % len(scenario.requests)] for at in range(len(due_s))]
    name = f"{scenario.name.partition(',')[0].replace(' ', '-')}-{time.monotonic_ns()}"
    load = HttpLoad(HttpPlan("127.0.0.1", port, requests, due_s), bench.folder, name)
    events = None
    if arguments.events:
        event_due_s = arrivals(int(arguments.events * (WARM_UP_S + arguments.seconds + 1)), arguments.events, arguments.seed + 1)
        events = OpenLoad(bench.plan(event_due_s), bench.folder, f"events-{name}")
    before = {process: cpu_seconds(pid) for process, pid in pids.items()}
    try:
        if events is not None:
            events.start()
        answered = load.run()
        after = {process: cpu_seconds(pid) for process, pid in pids.items()}
        if events is not None:
            asyncio.run(events.finish())
    finally:
        if events is not None:
            events.close()
    cpu_s = {**{process: after[process] - before[process] for process in pids}, "load": answered.cpu_s}
    shares = {process: round(used / float(due_s[-1]), 3) for process, used in cpu_s.items()}
    return figures(scenario, answered, due_s) | {"cpu_share": shares}


def figures(scenario: Scenario, answered: Answered, due_s: F64) -> dict[str, Any]:
    """Return the figures of one load, without its warm-up."""
    counted = due_s >= WARM_UP_S
    found = np.percentile(answered.latency_s[counted], list(PERCENTILES.values()))
    return {
        **{name: round(1000 * float(value), 2) for name, value in zip(PERCENTILES, found, strict=True)},
        "per_s": scenario.per_s,
        "limit_ms": scenario.limit_ms,
        "n_requests": int(counted.sum()),
        "n_not_200": int((answered.statuses != 200).sum()),
        "bytes": round(answered.n_bytes / max(len(due_s), 1)),
    }


def misses(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what is above its limit, or was not answered."""
    late = [
        f"{name}: p99 {one['p99_ms']} ms, limit {one['limit_ms']}"
        for name, one in found.items()
        if one["limit_ms"] is not None and one["p99_ms"] > one["limit_ms"]
    ]
    return late + [f"{name}: {one['n_not_200']} requests not answered with 200" for name, one in found.items() if one["n_not_200"]]


def run(arguments: Any, stream: Any, folder: Path, machine: float) -> dict[str, dict[str, Any]]:
    """Measure every scenario on one stack, at the rates of a machine of this speed."""
    with stack_on(arguments.broker, folder / "stack") as stack:
        bench = LiveBench(stack, stream, folder, {**arguments.set, "lists": {"shared_every_s": 60, **arguments.set.get("lists", {})}})
        bench.warm_up(arguments.warm_events)
        worker = bench.serving_worker()
        first = bench._n_published
        bench.work_off(worker, arguments.warm_lists)
        users = sorted({bench.stream.users[at % len(bench.stream)] for at in range(first, bench._n_published)})
        gateway, port = start_gateway(bench)
        gc.collect()
        gc.freeze()
        assert stack.valkey is not None and stack.broker is not None
        pids = {"gateway": gateway.process.pid, "worker": worker.process.pid}
        pids |= {"redis": stack.valkey.process.pid, "broker": stack.broker.process.pid}
        categories = sorted({category for content in bench.stream.content.values() for category in content.categories})
        items = list(bench.stream.content) or sorted(set(bench.stream.items))
        chosen = scenarios(users, items, categories, arguments.seed, machine)
        found = {one.name: measure(bench, one, port, pids, arguments) for one in chosen}
        found[chosen[0].name]["gateway_mb"] = round(resident_bytes(gateway.process.pid) / 2**20)
        stack.stop_workers()
    return found


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="duration of each load after its warm-up (default: 20)")
    parser.add_argument("--events", type=float, default=200.0, help="events a second that go through the worker beside (default: 200)")
    parser.add_argument("--warm-events", type=int, default=100_000, help="events to build the state from (default: 100,000)")
    parser.add_argument("--warm-lists", type=int, default=10_000, help="events that publish lists first (default: 10,000)")
    parser.add_argument("--check", action="store_true", help="exit code 1 if a p99 is above its limit or a request has no answer")
    arguments = live_arguments(parser)
    machine = min(1.0, speed())
    arguments.events *= machine
    if arguments.events:
        import confluent_kafka  # noqa: F401  (the events' load needs it; said before minutes are spent)
    stream, stream_name = chosen_stream(arguments.stream, STREAM_EVENTS)
    with tempfile.TemporaryDirectory() as name:
        found = run(arguments, stream, Path(name), machine)
    floor = next(iter(found.values()))
    rows = [
        (
            name,
            *(f"{one[percentile]:.1f}" for percentile in PERCENTILES),
            "baseline" if one["limit_ms"] is None else f"{one['limit_ms']:.0f}",
            f"{one['p99_ms'] / floor['p99_ms']:.2f}",
            f"{one['n_not_200']}",
            ", ".join(f"{share:.2f}" for share in one["cpu_share"].values()),
        )
        for name, one in found.items()
    ]
    cores = ", ".join(floor["cpu_share"])
    columns = ("requests", "p50", "p90", "p99", "p99.9", "max", "limit of p99", "p99 / baseline", "not 200", f"cores: {cores}")
    beside = f"beside {arguments.events:.0f} events/s; gateway {floor['gateway_mb']} MB; machine at {machine:.2f}"
    title = f"{stream_name}; ms from due to answered, {beside}"
    said = {"stream": arguments.stream, "broker": arguments.broker, "seed": arguments.seed, "seconds": arguments.seconds}
    said |= {"events_per_s": arguments.events, "machine_speed": round(machine, 2), "scenarios": found}
    emit("gateway", title, columns, rows, said, as_json=arguments.json)
    missed = misses(found)
    for line in missed if arguments.check else ():
        print(line)
    return 1 if missed and arguments.check else 0


if __name__ == "__main__":
    run_benchmark(main)
