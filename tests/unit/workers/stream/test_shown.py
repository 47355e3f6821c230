"""Impressions in the stream worker: counted once, without a list, until the frequency cap makes one without the item."""

from __future__ import annotations

import pytest

from recsys.state.shown import unpack_shown
from schemas import Recommendations
from tests.builders import START_MS, TOPIC_ID, opened_pipeline, play, records_of, small_settings
from tests.fold import Fact, fold, read_state
from tests.memory_store import MemoryStore
from workers.errors import SettingsError
from workers.kafka.records import Record
from workers.settings import Settings, load_settings
from workers.stream.outcome import Outcome
from workers.stream.pipeline import Pipeline

CAPPED = small_settings(state={"shown_items": 8}, lists={"frequency_cap": {"times": 3, "rest_hours": 1.0}})
HOUR_MS = 3_600_000


def shown(item_id: str, number: int, at_ms: int | None = None, user_id: str = "u0") -> Fact:
    return play(user_id, item_id, number, type="impression", at_ms=at_ms)


async def owning(store: MemoryStore, settings: Settings = CAPPED) -> Pipeline:
    pipeline = await opened_pipeline(store, settings)
    await pipeline.assign((0, 1), TOPIC_ID)
    return pipeline


def items_of(outcome: Outcome, user_id: str) -> set[str]:
    made = [Recommendations.model_validate_json(value or b"") for records in outcome.lists.values() for _, value in records]
    return next({item.item_id for item in one.items} for one in made if one.user_id == user_id)


def records(facts: list[Fact], first_offset: int = 0) -> dict[int, list[Record]]:
    return {0: records_of(facts, first_offset)}


async def test_impressions_are_counted_without_a_list_or_a_history() -> None:
    store = MemoryStore()
    pipeline = await owning(store)
    facts = [shown("i1", 1), shown("i2", 2), shown("i1", 3), shown("i1", 3)]
    outcome = await pipeline.process(records(facts))
    assert outcome.lists == {} and outcome.owing == frozenset() and outcome.n_new == 0
    row = (await store.read_shown_of({0: ["u0"]}))[0]
    names = await store.item_names()
    entries = [(names[number], count, shown_s, chosen_s) for number, count, shown_s, chosen_s in unpack_shown(row)[0].tolist()]
    assert entries == [("i2", 1, START_MS // 1000 + 2, 0), ("i1", 2, START_MS // 1000 + 3, 0)]
    assert [user async for user in store.scan_users(0)] == []
    assert await store.numbers_used() == 2
    log = {0: facts}
    assert await read_state(store, CAPPED, fold(log, CAPPED)) == fold(log, CAPPED)


async def test_an_item_that_begins_to_rest_defers_one_list_without_it_in_the_same_step() -> None:
    store = MemoryStore()
    pipeline = await owning(store)
    facts = [play(f"u{2 * n}", f"i{n % 4}", n) for n in range(1, 9)]
    await pipeline.process(records(facts))
    outcome = await pipeline.process(records([shown("i1", 11), shown("i1", 12), shown("i2", 21)], len(facts)))
    assert outcome.owing == frozenset() and await store.owed_lists(0, 9) == []
    outcome = await pipeline.process(records([shown("i1", 13), shown("i1", 14)], len(facts) + 3))
    assert outcome.owing == {0} and outcome.lists == {} and await store.owed_lists(0, 9) == ["u0"]
    deferred = await pipeline.deferred_lists(0, 9)
    assert deferred is not None
    listed = {item.item_id for item in Recommendations.model_validate_json(deferred.records[0][1] or b"").items}
    assert listed == {"i0", "i2", "i3"}
    outcome = await pipeline.process(records([shown("i2", 22), shown("i2", 23), play("u0", "i3", 24)], len(facts) + 5))
    assert outcome.owing == frozenset() and items_of(outcome, "u0") == {"i0"}, "the batch's list is made with the cap"


async def test_an_item_comes_back_when_it_has_rested_or_was_chosen() -> None:
    store = MemoryStore()
    pipeline = await owning(store)
    start = [play(f"u{2 * n}", f"i{n % 4}", n, type="view") for n in range(1, 9)] + [shown(f"i{1 + n % 2}", 20 + n) for n in range(6)]
    await pipeline.process(records(start))
    outcome = await pipeline.process(records([play("u0", "i3", 30, type="view")], len(start)))
    assert items_of(outcome, "u0") == {"i0", "i3"}
    outcome = await pipeline.process(records([play("u0", "i1", 31, type="view")], len(start) + 1))
    assert items_of(outcome, "u0") == {"i0", "i1", "i3"}, "a choice starts the count again"
    outcome = await pipeline.process(records([play("u0", "i3", 32, at_ms=START_MS + HOUR_MS + 30_000, type="view")], len(start) + 2))
    assert items_of(outcome, "u0") == {"i0", "i1", "i2", "i3"}


async def test_another_worker_goes_on_with_the_counts() -> None:
    store, facts = MemoryStore(), [play(f"u{2 * n}", f"i{n % 4}", n) for n in range(1, 9)]
    first = await owning(store)
    await first.process(records([*facts, shown("i1", 11), shown("i1", 12)]))
    second = await owning(store)
    outcome = await second.process(records([shown("i1", 13), play("u0", "i2", 14)], len(facts) + 2))
    assert items_of(outcome, "u0") == {"i0", "i3"}


async def test_a_worker_that_makes_no_lists_counts_and_defers_none() -> None:
    store = MemoryStore()
    pipeline = await opened_pipeline(store, CAPPED, ranks=False)
    await pipeline.assign((0, 1), TOPIC_ID)
    outcome = await pipeline.process(records([shown("i1", n) for n in range(1, 5)]))
    assert outcome.owing == frozenset() and await store.owed_lists(0, 9) == []
    assert (await store.read_shown_at(0, ["u0"]))[1] != [None]


async def test_without_the_setting_nothing_is_counted_or_stored() -> None:
    store = MemoryStore()
    pipeline = await owning(store, small_settings())
    await pipeline.process(records([play("u0", "i1", 1), shown("i1", 2), shown("i2", 3)]))
    assert [user async for user in store.scan_shown(0)] == [] and await store.item_names() == ["i1"]


def test_a_cap_without_counts_is_refused_with_the_remedy() -> None:
    with pytest.raises(SettingsError, match=r"lists.frequency_cap.times is set and state.shown_items is 0: set state.shown_items"):
        load_settings(lists={"frequency_cap": {"times": 3}})
