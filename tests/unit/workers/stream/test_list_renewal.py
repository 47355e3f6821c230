"""A list that holds an item which is gone is made again, whichever worker made it; others are left alone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import Item
from tests.builders import TOPIC_ID, Fact, opened_pipeline, own, put_items, records_of, small_settings
from tests.memory_store import MemoryStore
from workers.kafka.records import Record
from workers.lists.encoding import ListHead
from workers.settings import Settings
from workers.stream import list_renewal, listed_items
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.list_renewal import ListRenewal
from workers.stream.listed_items import ListedItems
from workers.stream.partitions import Partitions
from workers.stream.pipeline import Pipeline

SETTINGS = small_settings(lists={"size": 3, "renewed_users": 100})
START_MS = 1_764_000_000_000
KINDS = st.sampled_from(["note", "older", "forget", "gone"])
OPERATIONS = st.lists(st.tuples(KINDS, st.integers(0, 1), st.integers(0, 4), st.lists(st.integers(0, 9), max_size=3)), max_size=30)


def row(numbers: list[int]) -> np.ndarray[Any, Any]:
    return np.array([numbers + [-1] * (3 - len(numbers))], np.int64)


@given(OPERATIONS)
def test_users_are_due_whose_newest_list_holds_what_is_gone(operations: list[tuple[str, int, int, list[int]]]) -> None:
    held, model, due = ListedItems(3, 100), dict[tuple[int, str], list[int]](), set[tuple[int, str]]()
    for what, partition, user, numbers in operations:
        key = (partition, f"u{user}")
        if what == "note":
            held.note([ListHead(key[1], partition, 0, None)], row(numbers))
            model[key] = numbers
            due.discard(key)
        elif what == "older":
            held.note_older(partition, [key[1], key[1]], np.concatenate((row([9]), row(numbers))))
            model.setdefault(key, numbers)
        elif what == "forget":
            held.forget({partition})
            model = {key: listed for key, listed in model.items() if key[0] != partition}
            due = {key for key in due if key[0] != partition}
        else:
            gone = np.zeros(8, np.bool_)
            gone[[number for number in numbers if number < 8]] = True
            held.expect(gone)
            due |= {key for key, listed in model.items() if any(number < 8 and gone[number] for number in listed)}
        assert len(held) == len(model) and held.are_due == bool(due)
    assert {(p, user) for p, users in held.take().items() for user in users} == due
    assert not held.are_due


def test_the_users_whose_list_came_first_are_forgotten_first() -> None:
    held = ListedItems(3, 2)
    for user in ("a", "b", "a", "c"):
        held.note([ListHead(user, 0, 0, None)], row([1]))
    gone = np.array([False, True])
    assert held.expect(gone) == 2 and held.take() == {0: ["c", "b"]}


def test_few_lists_are_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed_items, "MAX_AT_ONCE", 2)
    held = ListedItems(3, 10)
    held.note([ListHead(f"u{user}", 0, 0, None) for user in range(5)], np.repeat(row([1]), 5, axis=0))
    held.expect(np.array([False, True]))
    assert [held.take() for _ in range(4)] == [{0: ["u0", "u1"]}, {0: ["u2", "u3"]}, {0: ["u4"]}, {}]


class World:
    """A pipeline that owns both partitions, a clock, and the topic of lists."""

    def __init__(self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, settings: Settings = SETTINGS) -> None:
        self.pipeline, self.now_s, self.topic = pipeline, START_MS // 1000, dict[int, list[tuple[str, list[str]]]]()
        self.follower, self.partitions = CatalogueFollower(pipeline.state), Partitions(SETTINGS.topics.events)
        self.renewal = ListRenewal(settings, pipeline, self.partitions, wall_clock=lambda: self.now_s)
        self.n_reads = 0
        world = self

        class Reader:
            def __init__(self, settings: Any, starts: Mapping[Any, int], **options: Any) -> None:
                self.starts = starts
                world.n_reads += 1

            async def __aenter__(self) -> Reader:
                return self

            async def __aexit__(self, *_: object) -> None: ...

            async def until(self, ends: Any) -> AsyncIterator[Any]:
                for place in ends:
                    lists = map(_as_record, world.topic[place[1]])
                    yield {place: [Record(*place, at, key, value) for at, (key, value) in enumerate(lists)]}

        async def starts(settings: Any, topics: Any) -> Any:
            return {(SETTINGS.topics.recommendations, partition): 0 for partition in range(2)}

        async def ends(settings: Any, topics: Any) -> Any:
            return {(SETTINGS.topics.recommendations, partition): len(world.topic.get(partition, ())) for partition in range(2)}

        monkeypatch.setattr(list_renewal, "RangeReader", Reader)
        monkeypatch.setattr(list_renewal, "start_offsets_async", starts)
        monkeypatch.setattr(list_renewal, "end_offsets_async", ends)

    @classmethod
    async def opened(cls, monkeypatch: pytest.MonkeyPatch, store: MemoryStore | None = None, settings: Settings = SETTINGS) -> World:
        pipeline = await opened_pipeline(store or MemoryStore(), settings, now_s=START_MS / 1000)
        await pipeline.assign(range(2), TOPIC_ID)
        world = cls(pipeline, monkeypatch, settings)
        own(world.partitions, (0, 1))
        return world

    async def put(self, source_offset: int, *items: Item) -> None:
        await put_items(self.pipeline, source_offset, *items)
        await self.follower.follow()

    async def event(self, user: str, item: str, offset: int) -> list[str]:
        outcome = await self.pipeline.process({0: records_of([Fact(user, item, f"e{offset}", "play", None, START_MS)], offset)})
        ((_, record),) = outcome.lists[0]
        return [item["item_id"] for item in json.loads(record or b"")["items"]]

    async def renewed(self) -> dict[str, list[str]]:
        """Return the lists of users that a look has made again."""
        await self.renewal.look()
        made = dict[str, list[str]]()
        for partition in self.partitions.with_deferred_lists:
            deferred = await self.pipeline.deferred_lists(partition, 100)
            if deferred is not None:
                made |= {key.decode(): [item["item_id"] for item in json.loads(value or b"")["items"]] for key, value in deferred.records}
                await self.pipeline.settle_deferred(partition, deferred)
        return made


def _as_record(listed: tuple[str, list[str]]) -> tuple[bytes, bytes | None]:
    user, items = listed
    return user.encode(), None if items == ["removed"] else json.dumps({"items": [{"item_id": item} for item in items]}).encode()


async def test_lists_that_hold_what_is_gone_are_made_again_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await World.opened(monkeypatch)
    await world.put(0, *(Item(item_id=f"i{number}") for number in range(4)))
    with_all = await world.event("u0", "i0", 0)
    assert sorted(with_all) == ["i1", "i2", "i3"]
    with_others = await world.event("u1", "i1", 1)
    assert sorted(with_others) == ["i0", "i2", "i3"] and await world.renewed() == {}
    await world.put(1, Item(item_id="i0", available=False))
    made = await world.renewed()
    assert set(made) == {"u1"} and sorted(made["u1"]) == ["i2", "i3"]
    assert await world.renewed() == {} and world.n_reads == 0, "nothing was listed before this worker"


async def test_an_item_that_expires_or_is_removed_is_gone_too(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await World.opened(monkeypatch)
    await world.put(0, Item(item_id="i0", expires_ts_ms=START_MS + 9_000), Item(item_id="i1"), Item(item_id="i2"))
    assert sorted(await world.event("u0", "i2", 0)) == ["i0", "i1"]
    world.now_s += 5
    assert await world.renewed() == {}
    world.now_s += 5
    world.pipeline._wall_clock = lambda: world.now_s
    assert await world.renewed() == {"u0": ["i1"]}


async def test_lists_of_before_a_start_are_read_once_and_the_newest_of_a_user_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    before = await World.opened(monkeypatch, store)
    await before.put(0, *(Item(item_id=f"i{number}") for number in range(5)))
    await before.event("u0", "i0", 0)
    world = await World.opened(monkeypatch, store)
    await world.follower.follow()
    world.topic = {
        0: [("u0", ["i9", "i1"]), ("old", ["i4"]), ("old", ["i3"]), ("recsys:x", ["i4"]), ("none", ["removed"])],
        1: [("u7", ["i2", "i4"])],
    }
    assert await world.renewed() == {} and world.n_reads == 0, "as long as nothing is gone nobody asks what is listed"
    await world.put(1, Item(item_id="i4", available=False))
    made = await world.renewed()
    assert set(made) == {"u7", "recsys:x"} and world.n_reads == 1, "without lists of no user every key is a user's"
    await world.put(2, Item(item_id="i1", available=False))
    assert set(await world.renewed()) >= {"u0"} and world.n_reads == 1


async def test_lists_of_a_partition_that_comes_later_are_checked_for_what_was_gone_before(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await World.opened(monkeypatch)
    await world.put(0, Item(item_id="i0"), Item(item_id="i1"))
    world.partitions.disown([1])
    world.topic = {1: [("u7", ["i0"])]}
    await world.put(1, Item(item_id="i0", available=False))
    assert await world.renewed() == {}
    own(world.partitions, (1,))
    assert await world.renewed() == {"u7": ["i1"]}


async def test_a_page_with_an_item_that_is_gone_in_a_row_alone_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"kind": "category", "category": "Jazz", "size": 2, "least": 1}]
    world = await World.opened(monkeypatch, settings=small_settings(lists={"size": 1, "renewed_users": 100, "rows": rows}))
    await world.put(0, Item(item_id="i0"), Item(item_id="i1"), *(Item(item_id=f"j{n}", categories=("Jazz",)) for n in range(2)))
    for offset, item in enumerate(("i0", "i1", "i1")):
        listed = await world.event(f"u{offset}", item, offset)
    assert await world.renewed() == {}
    on_row = {"j0", "j1"} - set(listed)
    gone = sorted(on_row)[0]
    await world.put(1, Item(item_id=gone, categories=("Jazz",), available=False))
    assert "u2" in await world.renewed()


async def test_a_list_without_an_event_is_made_at_its_own_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event's list reads the user at the event, so that a replay packs the same row; a later one knows how long ago that was."""
    world, asked = await World.opened(monkeypatch), list[int | None]()
    await world.put(0, Item(item_id="a"), Item(item_id="b"))
    engine = world.pipeline.state.engine

    def encode(slots: Any, now_s: int | None = None) -> dict[str, Any]:
        asked.append(now_s)
        return {}

    monkeypatch.setattr(engine, "encode", encode)
    await world.event("u", "a", 1)
    (slot,) = engine.users._slots.values()
    await world.pipeline.lists.records(np.array([slot]), [ListHead("u", 0, 0, None)], START_MS + 60_000)
    assert asked == [None, START_MS // 1000]
