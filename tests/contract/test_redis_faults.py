"""What a failing server means: Transient or Fatal, with a remedy, and the next call is clean."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from tests.contract.conftest import LAYOUT, free_port, redis_settings, start_server, stop_server
from workers.errors import Fatal, Transient
from workers.redis.store import RedisStore
from workers.settings import RedisSettings
from workers.state.port import UserCommit, Watermark
from workers.state.sending import in_flight


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    process, number = start_server(tmp_path)
    yield number
    stop_server(process)


@pytest.fixture
def admin(port: int) -> Iterator[Any]:
    with redis.Redis(port=port) as client:
        yield client


@pytest.fixture
async def store(port: int) -> AsyncIterator[RedisStore]:
    made = RedisStore(redis_settings(f"redis://127.0.0.1:{port}/0", timeout_s=0.5))
    await made.open(LAYOUT)
    yield made
    await made.close()


async def test_lost_functions_are_loaded_again_within_the_call(store: RedisStore, admin: Any) -> None:
    admin.function_flush()
    assert await store.item_numbers(["a", "b"]) == [0, 1]
    admin.function_flush()
    commits = [UserCommit(partition, "t", -1, 4, {"u": b"x"}) for partition in range(3)]
    assert [result.committed for result in await store.commit_users(commits)] == [True] * 3


async def test_a_write_is_carried_out_while_the_event_loop_is_busy(store: RedisStore, admin: Any) -> None:
    await store.item_numbers(["a"])
    (key,) = store.keys.users(0, ["u"])
    committed: list[bool] = []

    async def write() -> None:
        committed.extend(result.committed for result in await store.commit_users([UserCommit(0, "t", -1, 4, {"u": b"x" * 20_000})]))

    async with in_flight(write()):
        deadline = time.monotonic() + 5.0
        while not admin.exists(key) and time.monotonic() < deadline:
            pass  # as a worker computes: nothing else gets its turn
        assert admin.exists(key)
    assert committed == [True]


async def test_a_server_that_does_not_say_good_bye_keeps_nobody(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stuck() -> None:
        raise redis.TimeoutError("Timed out closing connection after 2.0")

    with monkeypatch.context() as patched:
        patched.setattr(store._link._client, "aclose", stuck)
        await store.close()


async def test_another_version_of_the_functions_is_noticed_and_left_alone(store: RedisStore, admin: Any) -> None:
    admin.function_load("#!lua name=recsys_0123456789\nredis.register_function('recsys_x_0123456789', function() return 1 end)")
    (identity,) = await store.server_identity()
    assert len(identity.libraries) == 2 and "recsys_0123456789" in identity.libraries
    assert await store.item_numbers(["a"]) == [0]
    assert admin.fcall("recsys_x_0123456789", 0) == 1


async def test_a_server_that_went_away_is_transient_and_comes_back(tmp_path: Path) -> None:
    process, port = start_server(tmp_path)
    store = RedisStore(redis_settings(f"redis://127.0.0.1:{port}/0"))
    await store.open(LAYOUT)
    await store.open(LAYOUT)  # as whoever takes partitions over does: connections outlive what is forgotten then
    before = (await store.server_identity())[0]
    stop_server(process)
    with pytest.raises(Transient, match="check that it runs"):
        await store.item_numbers(["a"])
    with pytest.raises(Transient):
        await store.ping()
    process, _ = start_server(tmp_path, port_wanted=port)
    try:
        for _ in range(3):  # what a caller holds may be ahead of a server that was restarted: it has to look first
            with pytest.raises(Transient):
                await store.item_numbers(["a"])
        await store.open(LAYOUT)
        assert await store.item_numbers(["a"]) == [0]
        after = (await store.server_identity())[0]
        assert (after.run_id, after.replication_id) != (before.run_id, before.replication_id)
    finally:
        stop_server(process)
        await store.close()


async def test_a_slow_server_is_transient_and_its_late_answers_reach_nobody(store: RedisStore, admin: Any) -> None:
    await store.commit_users([UserCommit(0, "t", -1, 0, {"u": b"one", "v": b"two"})])
    admin.execute_command("CLIENT", "PAUSE", 800, "ALL")
    with pytest.raises(Transient, match="timeout_s"):
        await store.read_users(0, ["u"])
    while True:
        try:
            assert await store.read_users(0, ["v"]) == [b"two"]
            return
        except Transient:
            continue


async def test_a_cancelled_call_leaves_its_answer_to_nobody(store: RedisStore) -> None:
    await store.commit_users([UserCommit(0, "t", -1, 0, {f"u{i}": b"%d" % i for i in range(50)})])
    for i in range(50):
        task = asyncio.ensure_future(store.read_users(0, [f"u{i}"]))
        for _ in range(i % 7):
            await asyncio.sleep(0)
        task.cancel()
        assert await store.read_users(0, [f"u{(i * 3) % 50}"]) == [b"%d" % ((i * 3) % 50)]
        await asyncio.gather(task, return_exceptions=True)


async def test_full_memory_is_transient_and_writes_nothing(store: RedisStore, admin: Any) -> None:
    admin.config_set("maxmemory", 1)
    with pytest.raises(Transient, match="maxmemory"):
        await store.commit_users([UserCommit(0, "t", -1, 4, {"u": b"x"})])
    assert await store.read_users(0, ["u"]) == [None], "reads go on"
    admin.config_set("maxmemory", 0)
    assert (await store.commit_users([UserCommit(0, "t", -1, 4, {"u": b"x"})]))[0].committed


async def test_a_replica_is_transient(store: RedisStore, admin: Any) -> None:
    admin.execute_command("REPLICAOF", "127.0.0.1", 1)
    with pytest.raises(Transient, match="replica"):
        await store.item_numbers(["a"])
    assert (await store.server_identity())[0].role == "slave"


async def test_a_wrong_password_is_fatal_and_stays_secret(store: RedisStore, admin: Any, port: int) -> None:
    admin.config_set("requirepass", "right-secret")
    url = f"redis://127.0.0.1:{port}/0"
    wrong = redis_settings(url, password=SecretStr("wrong-secret"))
    for settings in (redis_settings(url), wrong, redis_settings(f"redis://:wrong-secret@127.0.0.1:{port}")):
        other = RedisStore(settings)
        with pytest.raises(Fatal, match=r"redis\.password") as caught:
            await other.open(LAYOUT)
        assert "secret" not in str(caught.value) and "secret" not in repr(settings)
        await other.close()
    right = RedisStore(redis_settings(url, password=SecretStr("right-secret")))
    await right.open(LAYOUT)
    await right.close()


async def test_a_user_without_rights_waits_for_the_one_that_is_named(store: RedisStore, admin: Any, port: int) -> None:
    admin.execute_command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read")
    other = RedisStore(redis_settings(f"redis://127.0.0.1:{port}/0", username="reader", password=SecretStr("pw")))
    with pytest.raises(Transient, match=r"the user reader lacks the command INFO \(\+info\)"):
        await other.open(LAYOUT)
    await other.close()


async def test_a_foreign_key_under_the_namespace_is_fatal_and_quotes_nothing(store: RedisStore, admin: Any) -> None:
    admin.rpush(store.keys.partition_watermark(0), "x")
    with pytest.raises(Fatal, match=r"redis\.namespace") as caught:
        await store.commit_users([UserCommit(0, "t", -1, 4, {"somebody": b"private"})])
    assert "somebody" not in str(caught.value) and "private" not in str(caught.value)


async def test_a_single_server_is_no_cluster(port: int) -> None:
    other = RedisStore(redis_settings(f"redis://127.0.0.1:{port}", cluster=True))
    with pytest.raises(Fatal, match=r"redis\.cluster"):
        await other.open(LAYOUT)
    await other.close()


@pytest.mark.cluster
async def test_a_cluster_is_no_single_server(cluster_url: str) -> None:
    with redis.RedisCluster.from_url(cluster_url) as admin:
        here = admin.get_node_from_key("{t:meta}")
        elsewhere = next(f"t{i}" for i in range(1_000) if admin.get_node_from_key(f"{{t{i}:meta}}") != here)
        url = f"redis://127.0.0.1:{here.port}"
    other = RedisStore(RedisSettings(url=SecretStr(url), namespace=elsewhere))
    with pytest.raises(Fatal, match=r"redis\.cluster"):
        await other.open(LAYOUT)
    await other.close()


@pytest.mark.cluster
async def test_lost_functions_are_loaded_again_on_every_node(cluster_url: str) -> None:
    store = RedisStore(redis_settings(cluster_url, cluster=True))
    await store.open(LAYOUT)
    with redis.RedisCluster.from_url(cluster_url) as admin:
        for node in admin.get_primaries():
            admin.execute_command("FUNCTION FLUSH", target_nodes=node)
    commits = [UserCommit(partition, "t", -1, 4, {"u": b"x"}) for partition in range(LAYOUT.partitions)]
    assert [result.committed for result in await store.commit_users(commits)] == [True] * LAYOUT.partitions
    found = await store.watermarks(range(LAYOUT.partitions))
    assert set(found.values()) == {Watermark("t", 4)}
    await store.close()


def test_a_wrong_url_is_fatal() -> None:
    with pytest.raises(Fatal, match=r"redis\.url"):
        RedisStore(RedisSettings(url=SecretStr("http://secret-host")))


async def test_a_store_that_was_not_opened_says_so(port: int) -> None:
    store = RedisStore(redis_settings(f"redis://127.0.0.1:{port}"))
    with pytest.raises(Fatal, match="open"):
        await store.commit_users([UserCommit(0, "t", -1, 4, {})])
    await store.close()


@pytest.mark.cluster
async def test_a_cluster_is_found_by_its_seeds_when_the_node_of_the_url_is_away(cluster_url: str) -> None:
    seeds = f"127.0.0.1:{free_port()}, {cluster_url.removeprefix('redis://')}"
    store = RedisStore(redis_settings(f"redis://127.0.0.1:{free_port()}", cluster=True, seeds=seeds))
    await store.open(LAYOUT)
    assert await store.item_numbers(["a"]) == [0]
    await store.close()


def test_a_seed_without_a_port_is_fatal() -> None:
    with pytest.raises(Fatal, match=r"redis\.seeds"):
        RedisStore(redis_settings("redis://127.0.0.1:1", cluster=True, seeds="somewhere"))
