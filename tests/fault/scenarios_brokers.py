"""Brokers that die: what was acknowledged is applied once."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from tests.fault.harness import Harness
from tests.fault.lanes import kafka_home
from tests.fault.registry import Lane, Round, scenario
from tests.kafka_home import KafkaHome, KafkaNodes

DRAIN_S = 120.0
"""A node that was killed waits for its own old session, and a group for its coordinator."""


@scenario("broker_killed", needs=["kafka"])
async def broker_killed(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """`kill -9` of the only node, and a restart."""
    home = kafka_home()
    assert home is not None
    node = KafkaHome(home, folder / "kafka")
    await asyncio.to_thread(node.start)
    try:
        async with Harness(lane, chance, folder, bootstrap_servers=node.bootstrap_servers, drain_s=DRAIN_S) as harness:
            workers = [harness.start_worker() for _ in range(chance.choice((1, 2)))]
            await harness.publish(len(harness.plan) // 3)
            await harness.wait_for(lambda: bool(harness.seen.lists), "a first list")
            async with harness.publishing(6.0):
                await asyncio.sleep(chance.uniform(0.0, 2.0))
                node.kill()
                await asyncio.sleep(chance.uniform(0.0, 3.0))
                await asyncio.to_thread(node.start)
            return await harness.finish(1, alive=workers)
    finally:
        node.kill()


@scenario("brokers_one_by_one", needs=["three_brokers"])
async def brokers_one_by_one(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """Three nodes, three replicas, two in step: each node dies once, so leaders and the group's coordinator do, and comes back."""
    home = kafka_home()
    assert home is not None
    cluster = await asyncio.to_thread(KafkaNodes, home, folder / "kafka")
    await asyncio.to_thread(cluster.__enter__)
    try:
        servers, sections = cluster.bootstrap_servers, {"topics": {"replication_factor": 3}}
        async with Harness(lane, chance, folder, bootstrap_servers=servers, sections=sections, drain_s=DRAIN_S) as harness:
            workers = [harness.start_worker(), harness.start_worker()]
            await harness.publish(len(harness.plan) // 4)
            await harness.wait_for(lambda: bool(harness.seen.lists), "a first list")
            async with harness.publishing(30.0):
                for number in chance.sample(sorted(cluster.nodes), len(cluster.nodes)):
                    node = cluster.nodes[number]
                    node.kill()
                    await asyncio.sleep(chance.uniform(1.0, 5.0))
                    await asyncio.to_thread(node.start)
                    await asyncio.to_thread(cluster.wait_in_sync, harness.settings.topics.events)
            return await harness.finish(len(cluster.nodes), alive=workers)
    finally:
        await asyncio.to_thread(cluster.__exit__, None, None, None)
