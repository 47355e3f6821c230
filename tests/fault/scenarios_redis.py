"""Redis dies, loses everything or something, hangs, fills up, and answers late or never: the state ends as the fold of the log."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

from tests.fault.harness import Harness
from tests.fault.lanes import FaultLane
from tests.fault.registry import Lane, Round, scenario
from tests.fault.servers import OwnValkey, Proxy


@contextlib.asynccontextmanager
async def working(
    lane: Lane, chance: random.Random, folder: Path, server: OwnValkey, through: Proxy | None = None
) -> AsyncIterator[Harness]:
    """One worker or two that have begun to apply a log on this server."""
    workers_redis_url = None if through is None else through.url
    async with Harness(lane, chance, folder, redis_url=server.url, workers_redis_url=workers_redis_url) as harness:
        await harness.publish(len(harness.plan) // 4)
        for _ in range(chance.choice((1, 1, 2))):
            harness.start_worker()
        await harness.wait_for(lambda: bool(harness.seen.lists), "a first list")
        yield harness


async def _restart(server: OwnValkey, chance: random.Random, *, loses_data: bool = False) -> None:
    """Kill the server, and start it again at once or within two seconds; with `loses_data` it is empty then."""
    server.kill()
    if loses_data:
        server.lose()
    await asyncio.sleep(chance.choice((0.0, chance.uniform(0.0, 2.0))))
    server.start_again()


@scenario("redis_killed")
async def redis_killed(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """`kill -9` with every write on disk, and a restart."""
    with OwnValkey(folder / "valkey") as server:
        async with working(lane, chance, folder, server) as harness:
            kills = chance.randint(1, 3)
            async with harness.publishing(2.0 * kills):
                for _ in range(kills):
                    await asyncio.sleep(chance.uniform(0.0, 1.5))
                    await _restart(server, chance)
            return await harness.finish(kills, alive=harness.workers)


@scenario("redis_lost")
async def redis_lost(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """Killed, and empty when it comes back: the log is applied from its start."""
    with OwnValkey(folder / "valkey") as server:
        async with working(lane, chance, folder, server) as harness:
            async with harness.publishing(3.0):
                await asyncio.sleep(chance.uniform(0.0, 2.0))
                await _restart(server, chance, loses_data=True)
            return await harness.finish(1, alive=harness.workers)


@scenario("redis_flushed")
async def redis_flushed(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """FLUSHALL: everything is gone, and the server is the same."""
    with OwnValkey(folder / "valkey") as server:
        async with working(lane, chance, folder, server) as harness:
            async with harness.publishing(3.0):
                await asyncio.sleep(chance.uniform(0.0, 3.0))
                server.do("FLUSHALL")
            return await harness.finish(1, alive=harness.workers)


@scenario("redis_lost_with_hidden_items")
async def redis_lost_with_hidden_items(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """Everything is lost twice, under load and while everybody is idle: no list of all that come holds an item that is not available."""
    with OwnValkey(folder / "valkey") as server:
        async with working(lane, chance, folder, server) as harness:
            async with harness.publishing(3.0):
                await asyncio.sleep(chance.uniform(0.0, 2.0))
                await _lose(server, chance)
            await harness.wait_for(harness.answered, "every user's newest list")
            before, users = harness.n_lists(), harness.due()
            await _lose(server, chance)
            await harness.listed_since(before, users)
            return await harness.finish(2, alive=harness.workers)


async def _lose(server: OwnValkey, chance: random.Random) -> None:
    """FLUSHALL, or a death after which the server is empty."""
    if chance.random() < 0.5:
        server.do("FLUSHALL")
    else:
        await _restart(server, chance, loses_data=True)


@scenario("redis_failover")
async def redis_failover(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """A replica that lags is promoted: the newest acknowledged writes are gone."""
    with OwnValkey(folder / "primary") as primary, OwnValkey(folder / "replica") as replica:
        replica.do("REPLICAOF", "127.0.0.1", primary.port)
        deadline = time.monotonic() + 10.0
        while replica.info("master_link_status") != "up":
            if time.monotonic() > deadline:
                raise TimeoutError("the replica never came up")
            await asyncio.sleep(0.02)
        async with Proxy(primary.port, chance) as proxy, working(lane, chance, folder, replica, proxy) as harness:
            async with harness.publishing(4.0):
                await asyncio.sleep(chance.uniform(0.0, 2.0))
                replica.do("REPLICAOF", "NO", "ONE")
                await asyncio.sleep(chance.uniform(0.0, 1.5))
                if chance.random() < 0.5:
                    primary.kill()
                proxy.point_at(replica.port)
            return await harness.finish(1, alive=harness.workers)


@scenario("proxy_delays")
async def proxy_delays(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """Requests and answers wait, some of them longer than `redis.timeout_s`."""
    with OwnValkey(folder / "valkey", "--appendonly", "no") as server:
        async with Proxy(server.port, chance) as proxy, working(lane, chance, folder, server, proxy) as harness:
            async with harness.publishing(4.0):
                for _ in range(4):
                    proxy.slow, proxy.delay_s = chance.choice(((0.5, 0.05), (0.1, 0.5), (0.02, 4.0)))
                    await asyncio.sleep(chance.uniform(0.5, 2.0))
            proxy.calm()
            return await harness.finish(proxy.faults, alive=harness.workers)


@scenario("proxy_cuts")
async def proxy_cuts(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """Connections are cut in the middle of a request."""
    with OwnValkey(folder / "valkey", "--appendonly", "no") as server:
        async with Proxy(server.port, chance) as proxy, working(lane, chance, folder, server, proxy) as harness:
            async with harness.publishing(5.0):
                proxy.cut = chance.choice((0.02, 0.05, 0.1))
                await harness.reached(harness.workers[0], lambda: proxy.faults >= 10)
            proxy.calm()
            return await harness.finish(proxy.faults, alive=harness.workers)


@scenario("proxy_drops_reply")
async def proxy_drops_reply(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """What was asked is done, and the answer never comes."""
    with OwnValkey(folder / "valkey", "--appendonly", "no") as server:
        async with Proxy(server.port, chance) as proxy, working(lane, chance, folder, server, proxy) as harness:
            async with harness.publishing(5.0):
                proxy.swallow = chance.choice((0.02, 0.05, 0.1))
                await harness.reached(harness.workers[0], lambda: proxy.faults >= 10)
            proxy.calm()
            return await harness.finish(proxy.faults, alive=harness.workers)


@scenario("redis_away")
async def redis_away(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """Ten seconds without Redis (two minutes in a long run): refused connections, or no answers."""
    assert isinstance(lane, FaultLane)
    away_s = 120.0 if lane.long else 10.0
    with OwnValkey(folder / "valkey") as server:
        async with working(lane, chance, folder, server) as harness:
            hangs = chance.random() < 0.5
            async with harness.publishing(away_s + 1.0):
                await asyncio.sleep(chance.uniform(0.0, 1.0))
                (server.hang if hangs else server.kill)()
                await asyncio.sleep(away_s)
                (server.go_on if hangs else server.start_again)()
            return await harness.finish(1, alive=harness.workers)


@scenario("redis_full")
async def redis_full(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """No memory for writes, then more."""
    with OwnValkey(folder / "valkey", "--appendonly", "no") as server:
        async with working(lane, chance, folder, server) as harness:
            times = chance.randint(1, 3)
            async with harness.publishing(3.0 * times):
                for _ in range(times):
                    await asyncio.sleep(chance.uniform(0.2, 1.0))
                    server.do("CONFIG", "SET", "maxmemory", server.info("used_memory") + chance.choice((-100_000, 0, 20_000)))
                    await asyncio.sleep(chance.uniform(1.0, 2.0))
                    server.do("CONFIG", "SET", "maxmemory", 0)
            return await harness.finish(times, alive=harness.workers)


@scenario("functions_flushed")
async def functions_flushed(lane: Lane, chance: random.Random, folder: Path) -> Round:
    """FUNCTION FLUSH at any moment: they are loaded again within the call."""
    with OwnValkey(folder / "valkey", "--appendonly", "no") as server:
        async with working(lane, chance, folder, server) as harness:
            times = chance.randint(5, 15)
            async with harness.publishing(3.0):
                for _ in range(times):
                    await asyncio.sleep(chance.uniform(0.0, 0.4))
                    server.do("FUNCTION", "FLUSH")
            return await harness.finish(times, alive=harness.workers)
