"""`recsys state rebuild` beside workers: the state is the fold of the log, and every user's list is made of all of it."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from tests.fault.harness import Harness
from tests.fault.registry import Lane, Round, scenario
from workers.operations.rebuild import rebuild


@scenario("rebuild_under_load")
async def rebuild_under_load(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """A rebuild while events flow and a worker is killed; then one while everybody is idle, after which no event brings anything in."""
    async with Harness(lane, chance, folder) as harness:
        await harness.publish(len(harness.plan) // 4)
        running = [harness.start_worker() for _ in range(chance.choice((1, 2)))]
        await harness.wait_for(lambda: bool(harness.seen.lists), "a first list")
        async with harness.publishing(4.0):
            rebuilding = asyncio.create_task(_rebuild(harness))
            await asyncio.sleep(chance.uniform(0.0, 3.0))
            running.pop(chance.randrange(len(running))).kill()
            running.append(harness.start_worker())
            await rebuilding
        await harness.wait_for(harness.answered, "every user's newest list")
        before, users = harness.n_lists(), harness.due()
        await _rebuild(harness)
        await harness.listed_since(before, users)
        differences = await harness.lists_differ(users)
        done = await harness.finish(3, alive=running)
        return Round(done.events, done.faults, differences + done.differences)


async def _rebuild(harness: Harness) -> None:
    await rebuild(harness.patient_settings(), wait_s=harness.drain_s)
