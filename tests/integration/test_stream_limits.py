"""A worker far behind, one that is told to stop, and one whose Redis loses everything: bounded, and nothing is lost."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from pathlib import Path

import pytest

from recsys.state.half_lives import WINDOWS_S
from tests.builders import START_MS, play
from tests.conftest import TestStack
from tests.fold import counted
from tests.integration.test_stream import DEADLINE_S, short_stream, state_and_fold, topics_of, workers
from tests.integration.test_stream_outages import own_valkey, said
from workers.bootstrap import open_store
from workers.kafka.offsets import group_lag
from workers.local.embedded import HOST, free_port
from workers.settings import Settings
from workers.state.layout import layout_of

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

STOP_S = 30.0
"""`stream.stop_timeout_s` (15) for the batch in hand, 5 each for consumer and producer, 5 for the process itself."""


async def test_a_worker_far_behind_puts_lists_off_and_pays_every_one_of_them(
    stack: TestStack, settings: Settings, worker_env: dict[str, str]
) -> None:
    port = free_port()
    env = {
        **worker_env,
        "RECSYS_STREAM__CATCH_UP_EVENTS": "200",
        "RECSYS_STREAM__BATCH_MAX_EVENTS": "40",
        "RECSYS_METRICS__PORT": str(port),
        "RECSYS_ALARMS__LAG_RECORDS": "300",
    }
    async with topics_of(settings) as topics:
        last = await topics.events(short_stream(1_500))
        with workers(stack, env) as (worker,):
            for user_id, source_offset in last.items():
                await topics.until_answered(user_id, source_offset)
            await said(worker, "lists are made again")
            assert "lists are deferred" in worker.log.read_text() and "alarm lag starts" in worker.log.read_text()
            found, expected = await state_and_fold(settings, topics.log)
            assert found == expected
            store = open_store(settings)
            await store.open(layout_of(settings))
            deadline = time.monotonic() + DEADLINE_S
            while any([await store.owed_lists(partition, 1) for partition in range(settings.topics.partitions)]):
                assert time.monotonic() < deadline, "lists are still owed"
                await asyncio.sleep(0.05)
            await store.close()
            text = await asyncio.to_thread(_scrape, port)
            assert "recsys_catching_up 0.0" in text and 'recsys_alarm{name="lag"} 0.0' in text
            assert sum(len(made) for made in topics.lists.values()) < 700, "lists of most batches were put off"


def _scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=60) as answer:
        return str(answer.read().decode())


async def test_what_counts_no_more_is_deleted_while_events_go_on(stack: TestStack, settings: Settings, worker_env: dict[str, str]) -> None:
    days = 100
    facts = [play(f"u{n % 7}", f"i{n % 11}", n, at_ms=START_MS + 86_400_000 * n // 10) for n in range(10 * days)]
    store = open_store(settings)
    await store.open(layout_of(settings))
    async with topics_of(settings) as topics:
        with workers(stack, {**worker_env, "RECSYS_STATE__SWEEP_S": "0.05"}, 2) as (worker, other):
            for at in range(0, len(facts), 100):
                last = await topics.events(facts[at : at + 100])
                for user_id, source_offset in last.items():
                    await topics.until_answered(user_id, source_offset)
            deadline, oldest = time.monotonic() + DEADLINE_S, facts[-1].event_ts_ms // WINDOWS_S["6h"] // 1000 - 4
            while min([row_id[2] async for page in store.scan_rows() for _, row_id in page if row_id[1] == "6h"]) < oldest:
                assert time.monotonic() < deadline, "old spans are still there"
                await asyncio.sleep(0.05)
            assert "rows of items that count no more" in worker.log.read_text() + other.log.read_text()
            found, expected = await state_and_fold(settings, topics.log)
            assert counted(found, settings, topics.log) == counted(expected, settings, topics.log)
            assert sum(window == "6h" for window, _ in found.popularity) <= 5 < days
            assert worker.running and other.running
    await store.close()


async def test_a_worker_that_is_told_to_stop_finishes_its_batch_commits_and_leaves_in_time(
    stack: TestStack, settings: Settings, worker_env: dict[str, str]
) -> None:
    async with topics_of(settings) as topics:
        await topics.events(short_stream(600))
        with workers(stack, {**worker_env, "RECSYS_STREAM__BATCH_MAX_EVENTS": "20"}) as (worker,):
            await topics.until(lambda: bool(topics.lists), "a first list")
            worker.process.terminate()
            assert await asyncio.to_thread(worker.process.wait, STOP_S) == 0
            store = open_store(settings)
            await store.open(layout_of(settings))
            marks = await store.watermarks(range(settings.topics.partitions))
            await store.close()
            lag = await asyncio.to_thread(group_lag, settings, settings.stream.group_id, settings.topics.events)
            behind = {p: len(topics.log[p]) - 1 - (-1 if (mark := marks[p]) is None else mark.last_applied_offset) for p in marks}
            assert lag == behind, "what is applied is committed, to the record"
        with workers(stack, worker_env):
            found, expected = await state_and_fold(settings, topics.log)
            assert found == expected


async def test_a_worker_that_waits_for_redis_stops_in_time(
    stack: TestStack, settings: Settings, worker_env: dict[str, str], tmp_path: Path
) -> None:
    with own_valkey(tmp_path / "own") as server, workers(stack, {**worker_env, **server.env}) as (worker,):
        await said(worker, "owns partitions [0, 1, 2, 3]")
        server.kill()
        await said(worker, "waiting")
        worker.process.terminate()
        assert await asyncio.to_thread(worker.process.wait, STOP_S) == 0
        assert "Traceback" not in worker.log.read_text()


async def test_a_redis_that_lost_everything_is_made_again_from_the_log_catalogue_included(
    stack: TestStack, settings: Settings, worker_env: dict[str, str], tmp_path: Path
) -> None:
    facts = short_stream(120)
    with own_valkey(tmp_path / "own") as server:
        mine = server.settings_of(settings)
        with workers(stack, {**worker_env, **server.env}) as (worker,):
            async with topics_of(mine) as topics:
                for n in range(5):
                    await topics.item(f"only-in-the-catalogue-{n}", title=f"film {n}", categories=["war"])
                await topics.profile("u0", preferred_categories=["war"])
                last = await topics.events(facts[:100])
                for user_id, source_offset in last.items():
                    await topics.until_answered(user_id, source_offset)
                store = open_store(mine)
                await store.open(layout_of(mine))
                await _until_read(store, 5)
                await store._link.one("k", "FLUSHALL")  # type: ignore[attr-defined]
                last = await topics.events(facts[100:])
                for user_id, source_offset in last.items():
                    await topics.until_answered(user_id, source_offset)
                found, expected = await state_and_fold(mine, topics.log)
                assert found == expected
                await _until_read(store, 5)
                await store.close()
            assert worker.running and "Traceback" not in worker.log.read_text()


async def _until_read(store: object, n_items: int) -> None:
    """Until the catalogue in Redis holds so many items."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        numbers = (await store.changed_items(0))[1]  # type: ignore[attr-defined]
        if len([item for item in await store.read_items(numbers) if item]) == n_items:  # type: ignore[attr-defined]
            return
        assert time.monotonic() < deadline, "the catalogue is not in Redis"
        await asyncio.sleep(0.05)
