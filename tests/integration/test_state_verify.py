"""`recsys state verify` on a real broker and a real Redis: what it counts, and that it names whatever is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from recsys.state.item_row import pack_records
from tests.builders import START_MS, play
from tests.fold import counted, fold
from tests.integration.test_cli import recsys
from tests.integration.test_state_rebuild import apply, opened, server  # noqa: F401 (a fixture)
from tests.integration.test_stream import Topics, topics_of
from workers.bootstrap import open_store
from workers.kafka.partitioner import partition_for
from workers.kafka.topics import provision
from workers.operations.rebuild import rebuild
from workers.operations.reference_fold import user_digest
from workers.operations.verify import Verification, verify
from workers.redis.keys import Keys
from workers.settings import Settings
from workers.state.port import StateStore, UserCommit
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.pipeline import Pipeline
from workers.stream.reference_topics import Intake
from workers.stream.reread import reread_compacted

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

N_USERS, N_ITEMS = 40, 9
FACTS = [
    play(f"u{n % N_USERS}", f"i{(n * 7 + n // N_USERS) % N_ITEMS}", n, at_ms=START_MS + 600_000 * n) for n in range(6 * N_USERS)
]  # 40 hours


async def take_catalogue_in(settings: Settings) -> None:
    """What a worker makes of the low-rate topics: the state, and the note that it was read."""
    pipeline = Pipeline(settings, open_store(settings), ranks=False)
    await pipeline.open()
    try:
        await reread_compacted(settings, Intake(settings, pipeline.state, pipeline.lists, CatalogueFollower(pipeline.state)))
        await pipeline.state.store.note_catalogue("read")
    finally:
        await pipeline.state.store.close()


@asynccontextmanager
async def forty_users(settings: Settings) -> AsyncIterator[Topics]:
    """Forty users in four partitions, two described items, two removed and one unavailable."""
    async with topics_of(settings) as topics:
        for n in range(4):
            await topics.item(f"i{n}", title=f"film {n}", available=n != 3, embeddings={"plot": [n / 7, 0.123456789]})
        await topics.remove_item("i2")
        await topics.remove_item("i7")  # which was never described
        await topics.events(FACTS)
        await apply(settings, topics)
        await take_catalogue_in(settings)
        yield topics


async def checked(settings: Settings, n_users: int = 100) -> Verification:
    return await verify(settings, n_users=n_users)


async def test_each_part_is_compared_and_every_user_is_counted_once(settings: Settings, worker_env: dict[str, str]) -> None:
    async with forty_users(settings) as topics:
        for asked, compared in ((0, 0), (10, 10), (40, 40), (200, 40)):
            found = await checked(settings, asked)
            assert (found.n_users, found.n_users_stored, found.differences) == (compared, N_USERS, [])
        assert (found.n_items, found.n_items_numbered, found.n_item_rows) == (N_ITEMS, N_ITEMS, N_ITEMS)
        n_spans = len(counted(fold(topics.log, settings), settings, topics.log).popularity)
        assert found.n_popularity_buckets == n_spans > 9 and found.n_catalogue_items == 5 and found.n_events == len(FACTS)
        assert not found.partial
        # a user whose producer hashed otherwise has rows in two partitions, and is one user all the same
        own = partition_for(b"u0", settings.topics.partitions)
        other = (own + 1) % settings.topics.partitions
        await topics.item("i8", title="not read yet")
        async with opened(settings) as store:
            await copy_row(store, "u0", own, other)
        found = await checked(settings, 200)
        assert (found.n_users, found.n_users_stored) == (N_USERS, N_USERS)
        assert len(found.differences) == 1 and f"partition {other}, user {user_digest('u0')}" in found.differences[0]
        command = recsys(worker_env, "state", "verify", "--users", "10", "--items", "2")
        counts = f"10 of 40 users, 2 rows of 2 of 9 items, {n_spans} popularity spans compared with 240 events, 6 items of the catalogue"
        assert counts in command.stdout
        quick = await verify(settings, n_users=100, n_items=0)
        assert quick.n_items == quick.n_item_rows == quick.n_popularity_buckets == 0 and quick.n_users == N_USERS


async def copy_row(store: StateStore, user_id: str, source: int, target: int) -> None:
    """Give a user a row in another partition too."""
    (row,), mark = await store.read_users(source, [user_id]), (await store.watermarks([target]))[target]
    assert row is not None and mark is not None
    last = mark.last_applied_offset
    assert all(result.committed for result in await store.commit_users([UserCommit(target, mark.topic_id, last, last, {user_id: row})]))


async def test_merged_ids_are_compared_with_the_users_topic(server: Any, settings: Settings) -> None:  # noqa: F811
    async with forty_users(settings) as topics:
        await topics.profile("u1", merged_into="u2")
        await topics.profile("u3", merged_into="u4")
        await topics.profile("u3")
        await topics.profile("u5", merged_into="u5")  # a dead letter
        assert (await checked(settings)).n_merged_ids == 0, "workers have not read them"
        await take_catalogue_in(settings)
        found = await checked(settings)
        assert (found.n_merged_ids, found.differences) == (1, [])
        partitions, keys = settings.topics.partitions, Keys(settings.redis.namespace)
        merged = keys.merged(partition_for(b"u1", partitions))
        server.hset(merged, "u1", "u9\n")
        server.hset(keys.merged(partition_for(b"u7", partitions)), "u7", "u2\n")
        lines = (await checked(settings)).differences
        assert len(lines) == 4 and all(line.startswith("merged id ") for line in lines), "each by the topic, and by its account"
        assert sum(f"by the state as user {user_digest(account)}" in line for line in lines for account in ("u9", "u2")) == 2


async def test_whatever_part_is_corrupted_is_named(server: Any, settings: Settings) -> None:  # noqa: F811
    async with forty_users(settings):
        keys, groups = Keys(settings.redis.namespace), settings.state.item_groups
        async with opened(settings) as store:
            names = await store.item_names()
            pages = [page async for page in store.scan_rows()]
        number = names.index("i1")
        row_id = next(row_id for page in pages for _, row_id in page if row_id[0] == "c" and row_id[2] == number)
        hour = max(row_id for page in pages for _, row_id in page if row_id[1] == "10m")
        (row,) = keys.rows(number % groups, [row_id])
        (bucket,) = keys.rows(0, [("pop", "all", 0)])
        newest = next(key for group in range(groups) if server.exists(key := keys.rows(group, [hour])[0]))
        items = keys.items(names.index("i0") % groups)
        removed = keys.items(names.index("i2") % groups)
        stored = server.hget(items, names.index("i0"))

        async def differs(*starts: str) -> None:
            found = await checked(settings)
            assert found.n_differences == len(starts), found.differences
            assert all(line.startswith(start) for line, start in zip(found.differences, starts, strict=True)), found.differences

        titles = ("item 'i1' in the epoch from ", "popularity, all time", "popularity, half-life 10m, span from 2023-11-")
        for key, title in zip((row, bucket, newest), titles, strict=True):
            before = server.get(key)
            server.append(key, pack_records([0], [1]))
            await differs(title)
            server.delete(key)
            await differs(title)
            server.set(key, before)
        noted = server.hget(keys.epochs(number % groups), number)
        server.hdel(keys.epochs(number % groups), number)
        await differs("item 'i1': epoch ")
        server.hset(keys.epochs(number % groups), number, noted)
        server.rpush(keys.names, "i1")
        assert any(line.startswith("numbering: number 9 is that of item 'i1', whose") for line in (await checked(settings)).differences)
        server.rpop(keys.names)
        server.hdel(keys.ids, "i5")
        await differs("numbering: number ")
        server.hset(keys.ids, "i5", names.index("i5"))
        server.hset(items, names.index("i0"), stored.replace(b"film 0", b"film 1"))
        await differs("catalogue, item 'i0': it has another content than its record")
        server.hset(items, names.index("i0"), b":".join(stored.split(b":", 2)[:2]) + b":")
        await differs("catalogue, item 'i0': the state says that it was removed, its record describes it")
        server.hdel(items, names.index("i0"))
        await differs("catalogue, item 'i0': the topic has a record of it, the state has none")
        server.hset(items, names.index("i0"), stored)
        gone = server.hget(removed, names.index("i2"))
        server.hset(removed, names.index("i2"), gone + b'{"item_id":"i2"}')
        await differs("catalogue, item 'i2': the state describes it, its record removed it")
        server.hset(removed, names.index("i2"), gone)
        partition = partition_for(b"u3", settings.topics.partitions)
        row = server.get(user := keys.users(partition, ["u3"])[0])
        server.delete(user)
        await differs(f"partition {partition}, user {user_digest('u3')}: the row is missing")
        server.set(user, row)
        mark = server.hget(keys.group_watermarks(1), partition)
        server.hset(keys.group_watermarks(1), partition, mark.rpartition(b":")[0] + b":3")
        await differs(f"item group 1 is at offset 3 in partition {partition}, the users are at ")
        server.hset(keys.group_watermarks(1), partition, mark)
        newest_s = server.get(keys.event_time(partition))
        server.set(keys.event_time(partition), 2_000_000_000)
        await differs(f"partition {partition}: the newest event is of second 2000000000 by the state, and of {int(newest_s)} by the log")
        server.set(keys.event_time(partition), newest_s)
        mark = server.get(keys.partition_watermark(partition))
        server.set(keys.partition_watermark(partition), mark.rpartition(b":")[0] + b":3")
        assert (await checked(settings)).n_differences > 0
        server.delete(keys.partition_watermark(partition))
        await differs(f"partition {partition} has users and no watermark: it lost state")
        server.set(keys.partition_watermark(partition), mark)
        await differs()


async def listable(settings: Settings) -> set[str]:
    """Items that a fresh worker may list."""
    pipeline = Pipeline(settings, open_store(settings))
    try:
        await pipeline.open()
        await CatalogueFollower(pipeline.state).follow()
        allowed = pipeline.state.engine.catalogue.recommendable(START_MS // 1000)
        return {name for name, is_allowed in zip(pipeline.state.numbering.names, allowed.tolist(), strict=True) if is_allowed}
    finally:
        await pipeline.state.store.close()


async def test_a_removed_item_stays_removed_after_a_rebuild_from_a_compacted_topic(settings: Settings) -> None:
    """C13: compaction deletes tombstones in the end; a topic without them stands for one that was compacted."""
    everything = {f"i{n}" for n in range(N_ITEMS)}
    async with forty_users(settings):
        assert await listable(settings) == everything - {"i2", "i3", "i7"}
    compacted = settings.model_copy(update={"topics": settings.topics.model_copy(update={"items": f"{settings.topics.items}.compacted"})})
    provision(compacted)
    async with topics_of(compacted) as topics:
        for n in (0, 1, 3):
            await topics.item(f"i{n}", title=f"film {n}", available=n != 3)
        lines: list[str] = []
        await rebuild(compacted, wait_s=0, say=lines.append)
        assert any(line.startswith("2 items are taken over from generation 0") for line in lines)
        assert await listable(compacted) == everything - {"i2", "i3", "i7"}
        await take_catalogue_in(compacted)
        assert (await checked(compacted)).differences == []
        await topics.item("i2", title="back again")
        await take_catalogue_in(compacted)
        assert await listable(compacted) == everything - {"i3", "i7"}
        await rebuild(compacted, wait_s=0)
        assert await listable(compacted) == everything - {"i3", "i7"}, "its record says so"
