"""Ids are merged while things break: the joined histories are those of plain Python, and lists follow them."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from tests.fault.fault_plan import POINTS, Crash
from tests.fault.harness import Harness
from tests.fault.registry import Lane, Round, scenario
from tests.fault.servers import OwnValkey
from workers.operations.rebuild import rebuild


@scenario("merges_killed")
async def merges_killed(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """Two workers, of which one after the other dies at a step of a batch or somewhere else."""
    async with Harness(lane, chance, folder, with_merges=True) as harness:
        await harness.publish(chance.randint(0, len(harness.plan) // 3))
        kills, survivor = chance.choice((1, 2, 3)), harness.start_worker()
        async with harness.publishing(2.0 * kills):
            for _ in range(kills):
                if chance.random() < 0.5:
                    await harness.died(harness.start_worker(Crash(chance.choice(POINTS), chance.randint(1, 3))))
                else:
                    doomed = harness.start_worker()
                    await asyncio.sleep(chance.uniform(0.5, 2.5))
                    doomed.kill()
        return await harness.finish(kills, alive=[survivor])


@scenario("merges_redis_lost")
async def merges_redis_lost(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """Redis loses everything, while two workers run."""
    with OwnValkey(folder / "valkey") as server:
        async with Harness(lane, chance, folder, redis_url=server.url, with_merges=True) as harness:
            await harness.publish(len(harness.plan) // 4)
            running = [harness.start_worker() for _ in range(2)]
            await harness.wait_for(lambda: bool(harness.seen.lists), "a first list")
            losses = chance.choice((1, 2))
            async with harness.publishing(3.0 * losses):
                for _ in range(losses):
                    await asyncio.sleep(chance.uniform(0.0, 2.5))
                    server.do("FLUSHALL")
            return await harness.finish(losses, alive=running)


@scenario("merges_rebuild")
async def merges_rebuild(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """The state is rebuilt under load, and a worker is killed meanwhile."""
    async with Harness(lane, chance, folder, with_merges=True) as harness:
        await harness.publish(len(harness.plan) // 4)
        running = [harness.start_worker() for _ in range(2)]
        await harness.wait_for(lambda: bool(harness.seen.lists), "a first list")
        async with harness.publishing(4.0):
            rebuilding = asyncio.create_task(rebuild(harness.patient_settings(), wait_s=harness.drain_s))
            await asyncio.sleep(chance.uniform(0.0, 3.0))
            running.pop(chance.randrange(2)).kill()
            running.append(harness.start_worker())
            await rebuilding
        return await harness.finish(2, alive=running)
