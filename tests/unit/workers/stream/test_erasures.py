"""Users who are erased: nothing of theirs stays in the state or in a worker, their list is removed, and nobody else notices."""

from __future__ import annotations

from collections.abc import Sequence

from schemas import Item
from tests.builders import TOPIC_ID, erase, opened_pipeline, play, put_items, records_of, small_settings
from tests.fold import Fact, fold, read_state
from tests.memory_store import MemoryStore
from workers.stream.outcome import Outcome
from workers.stream.pipeline import Pipeline

SETTINGS = small_settings(state={"shown_items": 4}, related={"bought_together": True})
BOUGHT = [play("u0", f"i{n}", n, type="purchase") for n in range(3)]


async def worker(store: MemoryStore) -> Pipeline:
    """Return a pipeline that owns both partitions, with ten items to list."""
    pipeline = await opened_pipeline(store, SETTINGS)
    await pipeline.assign([0, 1], TOPIC_ID)
    await put_items(pipeline, 0, *(Item(item_id=f"i{n}", title=f"item {n}") for n in range(10)))
    return pipeline


async def apply(pipeline: Pipeline, facts: Sequence[Fact | None], first: int = 0, *, defer: bool = False) -> Outcome:
    return await pipeline.process({0: records_of(facts, first)}, defer_lists=defer)


def listed(outcome: Outcome) -> list[tuple[str, bool]]:
    """Return whose list is published, in order, and whether there is one."""
    return [(key.decode(), record is not None) for key, record in outcome.lists.get(0, [])]


async def test_an_erased_user_has_nothing_in_the_state_and_no_list() -> None:
    store = MemoryStore()
    pipeline = await worker(store)
    await apply(pipeline, [*BOUGHT, play("u2", "i1", 9), play("u0", "i5", 4, type="impression")])
    assert all([store._users[0]["u0"], store._shown[0]["u0"], store._bought[0]["u0"]])
    outcome = await apply(pipeline, [erase("u0", 10)], 5)
    assert listed(outcome) == [("u0", False)] and outcome.dead_letters == [] and outcome.next_offsets == {0: 6}
    assert "0:u0" not in pipeline.state.engine.users and "0:u2" in pipeline.state.engine.users
    for held in (store._users, store._shown, store._bought):
        assert "u0" not in held[0]
    assert "u2" in store._users[0]


async def test_in_one_batch_only_what_comes_after_the_erasure_counts() -> None:
    log = {0: [*BOUGHT, erase("u0", 4), play("u0", "i7", 5), erase("u2", 6), erase("u0", 7), play("u0", "i8", 8)], 1: []}
    store = MemoryStore()
    outcome = await apply(await worker(store), log[0])
    assert listed(outcome) == [("u0", False), ("u2", False), ("u0", False), ("u0", True)]
    expected = fold(log, SETTINGS)
    assert [entry.item_id for entry in expected.histories[0, "u0"]] == ["i8"]
    assert await read_state(store, SETTINGS, expected) == expected


async def test_what_the_user_has_added_to_items_stays() -> None:
    log = {0: [*BOUGHT, erase("u0", 4)], 1: []}
    store = MemoryStore()
    await apply(await worker(store), log[0])
    expected = fold(log, SETTINGS)
    assert expected.bought and expected.cooccurrence and expected.popularity and not expected.histories
    assert await read_state(store, SETTINGS, expected) == expected


async def test_a_user_who_waits_for_a_list_gets_none_after_the_erasure() -> None:
    store = MemoryStore()
    pipeline = await worker(store)
    await apply(pipeline, [*BOUGHT, play("u2", "i1", 9)], defer=True)
    await store.await_lists({0: ["u0", "u2"]})
    outcome = await apply(pipeline, [play("u0", "i4", 10), erase("u0", 11)], 4, defer=True)
    assert await store.owed_lists(0, 9) == ["u2"] and await store.lists_asked(0, ["u0", "u2"]) == [0, 1]
    assert listed(outcome) == [("u0", False)], "that list is removed at once, however far behind the worker is"


async def test_a_batch_that_is_read_again_removes_the_list_again_and_then_gives_the_new_one() -> None:
    store, facts = MemoryStore(), [*BOUGHT, erase("u0", 4), play("u0", "i7", 5)]
    pipeline = await worker(store)
    await apply(pipeline, facts)
    before = await read_state(store, SETTINGS, fold({0: facts, 1: []}, SETTINGS))
    again = await worker(store)  # as after a crash before the lists were published
    assert listed(await apply(again, facts)) == [("u0", False), ("u0", True)]
    assert await read_state(store, SETTINGS, fold({0: facts, 1: []}, SETTINGS)) == before


async def test_an_erasure_of_somebody_unknown_changes_nothing() -> None:
    store = MemoryStore()
    pipeline = await worker(store)
    await apply(pipeline, [play("u2", "i1", 1)])
    rows = dict(store._users[0])
    assert listed(await apply(pipeline, [erase("stranger", 2)], 1)) == [("stranger", False)]
    assert store._users[0] == rows and (await store.watermarks([0]))[0] == (TOPIC_ID, 1)


async def test_a_worker_without_lists_publishes_no_removal() -> None:
    store = MemoryStore()
    pipeline = await opened_pipeline(store, SETTINGS, ranks=False)
    await pipeline.assign([0, 1], TOPIC_ID)
    assert (await apply(pipeline, [*BOUGHT, erase("u0", 4)])).lists == {} and "u0" not in store._users[0]
