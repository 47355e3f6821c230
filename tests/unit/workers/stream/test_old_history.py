"""History of years ago goes on recommending until newer pairs outweigh it, for a running worker as for one that starts now (C07)."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from recsys.lists.reading import Recent
from tests.builders import DAY_MS, START_MS, TOPIC_ID, opened_pipeline, play, records_of, small_settings
from tests.fold import Fact
from tests.fresh import fresh_lists
from tests.memory_store import MemoryStore
from workers.lists.encoding import ListHead
from workers.stream.pipeline import Pipeline
from workers.stream.row_expiry import RowExpiry

SETTINGS = small_settings(state={"half_life_days": 180.0})
EPOCH_MS = 180 * DAY_MS
USERS = [f"u{n}" for n in range(0, 12, 2)]
OLD_MS = START_MS - 5_000 * DAY_MS
THEN_MS = START_MS - 21 * EPOCH_MS


def old_log() -> list[Fact]:
    """Return the histories of six users who liked runs of neighbouring items, over three epochs that end at `THEN_MS`."""
    facts = []
    for number in range(90):
        user, step = number % len(USERS), number // len(USERS)
        facts.append(play(USERS[user], f"i{4 * user + step}", number, at_ms=THEN_MS - (90 - number) * EPOCH_MS // 40))
    return facts


async def running_lists(pipeline: Pipeline, users: list[str]) -> dict[str, dict[str, Any]]:
    """Return the lists that a running worker makes now: user ▸ item ▸ what the list says of it."""
    slots = np.array([pipeline.state.engine.users.slot(f"0:{user}") for user in users], np.int64)
    records = await pipeline.lists.records(slots, [ListHead(user, 0, 0, None) for user in users], int(time.time() * 1000))
    return {made["user_id"]: {item["item_id"]: item for item in made["items"]} for made in map(orjson.loads, records)}


def raw_scores(pipeline: Pipeline) -> NDArray[np.float32]:
    """Return what the recent items of `USERS` co-occur with, (U, N)."""
    engine = pipeline.state.engine
    slots = np.array([engine.users.slot(f"0:{user}") for user in USERS], np.int64)
    recent = Recent.of(*engine.users.newest(slots, 10), engine.users.lengths[slots])
    weights = engine.neighbours.relative_weights(recent.items, recent.strengths)
    return engine.neighbours.weighted_sums(recent.items, weights, engine.n_items)


async def check_lists(store: MemoryStore, pipeline: Pipeline, users: list[str]) -> dict[str, dict[str, Any]]:
    """Check that a fresh process lists the same; the lists."""
    running = await running_lists(pipeline, users)
    fresh = await fresh_lists(SETTINGS, store, [(0, user) for user in users])
    for user in users:
        assert list(running[user]) == list(fresh[user])
        assert [item["score"] for item in running[user].values()] == pytest.approx(list(fresh[user].values()), rel=1e-6)
    return running


@pytest.mark.parametrize("swept", [False, True])
@pytest.mark.parametrize("moved", [0, 1, 5, 20])
async def test_a_running_worker_lists_what_a_restarted_one_does_however_far_event_time_moved(moved: int, swept: bool) -> None:
    store, facts, now_ms = MemoryStore(), old_log(), THEN_MS + moved * EPOCH_MS
    pipeline = await opened_pipeline(store, SETTINGS)
    await pipeline.assign([0, 1], TOPIC_ID)
    await pipeline.process({0: records_of(facts)})
    await check_lists(store, pipeline, USERS)
    before = raw_scores(pipeline)
    late = [play("v0", f"j{n % 3}", 500 + n, at_ms=now_ms + n * 1_000) for n in range(4)]
    await pipeline.process({0: records_of(late, len(facts))})
    if swept:
        await RowExpiry(SETTINGS, pause_s=0.0).look(store, now_ms // 1000)
    await check_lists(store, pipeline, [*USERS, "v0"])
    after = raw_scores(pipeline)
    assert before.any(axis=1).all() and not after[:, before.shape[1] :].any()
    np.testing.assert_array_equal(after[:, : before.shape[1]], before, "pairs of other items take nothing away")
    popularity = pipeline.state.engine.popularity
    n_late = len({fact.item_id for fact in late})  # a repeat in one session adds nothing
    assert popularity.all_time.sum() == len(facts) + n_late
    if moved:
        assert popularity.bank()[:4].sum(axis=1) == pytest.approx(n_late, rel=0.05), "what was popular then does not trend now"


async def test_newer_pairs_of_an_item_outweigh_its_old_ones() -> None:
    store, facts = MemoryStore(), old_log()
    pipeline = await opened_pipeline(store, SETTINGS)
    await pipeline.assign([0, 1], TOPIC_ID)
    await pipeline.process({0: records_of(facts)})
    last = facts[-1]
    pair = (last.item_id, "n")
    others = [play(f"w{n}", item, 600 + 2 * n + at, at_ms=START_MS + at * 1_000) for n in range(3) for at, item in enumerate(pair)]
    await pipeline.process({0: records_of(others, len(facts))})
    lists = await check_lists(store, pipeline, USERS)
    shares = {item: said["sources"].get("cooccurrence", 0) for item, said in lists[last.user_id].items()}
    assert max(shares, key=lambda item: shares[item]) == "n" and len(shares) > 1


async def test_half_lives_of_a_day_do_not_underflow_over_decades() -> None:
    config = small_settings(state={"half_life_days": 1.0})
    store = MemoryStore()
    pipeline = await opened_pipeline(store, config)
    await pipeline.assign([0, 1], TOPIC_ID)
    facts = [play(f"u{2 * n}", item, 2 * n + at, at_ms=OLD_MS + at) for n in range(3) for at, item in enumerate(("a", "b"))]
    facts += [play("u8", item, 50 + at, at_ms=START_MS + at) for at, item in enumerate(("c", "d"))]
    facts += [play("u6", "a", 60, at_ms=OLD_MS + DAY_MS)]
    outcome = await pipeline.process({0: records_of(facts)})
    made = {record[0]: orjson.loads(record[1] or b"") for record in outcome.lists[0]}
    (listed,) = (item for item in made[b"u6"]["items"] if item["item_id"] == "b")
    assert "cooccurrence" in listed["sources"] and listed["because"] == ["a"]
