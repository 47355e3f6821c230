"""Generations of the state: each holds everything, one is active, and the others can be dropped. The same on the fake and on Redis."""

from __future__ import annotations

import pytest

import workers.redis.catalogue
from tests.contract.conftest import LAYOUT
from tests.contract.test_store import TOPIC, A, deltas, source, sums
from workers.errors import Fatal
from workers.state.port import ItemRecord, StateStore, StoredItem, UserCommit, Watermark
from workers.state.users_topic import ProfileRecord

PARTITIONS = range(LAYOUT.partitions)
GROUPS = range(LAYOUT.item_groups)


async def fill(store: StateStore, mark: str) -> None:
    """Something of every kind, in every partition and group."""
    await store.item_numbers([f"{mark}{i}" for i in range(20)])
    await store.upsert_items([ItemRecord(number, 0, number, b'{"a":1}') for number in range(20)])
    await store.apply_items([source(0, 9, partition=p) for p in PARTITIONS], [deltas(group, {A: [(7, 64)]}) for group in GROUPS])
    for partition in PARTITIONS:
        users = {f"{mark}{{x}}}}{i}": b"row" for i in range(300)}
        await store.commit_users([UserCommit(partition, TOPIC, -1, 9, users, {0: b"8 bytes "})])
        await store.upsert_profile(ProfileRecord(partition, mark, 0, b"{}"))
    await store.set_serving("ials", mark.encode(), 1)


async def holds(store: StateStore, mark: str) -> bool:
    """Whether all that `fill` wrote is there; raises if only some of it is."""
    names = await store.item_names()
    if not names:
        assert await sums(store, 0, A) == {} and await store.serving() == {} and await store.read_items([0]) == [None]
        assert not any((await store.watermarks(list(PARTITIONS))).values())
        assert not any([await store.group_watermarks(group) for group in GROUPS])
        for partition in PARTITIONS:
            assert [user async for user in store.scan_users(partition)] == []
        assert await store.read_duplicates(0, [0]) == [b""] and await store.read_profiles(0, [mark]) == [None]
        return False
    assert names == [f"{mark}{i}" for i in range(20)]
    for partition in PARTITIONS:
        assert {user async for user in store.scan_users(partition)} == {f"{mark}{{x}}}}{i}" for i in range(300)}
    assert await store.watermarks([1]) == {1: Watermark(TOPIC, 9)} and await store.serving() == {"ials": mark.encode()}
    assert await sums(store, 2, A) == {7: 64} and await store.read_profiles(3, [mark]) == [b"{}"]
    return True


async def test_generations_hold_nothing_of_each_other(store: StateStore) -> None:
    assert (store.generation, await store.active_generation()) == (0, 0)
    await fill(store, "a")
    await store.open(LAYOUT, 1)
    assert store.generation == 1 and not await holds(store, "b")
    await fill(store, "b")
    assert await holds(store, "b")
    await store.open(LAYOUT, 0)
    assert await holds(store, "a")


async def test_open_turns_to_the_active_generation_each_time(store: StateStore) -> None:
    await fill(store, "a")
    await store.open(LAYOUT, 1)
    await fill(store, "b")
    await store.open(LAYOUT)
    assert store.generation == 0
    assert await store.switch_generation(0, 1)
    assert (store.generation, await store.active_generation()) == (0, 1), "a store stays where it is until it is opened again"
    assert await holds(store, "a")
    await store.open(LAYOUT)
    assert store.generation == 1 and await holds(store, "b")


async def test_generations_that_hold_a_state_are_listed(store: StateStore) -> None:
    assert await store.generations() == [0]
    for generation in (12, 2):
        await store.open(LAYOUT, generation)
    assert await store.switch_generation(0, 2)
    assert await store.generations() == [0, 2, 12]
    await store.drop_generation(12)
    await store.drop_generation(0)
    assert await store.generations() == [2]


async def test_only_the_first_of_two_switches_counts(store: StateStore) -> None:
    assert await store.switch_generation(0, 2)
    assert not await store.switch_generation(0, 1)
    assert await store.active_generation() == 2
    assert await store.switch_generation(2, 3)
    assert await store.active_generation() == 3


@pytest.mark.parametrize("dropped", [0, 1, 12])
async def test_a_dropped_generation_leaves_nothing_and_the_others_whole(store: StateStore, dropped: int) -> None:
    marks = {0: "a", 1: "b", 12: "c"}
    for generation, mark in marks.items():
        await store.open(LAYOUT, generation)
        await fill(store, mark)
    active = 12 if dropped != 12 else 1
    assert await store.switch_generation(0, active)
    assert await store.drop_generation(dropped) > 0
    assert await store.active_generation() == active, "the pointer lies in the namespace of generation 0 and stays"
    assert await store.drop_generation(dropped) == 0
    for generation, mark in marks.items():
        await store.open(LAYOUT, generation)
        assert await holds(store, mark) == (generation != dropped)


async def test_the_active_generation_is_not_dropped(store: StateStore) -> None:
    await fill(store, "a")
    with pytest.raises(Fatal, match=r"generation 0 .* is the active one"):
        await store.drop_generation(0)
    assert await holds(store, "a")
    assert await store.switch_generation(0, 1)
    with pytest.raises(Fatal, match=r"generation 1 .* is the active one"):
        await store.drop_generation(1)


async def test_one_rebuild_at_a_time(store: StateStore) -> None:
    assert await store.claim_rebuild("one", 60)
    assert not await store.claim_rebuild("other", 60)
    assert not await store.claim_rebuild("other", 0), "nobody gives back what another holds"
    assert await store.claim_rebuild("one", 60)
    assert await store.claim_rebuild("one", 0)
    assert await store.claim_rebuild("other", 60)


async def stored_items(store: StateStore, generation: int) -> dict[str, StoredItem]:
    return {item_id: stored async for page in store.scan_items(generation) for item_id, stored in page}


async def test_items_of_any_generation_are_listed_by_id_removed_ones_too(store: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.redis.catalogue, "RECORDS_PER_CALL", 8)
    assert await stored_items(store, 5) == {} and await store.catalogue_read_into(5) == ""
    await fill(store, "a")
    await store.item_numbers(["never described"])
    await store.upsert_items([ItemRecord(3, 2, 70, None)])
    await store.note_catalogue("read")
    await store.open(LAYOUT, 1)
    await fill(store, "b")
    found = await stored_items(store, 0)
    assert set(found) == {f"a{number}" for number in range(20)}
    assert (found["a3"], found["a4"]) == (StoredItem(2, 70, None), StoredItem(0, 4, b'{"a":1}'))
    assert (await store.catalogue_read_into(0), await store.catalogue_read_into(1)) == ("read", "")
    assert set(await stored_items(store, 1)) == {f"b{number}" for number in range(20)}
