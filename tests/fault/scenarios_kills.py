"""`kill -9` at every step of a batch: what was half done is done once when the log is read again."""

from __future__ import annotations

import random
from pathlib import Path

from tests.fault.fault_plan import POINTS, Crash
from tests.fault.harness import Harness
from tests.fault.registry import Lane, Round, scenario


async def killed_at(point: str, lane: Lane, chance: random.Random, folder: Path) -> Round:
    """One worker or two; one dies at the point, and so may its successor; the last one lives."""
    async with Harness(lane, chance, folder) as harness:
        kills = chance.choice((1, 1, 2))
        crashes: list[Crash | None] = [Crash(point, chance.randint(1, 3)) for _ in range(kills)] + [None]
        await harness.publish(chance.randint(0, len(harness.plan) // 2))
        others = [harness.start_worker() for _ in range(chance.choice((0, 0, 1)))]
        async with harness.publishing(chance.uniform(1.0, 6.0)):
            for crash in crashes:
                worker = harness.start_worker(crash)
                if crash is not None:
                    await harness.died(worker)
        return await harness.finish(kills, alive=[*others, worker])


def _register(point: str) -> None:
    async def run(lane: Lane, chance: random.Random, folder: Path) -> Round:
        return await killed_at(point, lane, chance, folder)

    scenario(f"kill_{point}")(run)


for _point in POINTS:
    _register(_point)
