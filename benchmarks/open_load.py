"""An open-loop producer in a process of its own: each record is sent when it is due, whether or not earlier ones were answered.

    python -m benchmarks.open_load PLAN

A plan (`Plan.write`) holds records and the second at which each is due. The process prints `ready` once it is connected, then reads the
start from standard input, as `time.monotonic()`, which all processes of a machine share. At the end it writes each record's delay. The
client is librdkafka, because the load must use little of the machine that it measures. One request is in flight at a time, so a partition
keeps its order and a record's offset follows from the partition's end before and the record's place in the plan. A caller that relies on
this must compare the partitions' ends afterwards.
"""

from __future__ import annotations

import asyncio
import gc
import pickle
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

LINGER_MS = 5
"""Time for which the load's producer waits for more records: the default of Apache Kafka's own client since 4.0."""
GRACE_S = 30.0
"""Time that a load may take beyond its plan."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Records as (partition, key, value), the second after the start at which each is due, and the current ends of the partitions."""

    bootstrap_servers: str
    topic: str
    ends: Mapping[int, int]
    records: Sequence[tuple[int, bytes, bytes]]
    due_s: NDArray[np.float64]
    linger_ms: int = LINGER_MS

    def write(self, path: Path) -> None:
        """Write the plan to a file for the load's process."""
        with path.open("wb") as out:
            pickle.dump((self.bootstrap_servers, self.topic, self.ends, self.records, self.due_s, self.linger_ms), out)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a plan that this program wrote."""
        with path.open("rb") as written:
            return cls(*pickle.load(written))  # noqa: S301

    def places(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return partition and offset of each record, both (n,)."""
        partitions = np.array([partition for partition, _, _ in self.records], np.int32)
        offsets = np.zeros(len(partitions), np.int64)
        for partition in np.unique(partitions).tolist():
            chosen = partitions == partition
            offsets[chosen] = self.ends[partition] + np.arange(chosen.sum())
        return partitions, offsets

    def lasts(self) -> dict[int, int]:
        """Return the offset of the last record of each partition that gets any."""
        partitions, offsets = self.places()
        return {partition: int(offsets[partitions == partition].max()) for partition in np.unique(partitions).tolist()}


def arrivals(n: int, rate_per_s: float, seed: int) -> NDArray[np.float64]:
    """Draw the times of n independent events in seconds: a Poisson process, so that some come close together."""
    return np.cumsum(np.random.default_rng(seed).exponential(1.0 / rate_per_s, n))


class Sent(NamedTuple):
    """The delay in seconds from due to handed to the client, (n,), and the processor seconds of the load's process."""

    late_s: NDArray[np.float64]
    cpu_s: float

    @classmethod
    def read(cls, plan: Path) -> Self:
        """Read the result of the process that ran this plan."""
        with plan.with_suffix(".sent").open("rb") as written:
            return cls(*pickle.load(written))  # noqa: S301


class OpenLoad:
    """A plan running in its own process."""

    def __init__(self, plan: Plan, folder: Path, name: str) -> None:
        self.plan, self._path = plan, folder / f"{name}.plan"
        plan.write(self._path)
        self._log = (folder / f"{name}.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.open_load", str(self._path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != b"ready":
            raise RuntimeError(f"the load did not start: {(folder / f'{name}.log').read_text()[-500:]}")

    def start(self, in_s: float = 0.2) -> float:
        """Start the load in `in_s` seconds; return the start as `time.monotonic()`."""
        started_s = time.monotonic() + in_s
        assert self.process.stdin is not None
        self.process.stdin.write(f"{started_s!r}\n".encode())
        self.process.stdin.flush()
        return started_s

    async def finish(self) -> Sent:
        """Wait until every record is sent. Raises: RuntimeError when the load failed."""
        try:
            code = await asyncio.to_thread(self.process.wait, float(self.plan.due_s[-1]) + GRACE_S)
        finally:
            self.close()
        if code:
            raise RuntimeError(f"the load failed: {Path(self._log.name).read_text()[-500:]}")
        return Sent.read(self._path)

    def close(self) -> None:
        """Stop the process if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._log.close()


def connected(plan: Plan) -> Any:
    """Return a producer that has the metadata of the plan's topic."""
    from confluent_kafka import Producer

    producer = Producer(
        {
            "bootstrap.servers": plan.bootstrap_servers,
            "linger.ms": plan.linger_ms,
            "acks": "all",
            "max.in.flight.requests.per.connection": 1,
            "queue.buffering.max.messages": max(len(plan.records), 1),
        }
    )
    producer.list_topics(plan.topic, timeout=GRACE_S)
    return producer


def run(path: Path) -> None:
    """Run the load. Raises: RuntimeError when a record was not delivered."""
    plan = Plan.read(path)
    n, late_s, failed = len(plan.records), np.zeros(len(plan.records)), []
    producer = connected(plan)
    gc.collect()
    gc.disable()  # this loop makes no cycles, and a pause would delay records
    print("ready", flush=True)
    started_s = float(sys.stdin.readline())
    due_s = (plan.due_s + started_s).tolist()
    at, cpu_s = 0, time.process_time()

    def delivered(error: Any, message: Any) -> None:
        if error is not None:
            failed.append(error)

    while at < n:
        now = time.monotonic()
        while at < n and due_s[at] <= now:
            partition, key, value = plan.records[at]
            late_s[at] = time.monotonic() - due_s[at]
            producer.produce(plan.topic, value, key, partition, on_delivery=delivered)
            at += 1
        producer.poll(0)
        if at < n:
            time.sleep(max(0.0, due_s[at] - time.monotonic()))
    if producer.flush(GRACE_S) or failed:
        raise RuntimeError(f"not every record was delivered: {failed[:1] or 'no answer'}")
    with path.with_suffix(".sent").open("wb") as out:
        pickle.dump((late_s, time.process_time() - cpu_s), out)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
