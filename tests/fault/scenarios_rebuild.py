"""`recsys state rebuild` beside workers: the state is the fold of the log, and every user's list is made of all of it."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from tests.fault.arena import Arena
from tests.fault.registry import Lane, Round, scenario
from workers.operations.rebuild import rebuild


@scenario("rebuild_under_load")
async def rebuild_under_load(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """A rebuild while events flow and a worker is killed; then one while everybody is idle, after which no event brings anything in."""
    async with Arena(lane, chance, folder) as arena:
        await arena.publish(len(arena.plan) // 4)
        running = [arena.start_worker() for _ in range(chance.choice((1, 2)))]
        await arena.wait_for(lambda: bool(arena.seen.lists), "a first list")
        async with arena.publishing(4.0):
            rebuilding = asyncio.create_task(_rebuild(arena))
            await asyncio.sleep(chance.uniform(0.0, 3.0))
            running.pop(chance.randrange(len(running))).kill()
            running.append(arena.start_worker())
            await rebuilding
        await arena.wait_for(arena.answered, "every user's newest list")
        before, users = arena.n_lists(), arena.due()
        await _rebuild(arena)
        await arena.listed_since(before, users)
        differences = await arena.lists_differ(users)
        done = await arena.finish(3, alive=running)
        return Round(done.events, done.faults, differences + done.differences)


async def _rebuild(arena: Arena) -> None:
    await rebuild(arena.patient_settings(), wait_s=arena.drain_s)
