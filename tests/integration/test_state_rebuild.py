"""Rebuilding the state from the log and checking it, on a real broker and a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis

import workers.operations.generations
import workers.operations.rebuild
import workers.operations.verify
from tests.builders import records_of
from tests.fold import fold, read_state
from tests.integration.test_cli import recsys
from tests.integration.test_stream import Topics, short_stream, state_and_fold, topics_of
from tests.integration.test_stream import workers as stream_workers
from workers.bootstrap import open_store
from workers.errors import Fatal, Transient
from workers.kafka.offsets import start_offsets_async
from workers.kafka.records import Place
from workers.kafka.topics import topic_ids_async
from workers.operations import rebuild_jobs
from workers.operations.generations import use
from workers.operations.rebuild import drop, rebuild
from workers.operations.reference_fold import user_digest
from workers.operations.verify import Verification, verify
from workers.redis.keys import Keys, PointerKeys, generation_namespace
from workers.settings import Settings
from workers.state.layout import layout_of
from workers.state.port import StateStore
from workers.stream.pipeline import Pipeline

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

FACTS = short_stream(400)
USERS = sorted({fact.user_id for fact in FACTS})


@pytest.fixture
def server(stack: Any) -> Any:
    with (redis.Redis if stack.cluster is None else redis.RedisCluster).from_url(stack.redis_url) as client:
        yield client


def keys_of(server: Any, settings: Settings, generation: int) -> set[str]:
    """All keys of a generation; of generation 0 without the pointers, which are of all."""
    namespace = generation_namespace(settings.redis.namespace, generation)
    found = {key.decode() for key in server.scan_iter(Keys(namespace).pattern, count=1_000)}
    return found - set(PointerKeys(settings.redis.namespace))


@asynccontextmanager
async def opened(settings: Settings, generation: int | None = None) -> AsyncIterator[StateStore]:
    store = open_store(settings)
    try:
        await store.open(layout_of(settings), generation)
        yield store
    finally:
        await store.close()


async def apply(settings: Settings, topics: Topics) -> None:
    """What a worker would make of everything published so far."""
    pipeline = Pipeline(settings, open_store(settings), ranks=False)
    try:
        await pipeline.open()
        ids = await topic_ids_async(settings)
        nexts = await pipeline.assign(list(topics.log), ids[settings.topics.events])
        await pipeline.process({p: records_of(facts[nexts[p] :], nexts[p]) for p, facts in topics.log.items() if facts[nexts[p] :]})
    finally:
        await pipeline.state.store.close()


@asynccontextmanager
async def applied(settings: Settings) -> AsyncIterator[Topics]:
    """The stream published, with a catalogue and a profile, and the events applied to generation 0."""
    async with topics_of(settings) as topics:
        await topics.item("i0", title="film 0", categories=["war"])
        await topics.profile("u0", preferred_categories=["comedy"])
        for fact in FACTS:
            await topics.event(fact)
        await apply(settings, topics)
        yield topics


async def checked(settings: Settings, **arguments: Any) -> Verification:
    return await verify(settings, n_users=100, **arguments)


async def test_events_around_a_rebuild_count_once_and_workers_follow_the_switch(
    stack: Any, server: Any, settings: Settings, worker_env: dict[str, str]
) -> None:
    facts = short_stream(900)
    with stream_workers(stack, worker_env, 2) as pair:
        async with topics_of(settings) as topics:
            last: dict[str, int] = {}
            for n in range(12):
                await topics.item(f"i{n}", title=f"film {n}", categories=["war"], embeddings={"plot": [n / 7, 0.123456789]})
            for fact in facts[:300]:
                last[fact.user_id] = await topics.event(fact)
            await topics.until(lambda: all(topics.answered(*at) for at in last.items()), "lists before the rebuild")
            published = 300
            stop = asyncio.Event()

            async def go_on() -> None:
                nonlocal published
                while not stop.is_set() and published < 800:
                    last[facts[published].user_id] = await topics.event(facts[published])
                    published += 1
                    await asyncio.sleep(0.005)  # a steady stream, not a condition

            publishing = asyncio.create_task(go_on())
            under_load = await checked(settings)
            assert under_load.differences == [] and under_load.n_item_rows > 0, "the fold stops where each part was read"
            made = await rebuild(settings, wait_s=60)
            stop.set()
            await publishing
            assert made.generation == 1 and made.taken_over and made.n_users >= made.n_verified > 0 and made.n_events >= 300
            for fact in facts[published : published + 50]:
                last[fact.user_id] = await topics.event(fact)
            for at in last.items():
                await topics.until_answered(*at)
            found, expected = await state_and_fold(settings, topics.log)
            assert found == expected
            assert not topics.dead
        assert all(worker.running for worker in pair)
    assert keys_of(server, settings, 0) == set()
    async with opened(settings) as store:
        assert store.generation == 1
        numbers = [n for n in await store.known_item_numbers([f"i{n}" for n in range(12)]) if n is not None]
        assert len(numbers) == 12 and all(await store.read_items(numbers))
    assert (await checked(settings)).differences == []


def lose_everything(server: Any, settings: Settings) -> None:
    server.delete(*keys_of(server, settings, 0))


def lose_a_group(server: Any, settings: Settings) -> None:
    server.delete(Keys(settings.redis.namespace).group_watermarks(2))


def lose_nothing(server: Any, settings: Settings) -> None:
    pass


@pytest.mark.parametrize("loss", [lose_nothing, lose_a_group, lose_everything])
async def test_whatever_was_lost_a_rebuild_gives_the_fold_of_the_log(
    server: Any, settings: Settings, loss: Callable[[Any, Settings], None]
) -> None:
    async with applied(settings) as topics:
        loss(server, settings)
        lines: list[str] = []
        made = await rebuild(settings, wait_s=0, say=lines.append)
        assert (made.generation, made.n_events, made.n_users, made.n_verified) == (1, len(FACTS), len(USERS), len(USERS))
        assert made.taken_over, "nothing came after the last batch"
        assert any("1 items, 1 users, 0 models" in line for line in lines), lines
        found, expected = await state_and_fold(settings, topics.log)
        assert found == expected
        async with opened(settings) as store:
            partition = next(p for p, facts in topics.log.items() if any(fact and fact.user_id == "u0" for fact in facts))
            assert (await store.read_profiles(partition, ["u0"]))[0] is not None
            assert (await store.read_items(await store.item_numbers(["i0"])))[0] is not None
        assert keys_of(server, settings, 0) == set()
        again = await rebuild(settings, wait_s=0)
        assert again.generation == 2 and again.n_dropped > len(USERS) and keys_of(server, settings, 1) == set()


async def test_a_rebuild_in_several_processes_gives_the_fold_of_the_log(server: Any, settings: Settings) -> None:
    async with applied(settings) as topics:
        lines: list[str] = []
        made = await rebuild(settings, wait_s=0, n_jobs=2, say=lines.append)
        assert (made.generation, made.n_events, made.n_users, made.n_verified) == (1, len(FACTS), len(USERS), len(USERS))
        assert f"{len(FACTS):,} events are folded" in lines and made.taken_over
        found, expected = await state_and_fold(settings, topics.log)
        assert found == expected
        assert keys_of(server, settings, 0) == set()


async def test_a_killed_job_of_a_rebuild_leaves_the_old_state_and_nothing_else(
    server: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with applied(settings):
        before = keys_of(server, settings, 0)
        monkeypatch.setattr(rebuild_jobs, "fold_part", killed)
        with pytest.raises(Transient, match="a process of the rebuild ended with code -9: run it again"):
            await rebuild(settings, wait_s=0, n_jobs=2)
        assert (keys_of(server, settings, 0), keys_of(server, settings, 1)) == (before, set())


def killed(*_: Any) -> None:
    """Be a job that the system ends."""
    os.kill(os.getpid(), signal.SIGKILL)


async def test_a_state_of_an_older_layout_version_is_refused_and_a_rebuild_migrates_it(
    server: Any, settings: Settings, worker_env: dict[str, str]
) -> None:
    async with applied(settings) as topics:
        key = Keys(settings.redis.namespace).layout
        server.set(key, server.get(key).replace(b'"layout_version": 2', b'"layout_version": 1'))
        for user in server.scan_iter(f"{{{settings.redis.namespace}:p*}}:u:*"):
            server.set(user, b"\x02" + bytes(40))  # as older workers wrote them
        refused = recsys(worker_env, "state", "verify")
        assert refused.returncode == 1 and "layout_version 1" in refused.stderr and "recsys state rebuild" in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
        assert (await rebuild(settings, wait_s=0)).n_verified == len(USERS)
        found, expected = await state_and_fold(settings, topics.log)
        assert found == expected


async def test_a_kept_generation_can_be_dropped_later(server: Any, settings: Settings) -> None:
    async with applied(settings):
        before = keys_of(server, settings, 0)
        made = await rebuild(settings, wait_s=0, keep_old=True)
        assert made.n_dropped == 0 and keys_of(server, settings, 0) == before
        with pytest.raises(Fatal, match="generation 1 of the state is the active one"):
            await drop(settings, 1)
        assert await drop(settings, 0) == len(before)
        assert keys_of(server, settings, 0) == set()


async def test_events_around_a_way_back_to_a_kept_generation_count_once(
    stack: Any, server: Any, settings: Settings, worker_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = short_stream(500)
    with stream_workers(stack, worker_env, 1) as pair:
        async with topics_of(settings) as topics:
            last: dict[str, int] = {}

            async def go_on(some: list[Any]) -> None:
                for fact in some:
                    last[fact.user_id] = await topics.event(fact)
                for at in last.items():
                    await topics.until_answered(*at)

            await topics.item("i0", title="film 0", categories=["war"])
            await go_on(facts[:200])
            assert (await rebuild(settings, wait_s=60, keep_old=True)).taken_over
            kept = keys_of(server, settings, 0)
            await topics.item("i1", title="film 1", categories=["war"])
            await go_on(facts[200:300])
            assert keys_of(server, settings, 0) == kept, "nobody writes to the kept one"
            done = await use(settings, 0, wait_s=60)
            assert done.taken_over and (done.before, done.n_behind) == (1, 100)
            await go_on(facts[300:400])
            found, expected = await state_and_fold(settings, topics.log)
            assert found == expected
            assert (await checked(settings)).differences == [], "the items since the switch too"
            assert (await use(settings, 1, wait_s=60)).n_behind >= 100
            await go_on(facts[400:])
            found, expected = await state_and_fold(settings, topics.log)
            assert found == expected and not topics.dead
            listed = recsys(worker_env, "state", "generations", "--json")
            states = [(one["generation"], one["serves"], one["problem"]) for one in json.loads(listed.stdout)]
            assert states == [(0, False, ""), (1, True, "")]
            monkeypatch.setattr(workers.operations.generations, "start_offsets_async", beginning_at(450))
            with pytest.raises(Fatal, match="no longer holds what generation 0 has not applied"):
                await use(settings, 0)
        assert all(worker.running for worker in pair)
    refused = recsys(worker_env, "state", "use", "1")
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1 and "is the one that serves" in refused.stderr


def beginning_at(offset: int) -> Any:
    async def starts(settings: Settings, topics: list[str]) -> dict[Place, int]:
        return dict.fromkeys(await start_offsets_async(settings, topics), offset)

    return starts


async def test_a_shadow_that_a_crash_left_behind_is_dropped_first(server: Any, settings: Settings) -> None:
    async with applied(settings) as topics:
        async with opened(settings, 1) as store:
            await store.item_numbers(["from", "the", "crash"])
        await rebuild(settings, wait_s=0)
        async with opened(settings) as store:
            assert "crash" not in await store.item_names()
        found, expected = await state_and_fold(settings, topics.log)
        assert found == expected


async def test_an_interrupted_rebuild_leaves_the_old_state_and_nothing_else(server: Any, settings: Settings) -> None:
    async with applied(settings) as topics:
        before = keys_of(server, settings, 0)
        reached = asyncio.Event()
        rebuilding = asyncio.create_task(rebuild(settings, wait_s=0, say=lambda line: reached.set() if line.startswith("read ") else None))
        await reached.wait()
        assert keys_of(server, settings, 1)
        with pytest.raises(Fatal, match="another rebuild is at work"):
            await rebuild(settings, wait_s=0)
        rebuilding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await rebuilding
        assert (keys_of(server, settings, 0), keys_of(server, settings, 1)) == (before, set())
        assert not server.exists(*PointerKeys(settings.redis.namespace)), "no pointer, no claim"
        async with opened(settings) as store:
            expected = fold(topics.log, settings)
            assert await read_state(store, settings, expected) == expected
        assert (await rebuild(settings, wait_s=0)).generation == 1


async def test_a_switch_by_somebody_else_is_not_undone(server: Any, settings: Settings) -> None:
    pointer = PointerKeys(settings.redis.namespace).generation

    def meddle(line: str) -> None:
        if "are what the log says" in line:
            server.set(pointer, 7)

    async with applied(settings):
        with pytest.raises(Fatal, match="somebody else switched"):
            await rebuild(settings, wait_s=0, say=meddle)
        assert server.get(pointer) == b"7" and keys_of(server, settings, 1) == set()


async def test_a_shadow_that_differs_from_the_log_is_never_served(server: Any, settings: Settings) -> None:
    def corrupt(line: str) -> None:
        if line.endswith("events are folded"):
            server.delete(Keys(generation_namespace(settings.redis.namespace, 1)).group_watermarks(3))

    async with applied(settings):
        with pytest.raises(Fatal, match=r"item group 3 has no watermark .* lost state"):
            await rebuild(settings, wait_s=0, say=corrupt)
        assert keys_of(server, settings, 1) == set() and keys_of(server, settings, 0)
        assert (await checked(settings)).generation == 0


async def test_a_log_without_its_start_is_refused_unless_partial(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def without_start(settings: Settings, topics: list[str]) -> dict[Place, int]:
        found = await start_offsets_async(settings, topics)
        return {place: 20 if place[0] == settings.topics.events and place[1] == busy else at for place, at in found.items()}

    async with applied(settings) as topics:
        busy = max(topics.log, key=lambda p: len(topics.log[p]))
        monkeypatch.setattr(workers.operations.rebuild, "start_offsets_async", without_start)
        monkeypatch.setattr(workers.operations.verify, "start_offsets_async", without_start)
        with pytest.raises(Fatal, match=rf"partition {busy} at 20.*--partial"):
            await rebuild(settings, wait_s=0)
        made = await rebuild(settings, wait_s=0, partial=True)
        assert made.n_events == len(FACTS) - 20
        found = await checked(settings)
        assert found.partial and found.differences == []
        shortened = {p: [None] * 20 + list(facts[20:]) if p == busy else facts for p, facts in topics.log.items()}
        async with opened(settings) as store:
            expected = fold(shortened, settings)
            assert await read_state(store, settings, expected) == expected


async def test_verify_names_a_changed_row_and_a_lost_group_and_no_user(server: Any, settings: Settings, worker_env: dict[str, str]) -> None:
    async with applied(settings) as topics:
        assert (await checked(settings)).n_users == len(USERS)
    keys = Keys(settings.redis.namespace)
    partition = next(p for p, facts in topics.log.items() if any(fact and fact.user_id == "u3" for fact in facts))
    key = keys.users(partition, ["u3"])[0]
    row = bytearray(server.get(key))
    row[8] ^= 1
    server.set(key, bytes(row))
    server.hdel(keys.group_watermarks(2), partition)
    found = recsys(worker_env, "state", "verify")
    lines = found.stdout.splitlines()
    assert found.returncode == 1 and len(lines) == 3, found
    assert lines[0].startswith(f"item group 2 has no watermark in partition {partition}")
    assert lines[1].startswith(f"partition {partition}, user {user_digest('u3')}: ") and "u3" not in lines[1].split(": ")[1]
    assert "2 differences: run `recsys state rebuild`" in lines[2]

    rebuilt = recsys(worker_env, "state", "rebuild", "--wait", "0", "--json")
    assert rebuilt.returncode == 0, rebuilt.stderr
    figures = json.loads(rebuilt.stdout)
    assert (figures["generation"], figures["n_events"]) == (1, len(FACTS))
    assert figures["events_per_s"] > 0 and figures["n_verified"] == len(USERS)
    sound = recsys(worker_env, "state", "verify", "--json")
    assert sound.returncode == 0 and json.loads(sound.stdout)["sound"], sound.stderr
    state = {finding["name"]: finding for finding in json.loads(recsys(worker_env, "doctor", "--json").stdout)}["state"]
    assert state["state"] == "ok" and "fits the settings" in state["text"], "the doctor looks at the generation that serves"
    refused = recsys(worker_env, "state", "drop", "1")
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1


async def test_verify_meets_a_user_whose_row_is_gone_altogether(server: Any, settings: Settings) -> None:
    async with applied(settings) as topics:
        pass
    partition = next(p for p, facts in topics.log.items() if any(fact and fact.user_id == "u3" for fact in facts))
    assert server.delete(Keys(settings.redis.namespace).users(partition, ["u3"])[0]) == 1
    found = await checked(settings)
    assert found.differences == [f"partition {partition}, user {user_digest('u3')}: the row is missing"]
