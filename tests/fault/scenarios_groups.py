"""What happens to the group of workers and to the topic under it: storms, zombies, wrong clocks, floods of poison, changed topics."""

from __future__ import annotations

import asyncio
import functools
import random
import signal
from dataclasses import replace
from pathlib import Path

import psutil

from tests.fault.arena import PARTITIONS, Arena
from tests.fault.lanes import FaultLane
from tests.fault.registry import Lane, Round, scenario
from tests.fault.wishes import POINTS, Crash
from tests.fault.zygote import Worker
from tests.raw_batches import raw_batch
from workers.kafka.admin import admin_client
from workers.kafka.topics import provision
from workers.settings import Settings
from workers.state.layout import layout_of

STOP_S = 30.0
"""How long a worker that was asked to end may take."""
HOUR_S, DAY_S = 3_600.0, 86_400.0
MORE_PARTITIONS = 6
MOST_MB = 1_024.0
"""Resident memory of a worker, whatever producers send."""


@scenario("rebalance_storm")
async def rebalance_storm(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """Two to five workers, one of which joins, leaves or is killed every second."""
    assert isinstance(lane, FaultLane)
    storm_s = 60 if lane.long else 15
    async with Arena(lane, chance, folder, n_events=(400, 600)) as arena:
        running = [arena.start_worker(), arena.start_worker()]
        left: list[Worker] = []
        async with arena.publishing(float(storm_s)):
            for _ in range(storm_s):
                await asyncio.sleep(1.0)
                if len(running) < 3 or (len(running) < 5 and chance.random() < 0.5):
                    running.append(arena.start_worker())
                    continue
                leaver = running.pop(chance.randrange(len(running)))
                if chance.random() < 0.3:
                    leaver.kill()
                else:
                    leaver.signal(signal.SIGTERM)
                    left.append(leaver)
        codes = {worker.name: await arena.ended(worker, STOP_S) for worker in left if worker.started}
        done = await arena.finish(storm_s, alive=running)
        done.differences.extend(f"{name} ended with {code} when it was asked to end" for name, code in codes.items() if code)
        return done


@scenario("zombie")
async def zombie(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """A worker stands still until another has taken over, and goes on where it stood: at any moment or at a point of a batch."""
    async with Arena(lane, chance, folder) as arena:
        await arena.publish(len(arena.plan) // 3)
        at_point = chance.random() < 0.7
        stops = Crash(chance.choice(POINTS), chance.randint(1, 3), stops=True) if at_point else None
        sleeper = arena.start_worker(stops)
        async with arena.publishing(8.0):
            if not at_point:
                await arena.wait_for(lambda: bool(arena.seen.lists), "a first list")
                await asyncio.sleep(chance.uniform(0.0, 0.5))
                sleeper.signal(signal.SIGSTOP)
            await arena.reached(sleeper, lambda: stands_still(sleeper))
            successor = arena.start_worker()
            await arena.owning(successor)
            await asyncio.sleep(chance.uniform(0.0, 1.0))
            sleeper.signal(signal.SIGCONT)
        return await arena.finish(1, alive=[sleeper, successor])


def stands_still(worker: Worker) -> bool:
    """Return whether a process is stopped by a signal."""
    try:
        return psutil.Process(worker.pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.NoSuchProcess:
        return False


@scenario("clock_jumps")
async def clock_jumps(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """Workers whose wall clocks are wrong by hours or days, each by its own, and jump."""
    async with Arena(lane, chance, folder) as arena:
        jumps = 0
        workers = []
        async with arena.publishing(8.0):
            for _ in range(2):
                times_s = [0.0, *sorted(chance.uniform(1.0, 12.0) for _ in range(3))]
                by_s = [chance.uniform(-1.0, 1.0) * chance.choice((HOUR_S, DAY_S, 5 * DAY_S)) for _ in times_s]
                workers.append(arena.start_worker(jumps=tuple(zip(times_s, by_s, strict=True))))
                jumps += len(times_s)
        return await arena.finish(jumps, alive=workers)


@scenario("poison_flood")
async def poison_flood(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """Most of the records cannot be read."""
    async with Arena(lane, chance, folder, n_events=(400, 600), poison=chance.uniform(0.5, 0.95)) as arena:
        await arena.publish(len(arena.plan) // 2)
        workers = [arena.start_worker() for _ in range(chance.choice((1, 2)))]
        async with arena.publishing(3.0):
            pass
        return await arena.finish(len(arena.poison()), alive=workers)


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
    async with Arena(lane, chance, folder) as arena:
        workers = [arena.start_worker() for _ in range(chance.choice((1, 2)))]
        n_bombs = chance.randint(2, 6)
        async with arena.publishing(2.0):
            for _ in range(n_bombs):
                await asyncio.sleep(chance.uniform(0.0, 0.5))
                await arena.bomb(chance.randrange(PARTITIONS), chance.choice(bombs()))
        await arena.wait_for(arena.applied_all, "what lies behind the bombs")
        peaks = [peak_mb(worker) for worker in workers]
        found = await arena.finish(n_bombs, alive=workers)
        more = [f"{worker.name} took {peak:.0f} MB" for worker, peak in zip(workers, peaks, strict=True) if peak > MOST_MB]
        return replace(found, differences=[*found.differences, *more])


@scenario("topic_recreated")
async def topic_recreated(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """The events topic is deleted and made again, under running workers or between two: they refuse, and the state stays as it is."""
    async with Arena(lane, chance, folder) as arena:
        running = [arena.start_worker() for _ in range(chance.choice((1, 2)))]
        await arena.publish(len(arena.plan) * 2 // 3)
        await arena.wait_for(arena.applied_all, "the lists of the first topic")
        log, under_load = arena.log(), chance.random() < 0.6
        if not under_load:
            for worker in running:
                worker.signal(signal.SIGTERM)
                await arena.ended(worker, STOP_S)
        await asyncio.to_thread(recreate, arena.settings, arena.settings.topics.events)
        if not under_load:
            running = [arena.start_worker()]
        arena.forget_events()
        async with arena.publishing(2.0):
            pass
        return await refused(arena, running, log, ("redis.namespace", "recsys state rebuild"))


def recreate(settings: Settings, topic: str) -> None:
    """Delete a topic and make it again."""
    with admin_client(settings) as admin:
        admin.delete_topics([topic])
    provision(settings)


@scenario("partitions_changed", needs=["kafka"])
async def partitions_changed(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """The events topic gets more partitions, under running workers or between two: they refuse, and nothing is torn."""
    async with Arena(lane, chance, folder) as arena:
        running = [arena.start_worker() for _ in range(chance.choice((1, 2)))]
        await arena.publish(len(arena.plan) // 2)
        await arena.wait_for(arena.applied_all, "the lists before")
        under_load = chance.random() < 0.6
        if not under_load:
            for worker in running:
                worker.signal(signal.SIGTERM)
                await arena.ended(worker, STOP_S)
        await asyncio.to_thread(more_partitions, arena.settings)
        if not under_load:
            running = [arena.start_worker()]
        await arena.spread_over(MORE_PARTITIONS)
        async with arena.publishing(4.0):
            pass
        return await refused(arena, running, None, ("partitions",))


def more_partitions(settings: Settings) -> None:
    """Give the events topic more partitions."""
    with admin_client(settings) as admin:
        admin.create_partitions({settings.topics.events: MORE_PARTITIONS})


async def refused(arena: Arena, running: list[Worker], log: object, remedies: tuple[str, ...]) -> Round:
    """Each of these workers ends by itself with a line that names a remedy, and Redis holds the fold of what was applied before: of `log`,
    or of each partition up to its watermark."""
    differences = []
    for worker in running:
        try:
            code = await arena.ended(worker)
        except TimeoutError:
            differences.append(f"{worker.name} did not end: {worker.last_lines(3)}")
            await arena.stacks()
            continue
        if code != 1 or not any(remedy in worker.last_lines(3) for remedy in remedies):
            differences.append(f"{worker.name} ended with {code} and no remedy: {worker.last_lines(3)}")
    differences += arena.tracebacks()
    if not differences:
        differences += await untouched(arena, log)
    return Round(arena.published, 1, differences)


async def untouched(arena: Arena, log: object) -> list[str]:
    """How the state differs from the fold of a log, or of what was applied."""
    store = arena.own_store()
    await store.open(layout_of(arena.settings))
    try:
        if log is None:
            marks = await store.watermarks(range(PARTITIONS))
            await arena.wait_for(arena.read_back, "the events topic")
            log = {
                p: facts[: 0 if (w := marks[p]) is None else w.last_applied_offset + 1] for p, facts in arena.log().items() if p in marks
            }
        return await arena.differences_from(store, log)  # type: ignore[arg-type]
    finally:
        await store.close()
