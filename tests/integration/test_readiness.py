"""No list is published before what it depends on is loaded: after a rebuild, after a loss of all state, after a worker's absence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from schemas import Recommendations
from tests.builders import play
from tests.conftest import TestStack
from tests.fault.harness import list_difference
from tests.fold import Fact
from tests.fresh import fresh_lists
from tests.integration.test_stream import DEADLINE_S, Topics, topics_of, workers
from tests.integration.test_stream_outages import own_valkey
from workers.bootstrap import open_store
from workers.kafka.partitioner import partition_for
from workers.operations.rebuild import rebuild
from workers.settings import Settings
from workers.state.layout import layout_of

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

N_PAIRED = 12
IDLE = "idle"
HIDDEN = "x"


def history() -> list[Fact]:
    """People who went on from a to x and b; then one who has played a and nothing since."""
    facts = [play(f"p{n % N_PAIRED}", ("a", HIDDEN, "b")[n // N_PAIRED], n) for n in range(3 * N_PAIRED)]
    return [*facts, play(IDLE, "a", 1_000)]


async def described(topics: Topics, *hidden: str) -> None:
    for item_id in ("a", "b", HIDDEN, *(f"other{n}" for n in range(5))):
        await topics.item(item_id, title=f"item {item_id}", categories=["jazz"], available=item_id not in hidden)


def sources_of(made: Recommendations) -> set[str]:
    return {source for item in made.items for source in item.sources}


def items_of(made: Recommendations) -> dict[str, float]:
    return {item.item_id: item.score for item in made.items}


async def another_list_of_everyone(topics: Topics, before: Mapping[str, int]) -> set[str]:
    """Wait until every user of the log has another list than before; who they are."""
    users = {fact.user_id for facts in topics.log.values() for fact in facts if fact is not None}
    await topics.until(lambda: all(len(topics.lists.get(u, [])) > before.get(u, 0) for u in users), "another list of every user")
    return users


async def all_like_a_fresh_process(settings: Settings, topics: Topics, before: Mapping[str, int]) -> None:
    """Every user gets another list than before, and it is the one that a fresh process makes of the state."""
    users = await another_list_of_everyone(topics, before)
    store = open_store(settings)
    try:
        places = [(partition_for(user_id.encode(), settings.topics.partitions), user_id) for user_id in sorted(users)]
        fresh = await fresh_lists(settings, store, places)
    finally:
        await store.close()
    newest = {user_id: topics.lists[user_id][-1] for user_id in users}
    assert "cooccurrence" in sources_of(newest[IDLE]), "the pairs of the log are read"
    assert {u: difference for u, made in newest.items() if (difference := list_difference(items_of(made), fresh[u]))} == {}


def n_lists(topics: Topics) -> dict[str, int]:
    return {user_id: len(lists) for user_id, lists in topics.lists.items()}


async def test_after_a_rebuild_every_user_s_list_is_that_of_a_fresh_process_idle_users_too(
    stack: TestStack, settings: Settings, worker_env: dict[str, str]
) -> None:
    """X1: a worker that starts after the rebuild, and one that follows the switch; no event tells either of them the time."""
    async with topics_of(settings) as topics:
        await described(topics)
        await topics.events(history())
        await rebuild(settings, wait_s=0)
        with workers(stack, worker_env) as (worker,):
            await all_like_a_fresh_process(settings, topics, {})
            before = n_lists(topics)
            await rebuild(settings, wait_s=30)
            await all_like_a_fresh_process(settings, topics, before)
            assert "Traceback" not in worker.log.read_text()


async def test_no_list_holds_an_item_that_is_not_available_whatever_redis_lost_and_whenever_workers_were_there(
    stack: TestStack, settings: Settings, worker_env: dict[str, str], tmp_path: Path
) -> None:
    """X2: FLUSHALL while everybody is idle, and while events come; then an item is taken off while no worker runs.

    S7's other half, and the README's first example (P2): a worker that met an empty catalogue reads the topic before it makes lists.
    """
    with own_valkey(tmp_path / "own") as server:
        mine, env = server.settings_of(settings), {**worker_env, **server.env}
        async with topics_of(mine) as topics:
            with workers(stack, env) as (worker,):
                await _read_empty(mine)
                await described(topics, HIDDEN)
                last = await topics.events(history())
                for user_id, source_offset in last.items():
                    await topics.until_answered(user_id, source_offset)
                assert all(lists[0].items for lists in topics.lists.values()), "the first list of everyone has items"
                for more in ([], [play("p0", "b", 2_000), play("late", "a", 2_001)]):
                    before = n_lists(topics)
                    await _flush(mine)
                    await topics.events(more)
                    await another_list_of_everyone(topics, before)
                assert "Traceback" not in worker.log.read_text()
            assert all(HIDDEN not in items_of(made) for lists in topics.lists.values() for made in lists)
            await topics.item("b", title="item b", categories=["jazz"], available=False)
            with workers(stack, env):
                source_offset = await topics.event(play(IDLE, "other1", 3_000))
                made = await topics.until_answered(IDLE, source_offset)
                assert made.items and not {HIDDEN, "b"} & items_of(made).keys(), "what changed while no worker ran is read first"


async def _read_empty(settings: Settings) -> None:
    """Wait until a worker has read the topics of items and profiles, which are empty."""
    store = open_store(settings)
    await store.open(layout_of(settings))
    try:
        deadline = time.monotonic() + DEADLINE_S
        while not await store.catalogue_read():
            assert time.monotonic() < deadline, "the empty topics were never read"
            await asyncio.sleep(0.05)
    finally:
        await store.close()


async def _flush(settings: Settings) -> None:
    store: Any = open_store(settings)
    await store.open(layout_of(settings))
    await store._link.one("k", "FLUSHALL")
    await store.close()
