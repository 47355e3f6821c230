"""Numbers and names stay each other's inverse, whoever numbers items meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from tests.builders import small_settings
from tests.memory_store import MemoryStore
from workers.state.layout import layout_of
from workers.stream.item_numbering import ItemNumbering


class SlowStore(MemoryStore):
    """Answers a turn of the event loop later, as a server does."""

    async def item_names(self, start: int = 0) -> list[str]:
        found = await super().item_names(start)
        await asyncio.sleep(0)
        return found


async def opened() -> SlowStore:
    store = SlowStore()
    await store.open(layout_of(small_settings()))
    return store


def check(index: ItemNumbering, store: MemoryStore) -> None:
    assert index.names == list(store._numbers) and index.numbers == store._numbers


async def test_tasks_that_catch_up_at_once_learn_each_name_once() -> None:
    store = await opened()
    await store.item_numbers([f"i{n}" for n in range(5)])
    index = ItemNumbering(store)
    await asyncio.gather(*(index.catch_up() for _ in range(3)), index.number(["new", "i2"]), index.number(["newer"]))
    check(index, store)


async def test_clearing_while_another_task_waits_leaves_no_hole() -> None:
    store = await opened()
    index = ItemNumbering(store)
    await index.number(["a", "b"])
    await store.item_numbers(["c"])
    waiting = asyncio.create_task(index.catch_up())
    await asyncio.sleep(0)
    index.clear()
    await waiting
    await index.catch_up()
    check(index, store)


async def test_numbers_that_another_worker_gave_are_taken_over() -> None:
    store = await opened()
    one, other = ItemNumbering(store), ItemNumbering(store)
    await one.number(["a", "b"])
    await other.number(["c", "a"])
    assert await one.name([2, 0]) == ["c", "a"] and await other.name([1]) == ["b"]
    check(one, store)
    check(other, store)


@pytest.mark.parametrize("ids", [[], ["a", "a"]])
async def test_an_id_that_comes_twice_is_numbered_once(ids: list[str]) -> None:
    store = await opened()
    index = ItemNumbering(store)
    await index.number(ids)
    assert index.names == list(dict.fromkeys(ids))
