"""The numbering of items knows what was lost, and lists that were put off are owed until they are settled: on every store alike."""

from __future__ import annotations

import pytest

from workers.errors import Fenced
from workers.state.port import ItemRecord, StateStore, UserCommit, Watermark


async def test_a_caller_that_knows_more_numbers_than_the_store_is_fenced_and_numbers_nothing(store: StateStore) -> None:
    assert await store.item_numbers(["a", "b"]) == [0, 1]
    assert await store.item_numbers(["c"], 2, "b") == [2]
    with pytest.raises(Fenced):
        await store.item_numbers(["d"], 4, "x")
    with pytest.raises(Fenced):
        await store.item_numbers(["d"], 3, "other")
    assert await store.item_names() == ["a", "b", "c"]


async def test_lost_names_come_back_only_where_they_were(store: StateStore) -> None:
    await store.item_numbers(["a", "b"])
    assert not await store.restore_names(1, ["x"])
    assert not await store.restore_names(3, ["x"])
    assert not await store.restore_names(2, ["x", "a"])
    assert await store.item_names() == ["a", "b"]
    assert await store.restore_names(2, ["x", "y"])
    assert await store.item_numbers(["y", "z", "x"]) == [3, 4, 2]
    many = [f"n{i}" for i in range(5_000)]
    assert await store.restore_names(5, many)
    assert (await store.item_names())[5:] == many


async def test_a_state_has_an_id_that_stays(store: StateStore) -> None:
    first = await store.state_id()
    assert len(first) == 16
    await store.open(store.layout)  # type: ignore[attr-defined]
    assert await store.state_id() == first


async def test_owed_lists_are_noted_with_the_commit_and_settled_only_at_its_watermark(store: StateStore) -> None:
    await store.commit_users([UserCommit(1, "t", -1, 4, {"u": b"x", "v": b"y"}, {}, ("u", "v"))])
    assert sorted(await store.owed_lists(1, 10)) == ["u", "v"] and await store.owed_lists(0, 10) == []
    assert len(await store.owed_lists(1, 1)) == 1
    fenced = (await store.commit_users([UserCommit(1, "t", -1, 9, {"w": b"z"}, {}, ("w",))]))[0]
    assert not fenced.committed and sorted(await store.owed_lists(1, 10)) == ["u", "v"]
    assert not await store.settle_lists(1, Watermark("t", 3), ["u"])
    assert not await store.settle_lists(1, Watermark("other", 4), ["u"])
    assert sorted(await store.owed_lists(1, 10)) == ["u", "v"]
    assert await store.settle_lists(1, Watermark("t", 4), ["u"])
    assert await store.owed_lists(1, 10) == ["v"]


async def test_content_under_the_number_of_another_item_never_wins(store: StateStore) -> None:
    await store.upsert_items([ItemRecord(0, 1, 9, b'{"item_id":"stranger"}'), ItemRecord(1, 1, 9, b'{"item_id":"b"}')])
    older = [ItemRecord(0, 1, 3, b'{"item_id":"a"}'), ItemRecord(1, 1, 3, b'{"item_id":"b","title":"old"}')]
    assert await store.upsert_items(older) == 1
    assert await store.read_items([0, 1]) == [b'{"item_id":"a"}', b'{"item_id":"b"}']
    assert await store.upsert_items([ItemRecord(0, 1, 2, None)]) == 0, "an older removal changes nothing"


async def test_what_was_read_of_the_catalogue_is_remembered(store: StateStore) -> None:
    assert await store.catalogue_read() == ""
    await store.note_catalogue('["a"]')
    assert await store.catalogue_read() == '["a"]'
