"""Measure how long lists are missing after a worker is killed, and how fast a restarted worker catches up, on an embedded stack.

Examples:
    python -m benchmarks.recovery --only standby restart
    python -m benchmarks.recovery --only catch_up --hour-rate 500 --shrink 6
    KAFKA_HOME=… python -m benchmarks.recovery --broker kafka --json

Runs:
* standby: two workers share the partitions under an open load (`benchmarks.open_load`); one is killed (SIGKILL).
* restart: the only worker is killed and started again at once.
* catch_up: the only worker is stopped in good order, `--hour-rate` × 3600 / `--shrink` events are published, and it is started again.
  `stream.catch_up_events`, above which lists are deferred, is divided by `--shrink` too. The worker has caught up when the state has every
  event and no deferred list is pending. The clock starts with the process; the part until its first batch is in the state,
  `catch_up_start_s`, does not shrink with the backlog.

`kill_to_first_list_…_s` runs from the kill until the last partition has a list for an event that was due after it, so partitions of a
surviving worker do not count as recovered too early. `kill_to_last_late_list_…_s` runs until lists are as fresh as before: after it no
event waits longer than the slowest one before the kill. Compare both with the group's session timeout, before which no broker reassigns the
partitions of a silent worker.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.datasets import chosen_stream
from benchmarks.figures import Spread, benchmark_parser, emit, run_benchmark
from benchmarks.freshness import STREAM_EVENTS
from benchmarks.live import F64, LiveBench, consuming, live_arguments, stack_on, until_listed_s
from benchmarks.open_load import OpenLoad, arrivals
from workers.local.embedded import Child

RUNS = ("standby", "restart", "catch_up")
WARM_EVENTS = 60_000
BEFORE_S = 5.0
"""Load before the kill, which gives the usual waits."""
JOIN_S = 60.0
AFTER_SESSIONS = 3.0
"""Load after the kill in session timeouts; `START_S` comes on top."""
START_S = 10.0
DRAIN_S = 60.0
TIMEOUT_S = 600.0
POLL_S = 0.02
OWNS = re.compile(r"owns partitions \[\d")
CATCH_UP_EVENTS = 100_000
"""Default of `stream.catch_up_events`, divided by `--shrink`."""


async def kill(bench: LiveBench, rate: float, victim: Child, then: Callable[[], object], seed: int) -> dict[str, float]:
    """Kill a worker under load; return when each partition had a list again and when lists were as fresh as before."""
    session_s = bench.live.kafka.session_timeout_ms / 1000
    due_s = arrivals(int(rate * (BEFORE_S + AFTER_SESSIONS * session_s + START_S)), rate, seed)
    plan = bench.plan(due_s)
    partitions, offsets = plan.places()
    lasts = {p: int(offsets[partitions == p].max()) for p in range(bench.partitions)}
    sending = OpenLoad(plan, bench.folder, f"kill-{seed}-{victim.name}")
    try:
        async with consuming(bench.live, bench.live.topics.recommendations, triggers=True) as seen:
            started_s = sending.start()
            await asyncio.sleep(started_s + BEFORE_S - time.monotonic())
            killed_s = time.monotonic()
            victim.kill()
            then()
            await sending.finish()
            if not await seen.until(lasts, DRAIN_S):
                raise RuntimeError(f"no lists of the last events within {DRAIN_S:g} s after the load")
    finally:
        sending.close()
    lists = [(key, trigger, consumed_s) for key, _, trigger, consumed_s in seen.records]
    waited_s = until_listed_s([key for _, key, _ in plan.records], offsets, due_s + started_s, lists)
    if np.isnan(waited_s).any():
        raise RuntimeError(f"{int(np.isnan(waited_s).sum())} events have no list")
    return recovery(partitions, due_s + started_s - killed_s, waited_s)


def recovery(partitions: np.ndarray[Any, Any], due_s: F64, waited_s: F64) -> dict[str, float]:
    """Return the seconds from the kill until every partition had a list for a later event, and until lists were as fresh as before.

    Shapes: (n,) each: partition of each event, its due time in seconds after the kill, and the seconds that it waited for its list.
    """
    listed_s, after = due_s + waited_s, due_s >= 0
    usual_s = waited_s[~after & (listed_s < 0)].max()
    late = after & (waited_s > usual_s)
    return {
        "first_list_s": max(float(listed_s[after & (partitions == p)].min()) for p in np.unique(partitions).tolist()),
        "last_late_list_s": float(listed_s[late].max()) if late.any() else 0.0,
    }


def standby(bench: LiveBench, rate: float, seed: int) -> dict[str, float]:
    """Run two workers and kill one."""
    victim = bench.serving_worker()
    other = bench.start_worker(bench.sections)
    try:
        deadline = time.monotonic() + JOIN_S
        while not (OWNS.search(said := other.log.read_text()) and "serving model sasrec" in said):
            if time.monotonic() > deadline:
                raise RuntimeError(f"a second worker did not join within {JOIN_S:g} s: {other.last_lines()}")
            time.sleep(0.1)
        return asyncio.run(kill(bench, rate, victim, lambda: None, seed))
    finally:
        bench.stack.stop_workers()


def restart(bench: LiveBench, rate: float, seed: int) -> dict[str, float]:
    """Kill the only worker and start it again at once."""
    victim = bench.serving_worker()
    try:
        return asyncio.run(kill(bench, rate, victim, lambda: bench.start_worker(bench.sections), seed))
    finally:
        bench.stack.stop_workers()


def catch_up(bench: LiveBench, n_events: int) -> dict[str, float]:
    """Stop the worker, publish a backlog of `n_events`, start it again and measure until it has caught up."""
    bench.serving_worker()
    bench.stack.stop_workers()
    before, n_lists = bench.applied(bench.live), bench.lists(bench.live)
    n_published = asyncio.run(bench.publish_past(n_events, time.time()))
    started_s = time.monotonic()
    worker = bench.start_worker(bench.sections)
    start_s = state_s = 0.0
    try:
        while not state_s or bench.pending_users():
            applied, now = bench.applied(bench.live), time.monotonic()
            if not start_s and applied > before:
                start_s = now - started_s
            if not state_s and applied >= n_published:
                state_s = now - started_s
            if now > started_s + TIMEOUT_S or not worker.running:
                raise RuntimeError(f"the worker stopped at {applied - before} of {n_events} events")
            time.sleep(POLL_S)
        return {"start_s": start_s, "state_s": state_s, "all_s": time.monotonic() - started_s, "lists": bench.lists(bench.live) - n_lists}
    finally:
        bench.stack.stop_workers()


def measure(arguments: argparse.Namespace, make: Callable[[dict[str, dict[str, Any]]], LiveBench]) -> dict[str, Any]:
    """Measure the chosen runs `repeats` times; return median, lowest and highest value of each."""
    n_hour = int(arguments.hour_rate * 3600 / arguments.shrink)
    catching_up = {"stream": {"catch_up_events": max(1, int(CATCH_UP_EVENTS / arguments.shrink))}}
    found: dict[str, list[dict[str, float]]] = {}
    for run in arguments.only:
        more = arguments.set
        if run == "catch_up":
            more = {**more, "stream": {**catching_up["stream"], **more.get("stream", {})}}
        bench = make(more)
        bench.warm_up(WARM_EVENTS)
        for repeat in range(arguments.repeats):
            if run == "catch_up":
                one = catch_up(bench, n_hour)
            else:
                one = {"standby": standby, "restart": restart}[run](bench, arguments.rate, arguments.seed + repeat)
            found.setdefault(run, []).append(one)
    figures: dict[str, Any] = {}
    for run in ("standby", "restart"):
        for name in ("first_list_s", "last_late_list_s") if run in found else ():
            figures |= _spread(f"kill_to_{name.removesuffix('_s')}_{run}_s", [one[name] for one in found[run]])
    if "catch_up" in found:
        figures |= _spread("catch_up_s", [one["all_s"] for one in found["catch_up"]])
        figures |= _spread("catch_up_start_s", [one["start_s"] for one in found["catch_up"]])
        figures |= _spread("catch_up_state_s", [one["state_s"] for one in found["catch_up"]])
        figures |= {
            "backlog_events": n_hour,
            "backlog_seconds": round(3600 / arguments.shrink, 1),
            "shrink": arguments.shrink,
            "catch_up_events_setting": catching_up["stream"]["catch_up_events"],
            "catch_up_lists": int(found["catch_up"][-1]["lists"]),
            "catch_up_events_per_s": round(n_hour / figures["catch_up_s"]),
            "backlog_seconds_per_second": round(3600 / arguments.shrink / figures["catch_up_s"], 1),
        }
    return figures


def _spread(name: str, values: Sequence[float]) -> dict[str, float]:
    spread = Spread(tuple(values))
    more = {f"{name}_low": round(spread.low, 2), f"{name}_high": round(spread.high, 2)} if len(values) > 1 else {}
    return {name: round(spread.median, 2), **more}


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), metavar="RUN", help=f"run only these: {', '.join(RUNS)}")
    parser.add_argument("--rate", type=float, default=200.0, help="events per second while a worker is killed (default: 200)")
    parser.add_argument("--hour-rate", type=float, default=200.0, help="events per second of the hour of backlog (default: 200)")
    parser.add_argument("--shrink", type=float, default=12.0, help="divide the hour and catch_up_events by this (default: 12)")
    arguments = live_arguments(parser)
    stream, name = chosen_stream(arguments.stream, STREAM_EVENTS)
    session_s = 0.0
    with tempfile.TemporaryDirectory() as folder, stack_on(arguments.broker, Path(folder) / "stack") as stack:

        def make(more: dict[str, dict[str, Any]]) -> LiveBench:
            return LiveBench(stack, stream, Path(folder), more)

        session_s = stack.settings(**arguments.set).kafka.session_timeout_ms / 1000
        figures = measure(arguments, make)
    rows = [(key, f"{value:,}") for key, value in figures.items()]
    emit(
        "recovery",
        f"{name}; session timeout {session_s:g} s",
        ("figure", "seen"),
        [("session_timeout_s", f"{session_s:g}"), *rows],
        {
            "stream": arguments.stream,
            "stream_name": name,
            "broker": arguments.broker,
            "seed": arguments.seed,
            "repeats": arguments.repeats,
            "rate_events_per_s": arguments.rate,
            "hour_rate_events_per_s": arguments.hour_rate,
            "session_timeout_s": session_s,
            **figures,
        },
        as_json=arguments.json,
    )
    return 0


if __name__ == "__main__":
    run_benchmark(main)
