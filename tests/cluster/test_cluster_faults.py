"""Stream workers on a Redis Cluster with moving slots and dying primaries: the state equals the fold, or a worker stops with a remedy.

A primary's death loses the writes that its replica had not received, slot by slot: one part of the state goes back and the others do not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tests.builders import START_MS, play
from tests.conftest import TestStack, fresh_sections
from tests.fold import Fact
from tests.integration.test_stream import DEADLINE_S, Topics, short_stream, state_and_fold, topics_of, workers
from tests.redis_cluster import Node, RedisCluster, until
from tests.redis_keys import key_patterns
from workers.bootstrap import open_store
from workers.kafka.partitioner import partition_for
from workers.local.embedded import Child
from workers.redis.keys import Keys, PointerKeys
from workers.settings import Settings
from workers.state.layout import layout_of

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

NODE_TIMEOUT_MS = 4_000  # shorter, and a busy machine has failovers of its own
STEP_PAUSE_S = 0.01
REMEDY = "recsys state rebuild"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path / "cluster", replicas=1, node_timeout_ms=NODE_TIMEOUT_MS) as running:
        yield running


@pytest.fixture
def sections(stack: TestStack, cluster: RedisCluster, tmp_path: Path) -> dict[str, Any]:
    """Return the usual sections, with the state in this test's own cluster."""
    made = fresh_sections(stack, tmp_path)
    made["redis"] |= {"url": cluster.url, "cluster": True, "timeout_s": 2.0}
    return made


def slots_by_tag(settings: Settings, cluster: RedisCluster) -> dict[str, int]:
    """Return every slot that holds state by the hash tag after the namespace: `meta`, `index`, `active`, `g0`…, `p0`…"""
    patterns = key_patterns(Keys(settings.redis.namespace), groups=settings.state.item_groups, partitions=settings.topics.partitions)
    slots = {tag.rpartition(":")[2]: cluster.slot_of(keys[0]) for tag, keys in patterns}
    return slots | {"active": cluster.slot_of(PointerKeys(settings.redis.namespace).generation)}


def reached(settings: Settings, cluster: RedisCluster) -> Settings:
    """Return the settings with the URL of a running node: the named one may have been killed."""
    return settings.model_copy(update={"redis": settings.redis.model_copy(update={"url": SecretStr(cluster.url)})})


def isolate(settings: Settings, cluster: RedisCluster, chosen: Callable[[str], bool]) -> Node:
    """Move slots so that one primary holds the chosen tags and nothing else of the state; return that primary."""
    victim, *others = cluster.primaries
    slots = slots_by_tag(settings, cluster)
    for place, (tag, slot) in enumerate(slots.items()):
        cluster.migrate_slots([slot], victim if chosen(tag) else others[place % len(others)])
    assert {tag for tag, slot in slots.items() if cluster.owner_of(slot) is victim} == set(filter(chosen, slots))
    return victim


async def publish(topics: Topics, facts: Iterable[Fact]) -> dict[str, int]:
    """Publish events; return the newest offset of each user."""
    return {fact.user_id: await topics.event(fact) for fact in facts}


async def answered(topics: Topics, last: dict[str, int]) -> None:
    for user_id, source_offset in last.items():
        await topics.until_answered(user_id, source_offset)


async def publish_and_wait(topics: Topics, facts: Iterable[Fact]) -> None:
    """Publish events and wait until each user's newest list answers them."""
    await answered(topics, await publish(topics, facts))


async def lose(cluster: RedisCluster, victim: Node, acknowledged: Awaitable[None]) -> Node:
    """Kill a primary and lose the writes that it acknowledges while `acknowledged` runs; return the replica that takes over."""
    with cluster.replica_held_back(victim) as replica:
        await acknowledged
        cluster.kill(victim)
    await asyncio.to_thread(cluster.until_primary, replica)
    return replica


def assert_sound(pair: Iterable[Child]) -> None:
    for worker in pair:
        assert worker.running, worker.last_lines(20)
        assert "Traceback" not in worker.log.read_text()


async def test_while_every_slot_of_the_state_moves_the_workers_go_on_and_count_each_event_once(
    stack: TestStack, cluster: RedisCluster, settings: Settings, worker_env: dict[str, str]
) -> None:
    facts = iter(short_stream(20_000))
    slots = slots_by_tag(settings, cluster)
    targets = {
        slot: next(node for node in cluster.primaries if node is not owner) for slot, owner in cluster.owners(slots.values()).items()
    }
    with workers(stack, worker_env, 2) as pair:
        async with topics_of(settings) as topics:
            last = await publish(topics, [next(facts) for _ in range(100)])
            await answered(topics, last)
            for slot, target in targets.items():
                moving = asyncio.ensure_future(asyncio.to_thread(cluster.migrate_slots, [slot], target, pause_s=STEP_PAUSE_S))
                while not moving.done():
                    last |= await publish(topics, [next(facts)])
                    await asyncio.sleep(STEP_PAUSE_S)  # as fast as the keys
                await moving
            last |= await publish(topics, [next(facts) for _ in range(50)])
            await answered(topics, last)
            found, expected = await state_and_fold(reached(settings, cluster), topics.log)
            assert found == expected and not topics.dead
        assert {slot: cluster.owner_of(slot).id for slot in targets} == {slot: node.id for slot, node in targets.items()}
        assert_sound(pair)


async def test_each_primary_killed_with_a_replica_in_step_loses_nothing(
    stack: TestStack, cluster: RedisCluster, settings: Settings, worker_env: dict[str, str]
) -> None:
    facts = iter(short_stream(1_000))
    with workers(stack, worker_env, 2) as pair:
        async with topics_of(settings) as topics:
            for primary in list(cluster.primaries):
                await publish_and_wait(topics, [next(facts) for _ in range(60)])
                await asyncio.to_thread(until, lambda node=primary: cluster.in_sync(node), "the replica is in sync")
                failing_over = asyncio.ensure_future(asyncio.to_thread(cluster.failover, primary))
                last = await publish(topics, [next(facts) for _ in range(60)])
                await failing_over
                await answered(topics, last)
                cluster.restart(primary)
                await asyncio.to_thread(until, cluster.whole, "the old primary is back as a replica")
            found, expected = await state_and_fold(reached(settings, cluster), topics.log)
            assert found == expected and not topics.dead
        assert_sound(pair)


async def test_users_that_went_back_alone_are_replayed(
    stack: TestStack, cluster: RedisCluster, settings: Settings, worker_env: dict[str, str]
) -> None:
    facts = short_stream(180)
    victim = isolate(settings, cluster, lambda tag: tag in ("p0", "p1"))
    with workers(stack, worker_env) as (worker,):
        async with topics_of(settings) as topics:
            await publish_and_wait(topics, facts[:60])

            await lose(cluster, victim, publish_and_wait(topics, facts[60:120]))
            await publish_and_wait(topics, facts[120:])
            found, expected = await state_and_fold(reached(settings, cluster), topics.log)
            assert found == expected and not topics.dead
            assert "went back" in worker.log.read_text(), "nothing was lost"
        assert_sound([worker])


async def test_an_item_group_that_went_back_alone_stops_the_worker_with_the_remedy(
    stack: TestStack, cluster: RedisCluster, settings: Settings, worker_env: dict[str, str]
) -> None:
    facts = short_stream(180)
    victim = isolate(settings, cluster, lambda tag: tag == "g1")
    with workers(stack, worker_env) as (worker,):
        async with topics_of(settings) as topics:
            await publish_and_wait(topics, facts[:60])

            await lose(cluster, victim, publish_and_wait(topics, facts[60:120]))
            await publish(topics, facts[120:])
            await stopped_with_the_remedy(worker)


async def stopped_with_the_remedy(worker: Child) -> None:
    try:
        code = await asyncio.to_thread(worker.process.wait, DEADLINE_S)
    except Exception:
        raise AssertionError(f"the worker goes on: {worker.last_lines(20)}") from None
    assert code == 1 and REMEDY in worker.last_lines(5), worker.last_lines(20)
    assert "Traceback" not in worker.log.read_text()


def with_new_items(facts: Iterable[Fact], prefix: str) -> list[Fact]:
    return [
        play(fact.user_id, f"{prefix}{fact.item_id}", n, at_ms=START_MS + 90_000_000 + 60_000 * n) for n, fact in enumerate(facts, 10_000)
    ]


async def test_item_numbers_that_went_back_alone_are_put_back_by_the_worker_that_knows_them(
    stack: TestStack, cluster: RedisCluster, settings: Settings, worker_env: dict[str, str]
) -> None:
    facts = short_stream(120)
    victim = isolate(settings, cluster, lambda tag: tag == "index")
    with workers(stack, worker_env) as (worker,):
        async with topics_of(settings) as topics:
            await publish_and_wait(topics, facts[:60])

            await lose(cluster, victim, publish_and_wait(topics, with_new_items(facts[:40], "lost")))
            await publish_and_wait(topics, with_new_items(facts[60:], "later"))
            found, expected = await state_and_fold(reached(settings, cluster), topics.log)
            assert found == expected and not topics.dead
        assert_sound([worker])


async def test_item_numbers_that_went_back_while_no_worker_ran_are_not_given_to_other_items(
    stack: TestStack, cluster: RedisCluster, settings: Settings, worker_env: dict[str, str]
) -> None:
    facts = short_stream(120)
    victim = isolate(settings, cluster, lambda tag: tag == "index")
    async with topics_of(settings) as topics:

        async def acknowledge() -> None:
            await publish_and_wait(topics, with_new_items(facts[:40], "lost"))
            stack.embedded.stop_workers()

        with workers(stack, worker_env):
            await publish_and_wait(topics, facts[:60])
            await lose(cluster, victim, acknowledge())
        with workers(stack, {**worker_env, "RECSYS_REDIS__URL": cluster.url}) as (worker,):
            await publish(topics, with_new_items(facts[60:], "later"))
            await stopped_with_the_remedy(worker)


async def test_profiles_and_catalogue_records_that_went_back_alone_are_read_again(
    stack: TestStack, cluster: RedisCluster, settings: Settings, worker_env: dict[str, str]
) -> None:
    facts = short_stream(60)
    victim = isolate(settings, cluster, lambda tag: tag == "index" or tag.startswith("p"))
    with workers(stack, worker_env) as (worker,):
        async with topics_of(settings) as topics:
            await topics.item("i0", title="film", categories=["drama"])
            await publish_and_wait(topics, facts[:30])

            async def acknowledge() -> None:
                await topics.item("lost", title="lost", categories=["drama"])
                await topics.profile("newcomer", preferred_categories=["drama"])
                await eventually(lambda: stored(reached(settings, cluster)), {"profile": True, "item": True})

            await lose(cluster, victim, acknowledge())
            await publish_and_wait(topics, facts[30:])
            await eventually(lambda: stored(reached(settings, cluster)), {"profile": True, "item": True})
        assert_sound([worker])


async def stored(settings: Settings) -> dict[str, bool]:
    """Return which of these the state has: the profile of `newcomer`, the catalogue record of `lost`."""
    store = open_store(settings)
    try:
        await store.open(layout_of(settings))
        (number,) = await store.known_item_numbers(["lost"])
        partition = partition_for(b"newcomer", settings.topics.partitions)
        (profile,) = await store.read_profiles(partition, ["newcomer"])
        in_catalogue = number is not None and (await store.read_items([number]))[0] is not None
        return {"profile": profile is not None, "item": in_catalogue and number in (await store.changed_items(0))[1]}
    finally:
        await store.close()


async def eventually(ask: Callable[[], Awaitable[object]], wanted: object) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while (found := await ask()) != wanted:
        assert time.monotonic() < deadline, f"still {found}"
        await asyncio.sleep(0.1)
