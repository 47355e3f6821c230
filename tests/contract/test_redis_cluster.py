"""The store while a cluster moves slots and changes primaries: right answers or Transient, never a wrong node in silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.contract.conftest import LAYOUT, redis_settings
from tests.redis_cluster import Node, RedisCluster
from workers.errors import Transient
from workers.redis.store import RedisStore
from workers.state.port import UserCommit, Watermark

pytestmark = pytest.mark.cluster

USERS = {f"u{n}": b"row %d" % n for n in range(12)}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path_factory.mktemp("moving"), replicas=1, node_timeout_ms=3_000) as running:
        yield running


@pytest.fixture
async def store(cluster: RedisCluster) -> AsyncIterator[RedisStore]:
    """A store with the users of partition 0, several connections to each node, and a view of the slots as they are now."""
    made = RedisStore(redis_settings(cluster.url, cluster=True))
    await made.open(LAYOUT)
    await made.commit_users([UserCommit(0, "t", -1, 11, USERS)])
    await asyncio.gather(*(made.watermarks(range(LAYOUT.partitions)) for _ in range(5)))
    yield made
    await made.close()


def partition_slot(cluster: RedisCluster, store: RedisStore) -> tuple[int, Node]:
    """The slot of partition 0 and a primary that has it not."""
    slot = cluster.slot_of(store.keys.partition_watermark(0))
    owner = cluster.owner_of(slot)
    return slot, next(node for node in cluster.primaries if node is not owner)


async def test_single_keys_are_found_at_every_step_of_a_migration_by_many_at_once(cluster: RedisCluster, store: RedisStore) -> None:
    slot, target = partition_slot(cluster, store)
    for _ in cluster.migration(slot, target):
        marks = await asyncio.gather(*(store.watermarks([0]) for _ in range(4)))
        assert marks == [{0: Watermark("t", 11)}] * 4
        rows = await asyncio.gather(*(store.read_users(0, [user_id]) for user_id in USERS))
        assert rows == [[row] for row in USERS.values()]
    assert cluster.owner_of(slot) is target


async def test_a_call_over_keys_of_both_sides_is_transient_and_writes_nothing(cluster: RedisCluster, store: RedisStore) -> None:
    slot, target = partition_slot(cluster, store)
    moved = 0
    for step in cluster.migration(slot, target):
        moved += step not in ("opened", "closed")
        if step != "opened" and moved == len(USERS) // 2:
            with pytest.raises(Transient, match="moving slots"):
                await store.read_users(0, list(USERS))
            with pytest.raises(Transient, match="moving slots"):
                await store.commit_users([UserCommit(0, "t", 11, 12, dict.fromkeys(USERS, b"new"))])
            assert await store.watermarks([0]) == {0: Watermark("t", 11)}
    assert await store.read_users(0, list(USERS)) == list(USERS.values())
    (committed,) = await store.commit_users([UserCommit(0, "t", 11, 12, dict.fromkeys(USERS, b"new"))])
    assert committed.committed


async def test_a_slot_that_has_moved_is_followed_without_a_failure(cluster: RedisCluster, store: RedisStore) -> None:
    slot, target = partition_slot(cluster, store)
    await asyncio.to_thread(cluster.migrate_slots, [slot], target)
    assert await store.read_users(0, list(USERS)) == list(USERS.values())


async def test_a_scan_gives_every_user_or_says_that_the_slot_is_moving(cluster: RedisCluster, store: RedisStore) -> None:
    slot, target = partition_slot(cluster, store)
    for step in cluster.migration(slot, target):
        if step != "closed":
            with pytest.raises(Transient, match="moving slots"):
                [user_id async for user_id in store.scan_users(0)]
    assert {user_id async for user_id in store.scan_users(0)} == set(USERS)


async def test_a_scan_of_the_former_owner_is_refused_and_goes_to_the_new_one_next(cluster: RedisCluster, store: RedisStore) -> None:
    slot, target = partition_slot(cluster, store)
    await asyncio.to_thread(cluster.migrate_slots, [slot], target)
    with pytest.raises(Transient, match="moving slots"):
        [user_id async for user_id in store.scan_users(0)]
    assert {user_id async for user_id in store.scan_users(0)} == set(USERS)


async def test_functions_are_loaded_on_a_node_that_gets_its_first_slots(cluster: RedisCluster, store: RedisStore) -> None:
    slot, target = partition_slot(cluster, store)
    target.client.execute_command("FUNCTION", "FLUSH")
    await asyncio.to_thread(cluster.migrate_slots, [slot], target)
    (committed,) = await store.commit_users([UserCommit(0, "t", 11, 12, {"u0": b"new"})])
    assert committed.committed


async def test_a_planned_failover_loses_no_acknowledged_write(cluster: RedisCluster, store: RedisStore) -> None:
    slot, _ = partition_slot(cluster, store)
    done, has_written = asyncio.Event(), asyncio.Event()
    last = 11

    async def write() -> None:
        nonlocal last
        while not done.is_set():
            try:
                (result,) = await store.commit_users([UserCommit(0, "t", last, last + 1, {"u0": b"%d" % last})])
            except Transient:
                mark = (await patiently_watermark(store)).last_applied_offset
                assert mark in (last, last + 1)
                last = mark
            else:
                assert result.committed
                last += 1
                has_written.set()

    writing = asyncio.ensure_future(write())
    try:
        await asyncio.wait_for(has_written.wait(), 60)
        await asyncio.to_thread(cluster.graceful_failover, cluster.owner_of(slot))
    finally:
        done.set()
        await writing
    assert (await patiently_watermark(store)).last_applied_offset == last > 11


async def patiently_watermark(store: RedisStore) -> Watermark:
    """Partition 0's watermark, as soon as the cluster answers."""
    while True:
        try:
            mark = (await store.watermarks([0]))[0]
            assert mark is not None
            return mark
        except Transient:
            await asyncio.sleep(0.05)
