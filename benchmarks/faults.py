"""Run rounds of faults and compare the outcome of each with a plain fold over the log.

Examples:
    python -m benchmarks.faults --rounds 40 --seed 7
    python -m benchmarks.faults --rounds 1 --only redis_lost --seed 7     # repeat one round
    KAFKA_HOME=… python -m benchmarks.faults --rounds 200 --lane both --json
    python -m benchmarks.faults --list

A round publishes a log of its own while one fault happens (or a storm of one kind of fault), waits until every event is applied, and
compares state, dead letters and lists. Round i runs the next scenario in turn with the seed S + i. The exit code is 0 only if there is no
difference.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.figures import benchmark_parser, run_benchmark
from tests.fault import scenarios  # noqa: F401  registers them
from tests.fault.lanes import FaultLane, kafka_home
from tests.fault.registry import SCENARIOS, Entry, LaneName, Round

ROUND_TIMEOUT_S = 300.0
LONG_ROUND_TIMEOUT_S = 600.0
JOBS = 4
"""Rounds run at the same time: they mostly wait for session timeouts."""


@dataclass
class Tally:
    """Counts over all rounds; `failures` holds one line for each difference."""

    rounds: int = 0
    events: int = 0
    faults: int = 0
    failures: list[str] = field(default_factory=list)
    scenarios: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, done: Round) -> None:
        self.rounds += 1
        self.events += done.events
        self.faults += done.faults
        self.scenarios[name] += 1


def runnable(lane: FaultLane, only: Sequence[str] = ()) -> list[Entry]:
    """Return the scenarios that this lane can run, sorted by name."""
    return [SCENARIOS[name] for name in sorted(SCENARIOS) if (not only or name in only) and all(map(lane.can, SCENARIOS[name].needs))]


async def run_rounds(
    lane: FaultLane, entries: Sequence[Entry], rounds: int, seed: int, tally: Tally, *, jobs: int = JOBS, keep: Path | None = None
) -> None:
    """Run rounds, `jobs` at a time. Rounds that start servers of their own run one at a time."""
    places, heavy, alone = asyncio.Semaphore(jobs), asyncio.Semaphore(1), asyncio.Semaphore(1)

    async def one(number: int) -> None:
        entry, round_seed = entries[number % len(entries)], seed + number
        nothing: contextlib.AbstractAsyncContextManager[None] = contextlib.nullcontext()
        async with heavy if entry.needs else nothing, alone if entry.alone else nothing, places:
            await _one(lane, entry, round_seed, tally, keep)

    await asyncio.gather(*(one(number) for number in range(rounds)))


async def _one(lane: FaultLane, entry: Entry, seed: int, tally: Tally, keep: Path | None) -> None:
    folder = lane.folder / f"{entry.name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    started_s = time.monotonic()
    try:
        limit_s = LONG_ROUND_TIMEOUT_S if lane.long else ROUND_TIMEOUT_S
        done = await asyncio.wait_for(entry.run(lane, random.Random(f"{entry.name}/{seed}"), folder), limit_s)
    except Exception as error:
        (folder / "traceback.txt").write_text(traceback.format_exc())
        done = Round(0, 0, [f"{type(error).__name__}: {error} (see traceback.txt)"])
    tally.add(entry.name, done)
    for difference in done.differences:
        tally.failures.append(f"{entry.name} --lane {lane.name} --seed {seed}: {difference}")
    verdict = "ok" if not done.differences else "DIFFERS"
    print(f"{lane.name:<9}{entry.name:<24} seed {seed:<8} {done.events:5d} events {done.faults:3d} faults "
          f"{time.monotonic() - started_s:6.1f} s  {verdict}", file=sys.stderr, flush=True)  # fmt: skip
    if not done.differences:
        shutil.rmtree(folder, ignore_errors=True)
        return
    if keep is not None:
        folder = Path(
            shutil.copytree(folder, keep / f"{lane.name}-{folder.name}", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.aof"))
        )
    for difference in done.differences:
        print(f"    {difference}", file=sys.stderr, flush=True)
    print(f"    kept: {folder}", file=sys.stderr, flush=True)


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=0, help="rounds on each lane (default: each scenario once)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first round (default: 1)")
    parser.add_argument("--lane", choices=("embedded", "kafka", "both"), default="embedded", help="the broker (default: embedded)")
    parser.add_argument("--only", default="", metavar="NAME,…", help="run only these scenarios; a name may end in *")
    parser.add_argument("--long", action="store_true", help="longer faults: storms of one minute, outages of two")
    parser.add_argument("--jobs", type=int, default=JOBS, help=f"rounds at the same time (default: {JOBS})")
    parser.add_argument("--list", action="store_true", help="list the scenarios and their requirements, then exit")
    arguments = parser.parse_args()
    if arguments.list:
        for name in sorted(SCENARIOS):
            print(f"{name:<26}{', '.join(sorted(SCENARIOS[name].needs))}")
        return 0
    only = chosen_names(arguments.only)
    if only is None:
        print(f"faults: --only: no such scenario; the scenarios are {', '.join(sorted(SCENARIOS))}", file=sys.stderr)
        return 2
    lanes: tuple[LaneName, ...] = ("embedded", "kafka") if arguments.lane == "both" else (arguments.lane,)
    if "kafka" in lanes and kafka_home() is None:
        print("faults: --lane kafka: set KAFKA_HOME to an unpacked Apache Kafka (Java 17)", file=sys.stderr)
        return 2
    for library in ("aiokafka", "kafka"):  # the clients of this process report every broker that a scenario kills
        logging.getLogger(library).setLevel(logging.CRITICAL)
    tally, started_s = Tally(), time.monotonic()
    kept = Path(tempfile.mkdtemp(prefix="recsys-faults-"))
    for name in lanes:
        with tempfile.TemporaryDirectory(prefix="recsys-faults-") as folder, FaultLane(name, Path(folder), long=arguments.long) as lane:
            entries = runnable(lane, only)
            if entries:
                rounds = arguments.rounds or len(entries)
                asyncio.run(run_rounds(lane, entries, rounds, arguments.seed, tally, jobs=arguments.jobs, keep=kept))
    if not any(kept.iterdir()):
        kept.rmdir()
    seconds = round(time.monotonic() - started_s, 1)
    print(f"{tally.rounds} rounds, {tally.faults} faults, {tally.events} events, {len(tally.failures)} differences, {seconds:.0f} s")
    for failure in tally.failures:
        print(f"  --only {failure}")
    if arguments.json:
        counts = {"rounds": tally.rounds, "faults": tally.faults, "events": tally.events, "differences": len(tally.failures)}
        print(json.dumps({**counts, "scenarios": dict(sorted(tally.scenarios.items())), "seconds": seconds}))
    return 1 if tally.failures or not tally.rounds else 0


def chosen_names(text: str) -> list[str] | None:
    """Return the scenario names that `--only` selects; None if a part matches no scenario."""
    names: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = [name for name in SCENARIOS if name == part or (part.endswith("*") and name.startswith(part[:-1]))]
        if not found:
            return None
        names += found
    return names


if __name__ == "__main__":
    run_benchmark(main)
