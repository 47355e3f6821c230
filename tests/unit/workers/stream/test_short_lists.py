"""An event may overtake the items published before it: the list that came out short is made again when they are there (P2)."""

from __future__ import annotations

import json

import numpy as np
import pytest

from recsys.engine import Lists
from schemas import Item, Recommendations, UserProfile, encode
from tests.builders import TOPIC_ID, Fact, opened_pipeline, records_of, small_settings
from tests.memory_store import MemoryStore
from workers.kafka.records import Record
from workers.lists.encoding import ListHead
from workers.state.port import ItemRecord
from workers.state.users_topic import ProfileRecord
from workers.stream import short_lists
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.pipeline import Pipeline
from workers.stream.reference_topics import Intake
from workers.stream.short_lists import ShortLists

SIZE = 3
SETTINGS = small_settings(lists={"size": SIZE})
START_MS = 1_764_000_000_000


async def add_items(pipeline: Pipeline, *item_ids: str) -> None:
    numbers = await pipeline.state.store.item_numbers(list(item_ids))
    contents = [encode(Item(item_id=item_id, categories=("jazz",))) for item_id in item_ids]
    await pipeline.state.store.upsert_items([ItemRecord(n, 0, n, content) for n, content in zip(numbers, contents, strict=True)])


def items_of(record: bytes | None) -> list[str]:
    assert record is not None
    return [item["item_id"] for item in json.loads(record)["items"]]


async def test_a_list_that_the_catalogue_left_short_is_owed_again_once_when_items_come() -> None:
    pipeline = await opened_pipeline(MemoryStore(), SETTINGS)
    follower = CatalogueFollower(pipeline.state)
    await pipeline.assign([0, 1], TOPIC_ID)
    outcome = await pipeline.process({0: records_of([Fact("u0", "i0", "e0", "play", None, START_MS)])})
    assert [items_of(record) for _, record in outcome.lists[0]] == [[]]
    assert await follower.follow() == 0 and await pipeline.deferred_lists(0, 10) is None

    await add_items(pipeline, "i1", "i2", "i3")
    assert await follower.follow() == 3
    assert await pipeline.defer_short_lists() == {0}
    owed = await pipeline.deferred_lists(0, 10)
    assert owed is not None and [user for user, _ in owed.records] == [b"u0"]
    assert sorted(items_of(owed.records[0][1])) == ["i1", "i2", "i3"]
    await pipeline.settle_deferred(0, owed)

    await add_items(pipeline, "i4")
    assert await follower.follow() == 1 and await pipeline.defer_short_lists() == set(), "a full list is left alone"


async def test_a_short_list_is_not_made_again_for_items_that_only_change() -> None:
    pipeline = await opened_pipeline(MemoryStore(), SETTINGS)
    follower = CatalogueFollower(pipeline.state)
    await pipeline.assign([0, 1], TOPIC_ID)
    await add_items(pipeline, "i1")
    await follower.follow()
    await pipeline.process({0: records_of([Fact("u0", "i0", "e0", "play", None, START_MS)])})
    assert await pipeline.defer_short_lists() == {0}, "once: i1 may have come after the list and before this look"
    owed = await pipeline.deferred_lists(0, 10)
    assert owed is not None and items_of(owed.records[0][1]) == ["i1"]
    await pipeline.settle_deferred(0, owed)
    for source_offset in (10, 11):
        number = (await pipeline.state.store.item_numbers(["i1"]))[0]
        await pipeline.state.store.upsert_items(
            [ItemRecord(number, 0, source_offset, encode(Item(item_id="i1", title=str(source_offset))))]
        )
        assert await follower.follow() == 1 and await pipeline.defer_short_lists() == set()
    await add_items(pipeline, "i2")
    await follower.follow()
    assert await pipeline.defer_short_lists() == {0}


async def test_a_newcomer_s_short_first_list_is_made_again_with_the_profile_s_categories_and_is_valid() -> None:
    """Nothing has been applied yet, so that the list is up to date with no event; an unreadable profile costs nobody a list."""
    pipeline = await opened_pipeline(MemoryStore(), SETTINGS)
    follower = CatalogueFollower(pipeline.state)
    intake = Intake(SETTINGS, pipeline.state, pipeline.lists, follower, wall_clock=lambda: START_MS / 1000)
    await pipeline.assign([0, 1], TOPIC_ID)
    await add_items(pipeline, "i1")
    profiles = [encode(UserProfile(user_id=user_id, preferred_categories=("noir",))) for user_id in ("u0", "u1")]
    records = [Record("users", 0, n, f"u{n}".encode(), profile) for n, profile in enumerate(profiles)]
    first, _ = await intake.users(records)
    assert [items_of(record) for _, _, record in first] == [["i1"]] * 2
    await pipeline.state.store.upsert_profile(ProfileRecord(0, "u1", 2, b"{"))

    numbers = await pipeline.state.store.item_numbers(["n1", "n2", "n3"])
    noir = [encode(Item(item_id=f"n{n + 1}", categories=("noir",))) for n in range(3)]
    await pipeline.state.store.upsert_items([ItemRecord(number, 0, number, content) for number, content in zip(numbers, noir, strict=True)])
    await follower.follow()
    assert await pipeline.defer_short_lists() == {0}
    owed = await pipeline.deferred_lists(0, 10)
    assert owed is not None
    made = {one.user_id: one for _, record in owed.records if (one := Recommendations.model_validate_json(record or b""))}
    assert {item.item_id for item in made["u0"].items} == {"n1", "n2", "n3"} and len(made["u1"].items) == SIZE
    assert {one.trigger.source_offset for one in made.values()} == {0}


async def test_users_of_partitions_that_moved_away_are_left_to_their_new_owner() -> None:
    pipeline = await opened_pipeline(MemoryStore(), SETTINGS)
    await pipeline.assign([0], TOPIC_ID)
    await pipeline.process({0: records_of([Fact("u0", "i0", "e0", "play", None, START_MS)])})
    pipeline.release([0])
    assert await pipeline.defer_short_lists() == set()


def lists(*filled: int) -> Lists:
    scores = np.full((len(filled), SIZE), -np.inf, np.float32)
    for row, n in enumerate(filled):
        scores[row, :n] = 1
    empty = np.zeros((len(filled), SIZE))
    return Lists(**{name: scores if name == "scores" else empty for name in Lists.__dataclass_fields__})


def heads(*user_ids: str) -> list[ListHead]:
    return [ListHead(user_id, 0, 1, None) for user_id in user_ids]


def test_only_short_lists_are_remembered_and_only_the_newest_of_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_lists, "MAX_USERS", 2)
    short = ShortLists(SIZE)
    short.note(heads("a", "b"), lists(3, 2))
    assert short and short.take([0]) == {}
    short.note_listable(1)
    assert short.take([0]) == {0: ["b"]} and not short
    short.note(heads("a", "b", "c"), lists(0, 1, 2))
    short.note(heads("b"), lists(2))
    short.note_listable(2)
    assert short.take([0]) == {0: ["c", "b"]}
    short.note(heads("a", "b"), lists(1, 1))
    short.note(heads("a", "b"), lists(3, 3))
    short.note_listable(3)
    assert not short and short.take([0]) == {}


def test_so_many_lists_are_made_again_at_once_and_the_others_at_the_next_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_lists, "MAX_AT_ONCE", 2)
    short = ShortLists(SIZE)
    short.note(heads("a", "b", "c"), lists(1, 1, 1))
    short.note_listable(1)
    short.note_listable(1)
    assert [short.take([0]), short.take([0]), short.take([0])] == [{0: ["a", "b"]}, {0: ["c"]}, {}]
