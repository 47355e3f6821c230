"""What happens to the group of workers and to the topic under it: storms, zombies, wrong clocks, floods of poison, changed topics."""

from __future__ import annotations

import asyncio
import functools
import random
import signal
from dataclasses import replace
from pathlib import Path

import psutil

from tests.fault.fault_plan import POINTS, Crash
from tests.fault.harness import Harness
from tests.fault.lanes import FaultLane
from tests.fault.registry import Lane, Round, scenario
from tests.fault.topics import PARTITIONS
from tests.fault.worker_spawner import Worker
from tests.raw_batches import raw_batch
from workers.kafka.admin import admin_client
from workers.kafka.topics import provision
from workers.settings import Settings
from workers.state.layout import layout_of

STOP_S = 60.0
"""How long a worker that was asked to end may take: 10 s on a quiet machine. `test_stream_limits.py` holds it to its limit."""
HOUR_S, DAY_S = 3_600.0, 86_400.0
MORE_PARTITIONS = 6
MOST_MB = 1_024.0
"""Resident memory of a worker, whatever producers send."""


@scenario("rebalance_storm")
async def rebalance_storm(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """Two to five workers, one of which joins, leaves or is killed every second."""
    assert isinstance(lane, FaultLane)
    storm_s = 60 if lane.long else 15
    async with Harness(lane, chance, folder, n_events=(400, 600)) as harness:
        running = [harness.start_worker(), harness.start_worker()]
        left: list[Worker] = []
        async with harness.publishing(float(storm_s)):
            for _ in range(storm_s):
                await asyncio.sleep(1.0)
                if len(running) < 3 or (len(running) < 5 and chance.random() < 0.5):
                    running.append(harness.start_worker())
                    continue
                leaver = running.pop(chance.randrange(len(running)))
                if chance.random() < 0.3:
                    leaver.kill()
                else:
                    leaver.signal(signal.SIGTERM)
                    left.append(leaver)
        codes = {worker.name: await harness.ended(worker, STOP_S) for worker in left if worker.started}
        done = await harness.finish(storm_s, alive=running)
        done.differences.extend(f"{name} ended with {code} when it was asked to end" for name, code in codes.items() if code)
        return done


@scenario("zombie")
async def zombie(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """A worker stands still until another has taken over, and goes on where it stood: at any moment or at a point of a batch."""
    async with Harness(lane, chance, folder) as harness:
        await harness.publish(len(harness.plan) // 3)
        at_point = chance.random() < 0.7
        stops = Crash(chance.choice(POINTS), chance.randint(1, 3), stops=True) if at_point else None
        sleeper = harness.start_worker(stops)
        async with harness.publishing(8.0):
            if not at_point:
                await harness.wait_for(lambda: bool(harness.seen.lists), "a first list")
                await asyncio.sleep(chance.uniform(0.0, 0.5))
                sleeper.signal(signal.SIGSTOP)
            await harness.reached(sleeper, lambda: stands_still(sleeper))
            successor = harness.start_worker()
            await harness.owning(successor)
            await asyncio.sleep(chance.uniform(0.0, 1.0))
            sleeper.signal(signal.SIGCONT)
        return await harness.finish(1, alive=[sleeper, successor])


def stands_still(worker: Worker) -> bool:
    """Return whether a process is stopped by a signal."""
    try:
        return psutil.Process(worker.pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.NoSuchProcess:
        return False


@scenario("clock_jumps")
async def clock_jumps(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """Workers whose wall clocks are wrong by hours or days, each by its own, and jump."""
    async with Harness(lane, chance, folder) as harness:
        jumps = 0
        workers = []
        async with harness.publishing(8.0):
            for _ in range(2):
                times_s = [0.0, *sorted(chance.uniform(1.0, 12.0) for _ in range(3))]
                by_s = [chance.uniform(-1.0, 1.0) * chance.choice((HOUR_S, DAY_S, 5 * DAY_S)) for _ in times_s]
                workers.append(harness.start_worker(jumps=tuple(zip(times_s, by_s, strict=True))))
                jumps += len(times_s)
        return await harness.finish(jumps, alive=workers)


@scenario("poison_flood")
async def poison_flood(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """Most of the records cannot be read."""
    async with Harness(lane, chance, folder, n_events=(400, 600), poison=chance.uniform(0.5, 0.95)) as harness:
        await harness.publish(len(harness.plan) // 2)
        workers = [harness.start_worker() for _ in range(chance.choice((1, 2)))]
        async with harness.publishing(3.0):
            pass
        return await harness.finish(len(harness.poison()), alive=workers)


@functools.cache
def bombs() -> list[bytes]:
    """One record of 60 MB in a batch below the broker's limit, and one with 300,000 headers."""
    return [raw_batch("zstd", [(b"u0", b"A" * 60_000_000, 0)])[0], raw_batch("gzip", [(b"u0", b"{}", 300_000)])[0]]


def peak_mb(worker: Worker) -> float:
    """The most resident memory that a worker has taken."""
    status = Path(f"/proc/{worker.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


@scenario("compression_bomb")
async def compression_bomb(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """Batches that expand to tens of megabytes, between good ones: each is a dead letter, and memory stays bounded."""
    async with Harness(lane, chance, folder) as harness:
        workers = [harness.start_worker() for _ in range(chance.choice((1, 2)))]
        n_bombs = chance.randint(2, 6)
        async with harness.publishing(2.0):
            for _ in range(n_bombs):
                await asyncio.sleep(chance.uniform(0.0, 0.5))
                await harness.bomb(chance.randrange(PARTITIONS), chance.choice(bombs()))
        await harness.wait_for(harness.applied_all, "what lies behind the bombs")
        peaks = [peak_mb(worker) for worker in workers]
        found = await harness.finish(n_bombs, alive=workers)
        more = [f"{worker.name} took {peak:.0f} MB" for worker, peak in zip(workers, peaks, strict=True) if peak > MOST_MB]
        return replace(found, differences=[*found.differences, *more])


@scenario("topic_recreated")
async def topic_recreated(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """The events topic is deleted and made again, under running workers or between two: they refuse, and the state stays as it is."""
    async with Harness(lane, chance, folder) as harness:
        running = [harness.start_worker() for _ in range(chance.choice((1, 2)))]
        await harness.publish(len(harness.plan) * 2 // 3)
        await harness.wait_for(harness.applied_all, "the lists of the first topic")
        log, under_load = harness.log(), chance.random() < 0.6
        if not under_load:
            for worker in running:
                worker.signal(signal.SIGTERM)
                await harness.ended(worker, STOP_S)
        await asyncio.to_thread(recreate, harness.settings, harness.settings.topics.events)
        if not under_load:
            running = [harness.start_worker()]
        harness.forget_events()
        async with harness.publishing(2.0):
            pass
        return await refused(harness, running, log, ("redis.namespace", "recsys state rebuild"))


def recreate(settings: Settings, topic: str) -> None:
    """Delete a topic and make it again."""
    with admin_client(settings) as admin:
        admin.delete_topics([topic])
    provision(settings)


@scenario("partitions_changed", needs=["kafka"])
async def partitions_changed(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """The events topic gets more partitions, under running workers or between two: they refuse, and nothing is torn."""
    async with Harness(lane, chance, folder) as harness:
        running = [harness.start_worker() for _ in range(chance.choice((1, 2)))]
        await harness.publish(len(harness.plan) // 2)
        await harness.wait_for(harness.applied_all, "the lists before")
        under_load = chance.random() < 0.6
        if not under_load:
            for worker in running:
                worker.signal(signal.SIGTERM)
                await harness.ended(worker, STOP_S)
        await asyncio.to_thread(more_partitions, harness.settings)
        if not under_load:
            running = [harness.start_worker()]
        await harness.spread_over(MORE_PARTITIONS)
        async with harness.publishing(4.0):
            pass
        return await refused(harness, running, None, ("partitions",))


def more_partitions(settings: Settings) -> None:
    """Give the events topic more partitions."""
    with admin_client(settings) as admin:
        admin.create_partitions({settings.topics.events: MORE_PARTITIONS})


async def refused(harness: Harness, running: list[Worker], log: object, remedies: tuple[str, ...]) -> Round:
    """Each of these workers ends by itself with a line that names a remedy, and Redis holds the fold of what was applied before: of `log`,
    or of each partition up to its watermark."""
    differences = []
    for worker in running:
        try:
            code = await harness.ended(worker)
        except TimeoutError:
            differences.append(f"{worker.name} did not end: {worker.last_lines(3)}")
            await harness.stacks()
            continue
        if code != 1 or not any(remedy in worker.last_lines(3) for remedy in remedies):
            differences.append(f"{worker.name} ended with {code} and no remedy: {worker.last_lines(3)}")
    differences += harness.tracebacks()
    if not differences:
        differences += await untouched(harness, log)
    return Round(harness.published, 1, differences)


async def untouched(harness: Harness, log: object) -> list[str]:
    """How the state differs from the fold of a log, or of what was applied."""
    store = harness.own_store()
    await store.open(layout_of(harness.settings))
    try:
        if log is None:
            marks = await store.watermarks(range(PARTITIONS))
            await harness.wait_for(harness.read_back, "the events topic")
            log = {
                p: facts[: 0 if (w := marks[p]) is None else w.last_applied_offset + 1] for p, facts in harness.log().items() if p in marks
            }
        return await harness.differences_from(store, log)  # type: ignore[arg-type]
    finally:
        await store.close()
