"""Event time is a function of the log that every process reads from the state (X1)."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from tests.builders import TOPIC_ID, opened_pipeline, play, random_log, records_of, run_log, small_settings
from tests.fold import fold
from tests.fresh import fresh_lists
from tests.memory_store import MemoryStore
from workers.stream.pipeline import Pipeline

SETTINGS = small_settings()
LOG = random_log(3, 200)
NEWEST_S = max(fold(LOG, SETTINGS).event_times.values())


async def held(pipeline: Pipeline) -> tuple[int, int]:
    return pipeline.state.item_cache.newest_s, pipeline.state.engine.newest_epoch


async def test_a_process_that_has_seen_no_event_knows_the_log_s_event_time_when_it_has_opened_the_state() -> None:
    store = MemoryStore()
    await run_log(LOG, SETTINGS, store)
    pipeline = await opened_pipeline(store, SETTINGS)
    assert await held(pipeline) == (NEWEST_S, NEWEST_S // 86_400)
    numbers = np.arange(pipeline.state.engine.n_items)
    await pipeline.state.item_cache.refresh(numbers)
    assert pipeline.state.engine.neighbours.rows(numbers, len(numbers)).any(), "the epochs of that time are read"


async def test_a_worker_whose_partition_stands_still_follows_the_event_time_of_the_others() -> None:
    store = MemoryStore()
    idle, busy = await opened_pipeline(store, SETTINGS), await opened_pipeline(store, SETTINGS)
    await idle.assign([0], TOPIC_ID)
    await busy.assign([1], TOPIC_ID)
    await busy.process({1: records_of([play("u1", "i1", 1), play("u1", "i2", 2)])})
    assert await held(idle) == (0, -1)
    await idle.state.follow_event_time()
    assert await held(idle) == await held(busy)


@pytest.mark.parametrize("emptied", [False, True])
async def test_a_worker_knows_event_time_after_its_caches_were_dropped_and_before_the_next_event(emptied: bool) -> None:
    store = MemoryStore()
    pipeline = await run_log(LOG, SETTINGS, store)
    if emptied:
        store.__init__()  # type: ignore[misc]
    else:
        store._run_id = "restarted"
    await pipeline.assign([0, 1], TOPIC_ID)
    assert pipeline.state.resets == 1 and pipeline.state._event_time_of == 1
    assert await held(pipeline) == (NEWEST_S, NEWEST_S // 86_400)


async def test_lists_that_were_deferred_are_those_of_a_fresh_process_whichever_process_makes_them() -> None:
    store, log = MemoryStore(), random_log(3, 200, n_users=8, n_items=40)
    first = await opened_pipeline(store, SETTINGS)
    await first.assign([0, 1], TOPIC_ID)
    await first.process({p: records_of(log[p]) for p in log}, defer_lists=True)
    later = await opened_pipeline(store, SETTINGS)
    await later.assign([0, 1], TOPIC_ID)
    for partition in log:
        deferred = await later.deferred_lists(partition, 100)
        assert deferred is not None and deferred.records
        fresh = await fresh_lists(SETTINGS, store, [(partition, user_id) for user_id in deferred.user_ids])
        for made in (orjson.loads(record or b"") for _, record in deferred.records):
            assert any("cooccurrence" in item["sources"] for item in made["items"])
            assert {item["item_id"]: item["score"] for item in made["items"]} == pytest.approx(fresh[made["user_id"]])


async def test_a_state_without_an_event_has_no_event_time() -> None:
    store = MemoryStore()
    pipeline = await opened_pipeline(store, SETTINGS)
    assert await held(pipeline) == (0, -1)
    await pipeline.assign([0], TOPIC_ID)
    await pipeline.process({0: records_of([None])})
    assert await store.event_times([0, 1]) == {0: 0, 1: None}
