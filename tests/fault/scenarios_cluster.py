"""A Redis Cluster that moves slots and changes primaries while workers write."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from tests.fault.harness import Harness
from tests.fault.registry import Lane, Round, scenario
from tests.fault.topics import PARTITIONS
from tests.redis_cluster import RedisCluster
from workers.redis.store import RedisStore
from workers.settings import Settings
from workers.state.layout import layout_of

SECTIONS = {"redis": {"cluster": True}}
REMEDY = "recsys state rebuild"


async def slots_in_use(settings: Settings, cluster: RedisCluster) -> list[int]:
    """Slots of the state's own keys."""
    store = RedisStore(settings.redis)
    await store.open(layout_of(settings))
    try:
        keys = [store.keys.partition_watermark(p) for p in range(PARTITIONS)]
        keys += [store.keys.group_watermarks(group) for group in range(settings.state.item_groups)] + [store.keys.ids]
        return sorted({cluster.slot_of(key) for key in keys})
    finally:
        await store.close()


@scenario("cluster_migration", needs=["cluster"])
async def cluster_migration(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """The slots of the state move between primaries, key by key."""
    cluster = await asyncio.to_thread(RedisCluster(folder / "redis").start)
    try:
        async with Harness(lane, chance, folder, redis_url=cluster.url, sections=SECTIONS) as harness:
            workers = [harness.start_worker() for _ in range(chance.choice((1, 2)))]
            await harness.publish(len(harness.plan) // 4)
            await harness.wait_for(lambda: bool(harness.seen.lists), "a first list")
            slots = await slots_in_use(harness.settings, cluster)
            async with harness.publishing(6.0):
                for slot in slots:
                    owner = cluster.owner_of(slot)
                    target = chance.choice([node for node in cluster.primaries if node is not owner])
                    await asyncio.to_thread(cluster.migrate_slots, [slot], target, pause_s=chance.choice((0.0, 0.01, 0.05)))
            return await harness.finish(len(slots), alive=workers)
    finally:
        await asyncio.to_thread(cluster.stop)


@scenario("cluster_failover", needs=["cluster"])
async def cluster_failover(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """A primary hands over to its replica, or dies: then a shard may lose writes, and workers mend that or refuse with the remedy."""
    cluster = await asyncio.to_thread(RedisCluster(folder / "redis", replicas=1, node_timeout_ms=2_000).start)
    try:
        async with Harness(lane, chance, folder, redis_url=cluster.url, sections=SECTIONS) as harness:
            workers = [harness.start_worker() for _ in range(chance.choice((1, 2)))]
            await harness.publish(len(harness.plan) // 4)
            await harness.wait_for(lambda: bool(harness.seen.lists), "a first list")
            owners = [cluster.owner_of(slot) for slot in await slots_in_use(harness.settings, cluster)]
            named = cluster.url  # the settings name one node, which a process that starts later has to find
            primary = chance.choice([node for node in owners if not named.endswith(f":{node.port}")])
            dies = chance.random() < 0.6
            async with harness.publishing(6.0):
                await asyncio.sleep(chance.uniform(0.0, 2.0))
                await asyncio.to_thread(cluster.failover if dies else cluster.graceful_failover, primary)
            if dies:
                await harness.wait_for(lambda: harness.answered() or not any(w.running for w in workers), "lists or refusals", 90.0)
                gone = [worker for worker in workers if not worker.running]
                if gone:
                    silent = [f"{w.name} ended without the remedy: {w.last_lines(3)}" for w in gone if REMEDY not in w.last_lines(3)]
                    return Round(harness.published, 1, silent + harness.tracebacks())
            return await harness.finish(1, alive=workers)
    finally:
        await asyncio.to_thread(cluster.stop)
