"""An open-loop producer in a process of its own: records go out when they are due, whatever becomes of the ones before.

    python -m benchmarks.open_load PLAN

A plan (`Plan.write`) holds records with the second at which each is due. The process says `ready` once it is connected and reads the start
(`time.monotonic()`, which all processes of a machine share) from its input. At the end it writes how late each record was handed to the
client, which is librdkafka: the load shall take little of the machine that it measures. One request is in flight at a time, so a partition
keeps its order, and the offset of a record is known without asking: the partition's end before, and its place among the plan's records of
that partition. Whoever relies on that compares the ends afterwards.
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
"""How long the load's producer waits for more records: as Apache Kafka's own client does by default since 4.0."""
GRACE_S = 30.0
"""How much longer than its plan a load may take."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Records as (partition, key, value), when each is due in seconds after the start, and where the partitions end now."""

    bootstrap_servers: str
    topic: str
    ends: Mapping[int, int]
    records: Sequence[tuple[int, bytes, bytes]]
    due_s: NDArray[np.float64]
    linger_ms: int = LINGER_MS

    def write(self, path: Path) -> None:
        """Keep it for the load's process."""
        with path.open("wb") as out:
            pickle.dump((self.bootstrap_servers, self.topic, self.ends, self.records, self.due_s, self.linger_ms), out)

    @classmethod
    def read(cls, path: Path) -> Self:
        """What this program wrote a moment ago."""
        with path.open("rb") as written:
            return cls(*pickle.load(written))  # noqa: S301

    def places(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Partition and offset of each record, both (n,)."""
        partitions = np.array([partition for partition, _, _ in self.records], np.int32)
        offsets = np.zeros(len(partitions), np.int64)
        for partition in np.unique(partitions).tolist():
            chosen = partitions == partition
            offsets[chosen] = self.ends[partition] + np.arange(chosen.sum())
        return partitions, offsets

    def lasts(self) -> dict[int, int]:
        """Partition ▸ offset of its last record, where it gets any."""
        partitions, offsets = self.places()
        return {partition: int(offsets[partitions == partition].max()) for partition in np.unique(partitions).tolist()}


def arrivals(n: int, rate_per_s: float, seed: int) -> NDArray[np.float64]:
    """When n independent events happen, in seconds: gaps of a Poisson process, so that some come together as users do."""
    return np.cumsum(np.random.default_rng(seed).exponential(1.0 / rate_per_s, n))


class Sent(NamedTuple):
    """Seconds that each record was handed to the client after it was due, (n,), and the processor seconds of the load's process."""

    late_s: NDArray[np.float64]
    cpu_s: float

    @classmethod
    def read(cls, plan: Path) -> Self:
        """What the process of this plan wrote at its end."""
        with plan.with_suffix(".sent").open("rb") as written:
            return cls(*pickle.load(written))  # noqa: S301


class OpenLoad:
    """A plan under way in its own process."""

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
        """Begin this soon; the second (`time.monotonic()`) from which all is due."""
        started_s = time.monotonic() + in_s
        assert self.process.stdin is not None
        self.process.stdin.write(f"{started_s!r}\n".encode())
        self.process.stdin.flush()
        return started_s

    async def finish(self) -> Sent:
        """Wait until all is sent; how that went. Raises RuntimeError when it did not go to the end."""
        try:
            code = await asyncio.to_thread(self.process.wait, float(self.plan.due_s[-1]) + GRACE_S)
        finally:
            self.close()
        if code:
            raise RuntimeError(f"the load failed: {Path(self._log.name).read_text()[-500:]}")
        return Sent.read(self._path)

    def close(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._log.close()


def connected(plan: Plan) -> Any:
    """A producer that has heard of the plan's topic."""
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
    """The load itself. Raises RuntimeError when a record was not taken."""
    plan = Plan.read(path)
    n, late_s, failed = len(plan.records), np.zeros(len(plan.records)), []
    producer = connected(plan)
    gc.collect()
    gc.disable()  # nothing here makes cycles, and a pause would be the load's own
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
        raise RuntimeError(f"not every record was taken: {failed[:1] or 'no answer'}")
    with path.with_suffix(".sent").open("wb") as out:
        pickle.dump((late_s, time.process_time() - cpu_s), out)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
