"""What one batch leaves behind: lists for whom it touched, dead letters for what it could not read, and a state that its log decides."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

import workers.stream.list_maker
from schemas import Recommendations
from tests.builders import (
    DAY_MS,
    NOW_S,
    START_MS,
    TOPIC_ID,
    FailingStore,
    Fault,
    opened_pipeline,
    play,
    random_log,
    records_of,
    run_log,
    small_settings,
    value_of,
)
from tests.fold import fold, read_state
from tests.memory_store import MemoryStore
from workers.errors import Fatal, Fenced, Transient
from workers.kafka.records import Record
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.outcome import Outcome
from workers.stream.pipeline import Pipeline
from workers.stream.reference_topics import Intake

SETTINGS = small_settings()


async def ready(store: MemoryStore | FailingStore, partitions: tuple[int, ...] = (0, 1)) -> Pipeline:
    pipeline = await opened_pipeline(store, SETTINGS)
    await pipeline.assign(partitions, TOPIC_ID)
    return pipeline


def lists_of(outcome: Outcome) -> dict[str, Recommendations]:
    made = [Recommendations.model_validate_json(value or b"") for records in outcome.lists.values() for _, value in records]
    assert len({one.user_id for one in made}) == len(made), "one list a user"
    return {one.user_id: one for one in made}


async def test_several_events_of_a_user_give_one_list_for_the_newest() -> None:
    pipeline = await ready(MemoryStore())
    facts = [play("u0", "i1", 1), play("u2", "i1", 2), play("u0", "i2", 3), play("u0", "i3", 4, type="impression")]
    outcome = await pipeline.process({0: records_of(facts)})
    lists = lists_of(outcome)
    assert (lists["u0"].trigger.event_id, lists["u0"].trigger.source_offset) == ("e3", 2)
    assert (lists["u2"].trigger.event_id, lists["u2"].trigger.source_offset) == ("e2", 1)
    assert {item.item_id for item in lists["u2"].items} == {"i2"}
    assert outcome.next_offsets == {0: 4} and (outcome.n_records, outcome.n_new, outcome.n_lists) == (4, 3, 2)


async def test_an_event_without_weight_moves_the_watermark_and_nothing_else() -> None:
    store = MemoryStore()
    pipeline = await ready(store)
    outcome = await pipeline.process({1: records_of([play("u1", "i1", 1, type="impression")])})
    assert outcome.lists == {} and outcome.next_offsets == {1: 1}
    assert await store.item_names() == [] and [user async for user in store.scan_users(1)] == []
    watermark = (await store.watermarks([1]))[1]
    assert watermark is not None and watermark.last_applied_offset == 0


async def test_an_unreadable_record_is_a_dead_letter_and_its_neighbours_are_applied() -> None:
    store = MemoryStore()
    pipeline = await ready(store)
    log = {0: [play("u0", "i1", 1), None, play("u0", "i2", 2), None, None]}
    outcome = await pipeline.process({0: records_of(log[0])})
    assert [(letter.source_partition, letter.source_offset) for letter in outcome.dead_letters] == [(0, 1), (0, 3), (0, 4)]
    assert {letter.source_topic for letter in outcome.dead_letters} == {SETTINGS.topics.events}
    assert outcome.dead_letters[2].field == "event_ts_ms" and outcome.dead_letters[2].dead_letter_ts_ms == NOW_S * 1000
    assert all(letter.payload_base64 is None for letter in outcome.dead_letters)
    assert await read_state(store, SETTINGS, fold(log, SETTINGS)) == fold(log, SETTINGS)


async def test_only_unreadable_records_still_move_the_watermark() -> None:
    store = MemoryStore()
    pipeline = await ready(store)
    outcome = await pipeline.process({0: [Record("events", 0, 0, b"u0", b"{"), Record("events", 0, 1, None, None)]})
    assert len(outcome.dead_letters) == 2 and outcome.next_offsets == {0: 2}
    assert (await ready(store))._owned[0].last_applied_offset == 1


async def test_a_producer_s_duplicate_counts_once() -> None:
    store = MemoryStore()
    pipeline = await ready(store)
    once = play("u0", "i1", 1)
    outcome = await pipeline.process({0: records_of([once, once])})
    assert (outcome.n_new, outcome.n_duplicates) == (1, 1)
    outcome = await pipeline.process({0: records_of([once], 2)})
    assert (outcome.n_new, outcome.n_duplicates, outcome.lists) == (0, 1, {})


async def test_a_replayed_event_changes_nothing_and_its_user_gets_the_list_again() -> None:
    store, log = MemoryStore(), random_log(3, 60)
    pipeline = await run_log(log, SETTINGS, store)
    expected = fold(log, SETTINGS)
    assert await pipeline.assign([0, 1], TOPIC_ID) == {p: len(log[p]) for p in log}
    outcome = await pipeline.process({p: records_of(log[p]) for p in log})
    assert outcome.n_new == 0
    assert await read_state(store, SETTINGS, expected) == expected
    assert set(lists_of(outcome)) == {user for _, user in expected.histories}


async def test_a_list_made_again_after_a_replay_is_the_same() -> None:
    log = random_log(9, 80)
    one, other = MemoryStore(), MemoryStore()
    made = lists_of(await (await ready(one)).process({p: records_of(log[p]) for p in log}))
    halves = await ready(other)
    await halves.process({p: records_of(log[p])[: len(log[p]) // 2] for p in log})
    await halves.process({p: records_of(log[p])[len(log[p]) // 2 :] for p in log})
    for pipeline in (halves, await ready(other)):  # the worker itself, and one that knows nothing yet
        again = lists_of(await pipeline.process({p: records_of(log[p]) for p in log}))
        assert again.keys() == made.keys()
        for user_id, one_list in made.items():
            scores = {item.item_id: item.score for item in one_list.items}
            assert {item.item_id: item.score for item in again[user_id].items} == pytest.approx(scores, abs=2e-3)


async def test_lists_made_in_two_threads_are_those_made_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.stream.list_maker, "LISTED_TOGETHER", 1)
    monkeypatch.setattr(workers.stream.list_maker, "SHARED_FROM", 1)
    log = random_log(9, 80)
    made = []
    for n_threads in (1, 2):
        store, settings = MemoryStore(), small_settings(stream={"list_threads": n_threads})
        pipeline = await opened_pipeline(store, settings)
        await pipeline.assign((0, 1), TOPIC_ID)
        made.append(lists_of(await pipeline.process({p: records_of(log[p]) for p in log})))
    assert len(made[0]) == 4 and made[0] == made[1]


async def test_what_is_new_and_what_is_old_in_one_batch_are_told_apart() -> None:
    store, log = MemoryStore(), random_log(4, 80)
    pipeline = await ready(store)
    await pipeline.process({0: records_of(log[0])[:10]})
    await pipeline.process({0: records_of(log[0])[5:], 1: records_of(log[1])})
    assert await read_state(store, SETTINGS, fold(log, SETTINGS)) == fold(log, SETTINGS)


async def test_users_of_one_id_in_two_partitions_are_two_users() -> None:
    store = MemoryStore()
    pipeline = await ready(store)
    log = {0: [play("u", "i1", 1), play("u", "i2", 2)], 1: [play("u", "i3", 3)]}
    await pipeline.process({p: records_of(log[p]) for p in log})
    assert await read_state(store, SETTINGS, fold(log, SETTINGS)) == fold(log, SETTINGS)


async def test_a_worker_that_was_overtaken_is_fenced_before_it_reads_a_later_state() -> None:
    store, log = MemoryStore(), random_log(6, 60)
    zombie, other = await ready(store), await ready(store)
    await other.process({p: records_of(log[p])[:20] for p in log})
    with pytest.raises(Fenced, match="another worker"):
        await zombie.process({p: records_of(log[p])[:10] for p in log})
    places = await zombie.assign([0, 1], TOPIC_ID)
    assert places == {p: min(20, len(log[p])) for p in log}


@pytest.mark.parametrize("fault", list(Fault))
async def test_a_failed_write_is_made_good_by_the_next_batch(fault: Fault) -> None:
    store, log = MemoryStore(), random_log(7, 60)
    failing = FailingStore(store)
    pipeline = await ready(failing)
    for calls in range(6):
        failing.faults.extend([None] * calls + [fault])
        try:
            places = await pipeline.assign([0, 1], TOPIC_ID)
            await pipeline.process({p: records_of(log[p])[places[p] : places[p] + 5] for p in log})
        except (Transient, Fenced):
            failing.faults.clear()
    places = await pipeline.assign([0, 1], TOPIC_ID)
    await pipeline.process({p: records_of(log[p])[places[p] :] for p in log})
    assert await read_state(store, SETTINGS, fold(log, SETTINGS)) == fold(log, SETTINGS)


async def test_the_state_of_a_recreated_topic_is_refused() -> None:
    store = MemoryStore()
    await (await ready(store)).process({0: records_of([play("u0", "i0", 1)])})
    pipeline = await opened_pipeline(store, SETTINGS)
    with pytest.raises(Fatal, match=r"deleted and made again; set redis\.namespace"):
        await pipeline.assign([0], "another topic id")


async def test_an_item_group_of_a_recreated_topic_is_refused() -> None:
    store = MemoryStore()
    await (await ready(store)).process({0: records_of([play("u0", "i0", 1)])})
    pipeline = await opened_pipeline(store, SETTINGS)
    store._watermarks.clear()
    await pipeline.assign([0], "another topic id")
    with pytest.raises(Fatal, match="item group"):
        await pipeline.process({0: records_of([play("u0", "i0", 1)])})


async def test_item_groups_that_lost_state_are_refused_with_the_remedy() -> None:
    store = MemoryStore()
    pipeline = await ready(store)
    await pipeline.process({0: records_of([play("u0", "i0", 1)])})
    store._group_watermarks[1].clear()
    with pytest.raises(Fatal, match=r"item group 1 .* lost state .* run `recsys state rebuild`"):
        await pipeline.process({0: records_of([play("u0", "i1", 2)], 1)})


async def test_after_a_failover_that_lost_everything_the_log_is_applied_again() -> None:
    log = random_log(8, 60)
    pipeline = await run_log(log, SETTINGS)
    pipeline.state.store = store = MemoryStore()  # the promoted replica had nothing
    pipeline.state.numbering._store = pipeline.state.item_cache._store = store
    await pipeline.open()
    assert await pipeline.assign([0, 1], TOPIC_ID) == {0: 0, 1: 0}
    await pipeline.process({p: records_of(log[p]) for p in log})
    assert await read_state(store, SETTINGS, fold(log, SETTINGS)) == fold(log, SETTINGS)


async def test_users_beyond_the_cache_are_read_again() -> None:
    settings = SETTINGS.model_copy(update={"stream": SETTINGS.stream.model_copy(update={"user_cache": 1})})
    store, log = MemoryStore(), random_log(10, 90)
    pipeline = await opened_pipeline(store, settings)
    await pipeline.assign([0, 1], TOPIC_ID)
    for start in range(0, 90, 7):
        batch = {p: records for p in log if (records := records_of(log[p])[start : start + 7])}
        if batch:
            await pipeline.process(batch)
            assert len(pipeline.state.engine.users) <= 1
    assert await read_state(store, settings, fold(log, settings)) == fold(log, settings)


async def test_exploration_is_repeated_by_the_seed_and_differs_by_event() -> None:
    lists = SETTINGS.lists.model_copy(update={"exploration_slots": 3, "size": 6})
    settings = SETTINGS.model_copy(update={"lists": lists})
    facts = [play(f"u{n % 4 * 2}", f"i{n}", n) for n in range(40)]

    async def made() -> list[Recommendations]:
        pipeline = await opened_pipeline(MemoryStore(), settings)
        await pipeline.assign([0], TOPIC_ID)
        await pipeline.process({0: records_of(facts)})
        outcomes = [await pipeline.process({0: records_of([play("u0", f"i{n % 3}", 100 + n)], 40 + n)}) for n in range(5)]
        return [lists_of(outcome)["u0"] for outcome in outcomes]

    one, other = await made(), await made()
    assert one == other
    assert all([item.propensity < 1 for item in row.items] == [False] * 3 + [True] * 3 for row in one)
    assert len({tuple(item.item_id for item in row.items[3:]) for row in one}) > 1


async def test_without_ranking_the_state_is_the_same_and_no_list_is_made() -> None:
    store, log = MemoryStore(), random_log(12, 60)
    pipeline = await opened_pipeline(store, SETTINGS, ranks=False)
    await pipeline.assign([0, 1], TOPIC_ID)
    outcome = await pipeline.process({p: records_of(log[p]) for p in log})
    assert outcome.lists == {} and outcome.n_new > 0
    assert await read_state(store, SETTINGS, fold(log, SETTINGS)) == fold(log, SETTINGS)


async def test_a_late_event_does_not_turn_time_back() -> None:
    pipeline = await ready(MemoryStore())
    await pipeline.process({0: records_of([play("u0", "i1", 1, at_ms=1_700_000_000_000)])})
    newest_s = pipeline.state.item_cache.newest_s
    await pipeline.process({0: records_of([play("u0", "i2", 2, at_ms=1_600_000_000_000)], 1)})
    assert pipeline.state.item_cache.newest_s == newest_s == 1_700_000_000
    assert pipeline.state.engine.newest_epoch == newest_s // pipeline.state.engine.config.epoch_s


async def test_no_value_of_a_user_is_in_a_dead_letter_s_reason() -> None:
    secret = "a-secret-thing"
    fields = orjson.loads(value_of(play("u0", "i1", 1))) | {"type": secret, secret: secret, "item_id": {secret: 1}}
    pipeline = await ready(MemoryStore())
    outcome = await pipeline.process({0: [Record("events", 0, 0, b"u0", orjson.dumps(fields))]})
    assert len(outcome.dead_letters) == 1 and secret not in outcome.dead_letters[0].model_dump_json()
    assert np.isfinite(outcome.seconds["decode"])


async def test_a_log_that_stands_still_lists_neither_expired_items_nor_hides_published_ones() -> None:
    """C08: lists of events, and first lists of profiles, go by the clock when the newest event is three days old."""
    store = MemoryStore()
    pipeline = await opened_pipeline(store, SETTINGS, now_s=START_MS / 1000 + 3 * 86_400)
    await pipeline.assign((0, 1), TOPIC_ID)
    now_ms = START_MS + 3 * DAY_MS
    catalogue = CatalogueFollower(pipeline.state)
    intake = Intake(SETTINGS, pipeline.state, pipeline.lists, catalogue, wall_clock=lambda: now_ms / 1000)
    fields: dict[str, dict[str, int]] = {
        "expired": {"expires_ts_ms": now_ms - DAY_MS},
        "published": {"published_ts_ms": now_ms - 3_600_000},
        "coming": {"published_ts_ms": now_ms + 3_600_000},
    }
    items = [orjson.dumps({"item_id": name, **times}) for name, times in fields.items()]
    assert not await intake.items(
        [Record("items", 0, n, name.encode(), value) for n, (name, value) in enumerate(zip(fields, items, strict=True))]
    )
    await catalogue.follow()
    lists = lists_of(await pipeline.process({0: records_of([play("u0", "i1", 1), play("u2", "i2", 2)])}))
    assert {item.item_id for item in lists["u0"].items} == {"published", "i2"}
    profile = orjson.dumps({"user_id": "u9", "preferred_categories": ["x"]})
    ((_, _, first),), _ = await intake.users([Record("users", 0, 0, b"u9", profile)])
    assert {item.item_id for item in Recommendations.model_validate_json(first).items} == {"published", "i1", "i2"}
