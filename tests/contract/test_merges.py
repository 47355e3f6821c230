"""Merges in the state store: what users' records say of them, in memory and in Redis alike."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.conftest import LAYOUT, redis_settings
from tests.memory_store import MemoryStore
from workers.redis.store import RedisStore
from workers.state.port import StateStore, UserCommit, Watermark
from workers.state.users_topic import MOST_SOURCES, ListWork, MergeNote, ProfileRecord, Standing


def ended(user_id: str, into: str, source_offset: int, **fields: bool) -> ProfileRecord:
    return ProfileRecord(1, user_id, source_offset, b"{}", into, **fields)


async def standing(store: StateStore, user_id: str, partition: int = 1) -> Standing:
    return (await store.read_standings({partition: [user_id], 3: []}))[partition][0]


async def test_the_newest_record_says_as_whom_an_id_goes_on(store: StateStore) -> None:
    assert await standing(store, "a") == Standing()
    await store.upsert_profiles([ended("a", "b", 5), ended("a", "c", 4), ProfileRecord(1, "x", 0, b"{}")])
    assert await standing(store, "a") == Standing("b") and await standing(store, "x") == Standing()
    await store.upsert_profiles([ended("a", "c", 6)] * 2)
    assert await standing(store, "a") == Standing("c", "b"), "a record that comes twice does not hide where the id was before"
    await store.upsert_profile(ProfileRecord(1, "a", 7, None))
    assert await standing(store, "a") == Standing("", "c")
    assert [page async for page in store.scan_merged(1) if page] == []


async def test_where_an_id_went_on_before_is_forgotten_once(store: StateStore) -> None:
    await store.upsert_profiles([ended("a", "b", 5), ended("a", "c", 6), ended("e", "f", 7), ProfileRecord(1, "e", 8, b"{}")])
    await store.forget_before(1, {"a": "other", "nobody": ""})
    assert await standing(store, "a") == Standing("c", "b")
    await store.forget_before(1, {"a": "b", "e": "f"})
    assert await standing(store, "a") == Standing("c") and await standing(store, "e") == Standing()
    assert [page async for page in store.scan_merged(1) if page] == [[("a", "c")]]


async def test_who_waits_for_a_list_is_noted_with_the_record(store: StateStore) -> None:
    await store.upsert_profiles([ended("a", "b", 1), ProfileRecord(1, "p", 2, b"{}")])
    assert await store.list_work([1, 2]) == {1: ListWork(0, True), 2: ListWork(0, False)}
    await store.upsert_profile(ended("a", "b", 1, needs_list=True))
    assert await store.owed_lists(1, 9) == ["a"] and (await store.list_work([1]))[1].n_waiting == 1
    await store.upsert_profile(ended("a", "b", 0, needs_list=True))
    asked = await store.lists_asked(1, ["a"])
    assert await store.settle_lists(1, Watermark("t", -1), ["a"], asked) and await store.owed_lists(1, 9) == [], "nothing was applied there"
    await store.upsert_profile(ProfileRecord(1, "a", 3, b"{}"))
    assert await store.owed_lists(1, 9) == ["a"], "an id that is its own again waits for a list"


async def test_lists_of_users_anywhere_can_be_asked_for(store: StateStore) -> None:
    await store.commit_users([UserCommit(2, "t", -1, 4, {})])
    await store.await_lists({2: ["u", "v"], 3: [], 0: ["u"]})
    await store.await_lists({2: ["u"]})
    assert sorted(await store.owed_lists(2, 9)) == ["u", "v"] and await store.owed_lists(0, 9) == ["u"]
    assert await store.settle_lists(2, Watermark("t", 4), ["u", "v"], [2, 1]) and await store.owed_lists(2, 9) == []
    assert not await store.settle_lists(2, Watermark("t", -1), [])


async def test_a_list_that_is_asked_for_while_it_is_made_is_made_again(store: StateStore) -> None:
    await store.commit_users([UserCommit(2, "t", -1, 4, {}, owed=["event"])])
    await store.await_lists({2: ["u", "v"]})
    assert await store.lists_asked(2, ["u", "v", "event"]) == [1, 1, 0] and await store.lists_asked(2, []) == []
    await store.await_lists({2: ["u"]})
    assert await store.settle_lists(2, Watermark("t", 4), ["u", "v", "event"], [1, 1, 0])
    assert await store.owed_lists(2, 9) == ["u"] and await store.lists_asked(2, ["u", "v"]) == [2, 0]
    assert await store.settle_lists(2, Watermark("t", 4), ["u"], [2]) and await store.owed_lists(2, 9) == []


async def test_an_account_names_its_newest_ids_first_and_not_too_many(store: StateStore) -> None:
    await store.note_merges([MergeNote(2, "account", user_id, at) for user_id, at in (("b", 5), ("ä:1", 7), ("a", 5), ("b", 3), ("c", -1))])
    assert await standing(store, "account", 2) == Standing(sources=("ä:1", "a", "b", "c"))
    assert (await store.list_work([2, 1])) == {2: ListWork(0, True), 1: ListWork(0, False)}
    await store.note_merges([MergeNote(2, "account", f"n{number:03}", 9) for number in range(2 * MOST_SOURCES)])
    assert (await standing(store, "account", 2)).sources == tuple(f"n{number:03}" for number in range(MOST_SOURCES))


NOTES = st.lists(st.tuples(st.sampled_from("abcdé"), st.integers(-1, 12)), max_size=12)


@given(notes=NOTES, chance=st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_in_whatever_order_notes_come_they_are_the_same_in_both_stores(
    redis_url: str, notes: Sequence[tuple[str, int]], chance: st.DataObject
) -> None:
    async def both() -> None:
        memory, on_redis = MemoryStore(), RedisStore(redis_settings(redis_url))
        try:
            shuffled = list(notes)
            chance.shuffle(shuffled)  # type: ignore[attr-defined]
            for store, order in ((memory, notes), (on_redis, shuffled)):
                await store.open(LAYOUT)
                await store.note_merges([MergeNote(0, "account", user_id, at) for user_id, at in order])
            assert await standing(memory, "account", 0) == await standing(on_redis, "account", 0)
        finally:
            await on_redis.close()

    asyncio.run(both())
