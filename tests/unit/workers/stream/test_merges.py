"""A visitor who logs in: the account's list follows both histories, the visitor's is removed; bad records are dead letters."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from recsys.engine import Engine
from schemas import Item
from tests.builders import NOW_S, TOPIC_ID, opened_pipeline, play, put_items, records_of, small_settings
from tests.memory_store import MemoryStore
from workers.kafka.partitioner import partition_for
from workers.kafka.records import Record
from workers.settings import Settings
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.pipeline import Pipeline
from workers.stream.reference_topics import Intake

SETTINGS = small_settings(topics={"wrong_partition": "dead_letter"})
VISITOR, ACCOUNT = "u0", "u5"
"""In partitions 0 and 1."""
ITEMS = [f"i{number}" for number in range(8)]


async def world(settings: Settings = SETTINGS) -> tuple[Pipeline, Intake]:
    pipeline = await opened_pipeline(MemoryStore(), settings)
    await pipeline.assign([0, 1], TOPIC_ID)
    await put_items(pipeline, 0, *(Item(item_id=item_id, categories=("c",)) for item_id in ITEMS))
    follower = CatalogueFollower(pipeline.state)
    await follower.follow()
    return pipeline, Intake(settings, pipeline.state, pipeline.lists, follower, wall_clock=lambda: NOW_S)


def record(user_id: str, source_offset: int = 0, **fields: Any) -> Record:
    partition = partition_for(user_id.encode(), 2)
    return Record("users", partition, source_offset, user_id.encode(), orjson.dumps({"user_id": user_id, **fields}), 5)


async def deferred(pipeline: Pipeline) -> dict[str, set[str] | None]:
    """Make and settle all lists that wait; return the items of each, None where a list is removed."""
    made: dict[str, set[str] | None] = {}
    for partition in (0, 1, 0, 1):
        while (some := await pipeline.deferred_lists(partition, 10)) is not None:
            for key, value in some.records:
                made[key.decode()] = None if value is None else {item["item_id"] for item in orjson.loads(value)["items"]}
            await pipeline.settle_deferred(partition, some)
    return made


async def seen_by_both(pipeline: Pipeline) -> None:
    await pipeline.process({0: records_of([play(VISITOR, "i0", 1), play(VISITOR, "i1", 2)]), 1: records_of([play(ACCOUNT, "i2", 3)])})


async def test_after_a_login_the_account_s_list_follows_both_histories_and_the_visitor_s_is_removed() -> None:
    pipeline, intake = await world()
    await seen_by_both(pipeline)
    lists, dead = await intake.users([record(VISITOR, merged_into=ACCOUNT)])
    assert not lists and not dead
    assert 0 in await pipeline.defer_short_lists(), "the visitor's partition has work to do"
    made = await deferred(pipeline)
    assert made[VISITOR] is None and made[ACCOUNT] == set(ITEMS) - {"i0", "i1", "i2"}
    assert await deferred(pipeline) == {}


async def test_later_events_of_both_ids_give_the_account_a_list_of_everything() -> None:
    pipeline, intake = await world()
    await seen_by_both(pipeline)
    await intake.users([record(VISITOR, merged_into=ACCOUNT)])
    await deferred(pipeline)
    await pipeline.defer_short_lists()
    outcome = await pipeline.process({0: records_of([play(VISITOR, "i3", 4)], 2)})
    assert outcome.lists == {0: [(VISITOR.encode(), None)]} and outcome.n_new == 1, "a list of the ended id that was left is removed"
    assert (await deferred(pipeline)) == {ACCOUNT: set(ITEMS) - {"i0", "i1", "i2", "i3"}}
    outcome = await pipeline.process({1: records_of([play(ACCOUNT, "i4", 5)], 1), 0: records_of([play("u1", "i0", 6)], 3)})
    (key, value), (other, _) = outcome.lists[1][0], outcome.lists[0][0]
    assert (key, other) == (ACCOUNT.encode(), b"u1") and value is not None
    assert {item["item_id"] for item in orjson.loads(value)["items"]} == {"i5", "i6", "i7"}


async def test_models_encode_the_joined_history(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, intake = await world()
    await seen_by_both(pipeline)
    await intake.users([record(VISITOR, merged_into=ACCOUNT)])
    await pipeline.defer_short_lists()
    encoded: list[int] = []

    def encode(engine: Engine, slots: Any, now_s: int | None = None) -> dict[str, Any]:
        encoded.extend(engine.users.lengths[slots].tolist())
        return {}

    monkeypatch.setattr(Engine, "encode", encode)
    await pipeline.process({1: records_of([play(ACCOUNT, "i4", 5)], 1)})
    assert encoded == [4], "once, of two items of each id"


async def test_an_account_without_events_has_the_visitor_s_history_and_no_newcomer_s_list() -> None:
    pipeline, intake = await world()
    await pipeline.process({0: records_of([play(VISITOR, "i0", 1)])})
    lists, _ = await intake.users([record(VISITOR, merged_into=ACCOUNT), record(ACCOUNT, preferred_categories=["c"])])
    assert lists == [], "its list is not that of somebody of whom nothing is known"
    assert (await deferred(pipeline))[ACCOUNT] == set(ITEMS) - {"i0"}


async def test_a_merge_that_is_taken_back_or_goes_elsewhere_gives_everybody_a_list() -> None:
    pipeline, intake = await world()
    await seen_by_both(pipeline)
    await intake.users([record(VISITOR, merged_into=ACCOUNT)])
    await deferred(pipeline)
    await intake.users([record(VISITOR, 1, merged_into="u1")])
    made = await deferred(pipeline)
    assert made[VISITOR] is None and made[ACCOUNT] == set(ITEMS) - {"i2"} and made["u1"] == set(ITEMS) - {"i0", "i1"}
    await intake.users([record(VISITOR, 2)])
    made = await deferred(pipeline)
    assert made == {VISITOR: set(ITEMS) - {"i0", "i1"}, "u1": set(ITEMS)}


async def test_a_worker_far_behind_defers_the_account_s_list_too() -> None:
    pipeline, intake = await world()
    await intake.users([record(VISITOR, merged_into=ACCOUNT)])
    await pipeline.process({0: records_of([play(VISITOR, "i0", 1)])}, defer_lists=True)
    assert await deferred(pipeline) == {VISITOR: None, ACCOUNT: set(ITEMS) - {"i0"}}


@pytest.mark.parametrize(
    ("into", "kind"),
    [(VISITOR, "merged_into_itself"), ("recsys:all", "reserved_user_id"), (7, "invalid_field"), ("", "invalid_field"), ("x" * 129, "x")],
)
async def test_a_merge_that_cannot_be_is_a_dead_letter_that_names_the_field(into: object, kind: str) -> None:
    pipeline, intake = await world(small_settings(topics={"wrong_partition": "dead_letter"}, lists={"shared_every_s": 60}))
    lists, dead = await intake.users([record(VISITOR, merged_into=into)])
    assert not lists and [letter.field for letter in dead] == ["merged_into"] and dead[0].reason.startswith("merged_into: ")
    assert len(kind) == 1 or dead[0].kind in (kind, "invalid_field")
    assert await deferred(pipeline) == {} and (await pipeline.state.store.read_profiles(0, [VISITOR])) == [None]


async def test_where_producers_choose_partitions_a_merge_is_a_dead_letter_that_names_the_setting() -> None:
    _, intake = await world(small_settings())
    _, dead = await intake.users([record(VISITOR, merged_into=ACCOUNT)])
    assert [letter.kind for letter in dead] == ["unknown_partition"] and "topics.wrong_partition" in dead[0].reason
    assert (await intake.users([record(VISITOR, merged_into=None)]))[1] == [], "null is not given"


async def test_profiles_that_are_read_again_ask_for_no_lists() -> None:
    pipeline, intake = await world()
    await seen_by_both(pipeline)
    await intake.users([record(VISITOR, merged_into=ACCOUNT)], first_lists=False, are_new=False)
    assert await deferred(pipeline) == {}
    await intake.users([record(VISITOR, merged_into=ACCOUNT)])
    assert (await deferred(pipeline))[VISITOR] is None, "the first to read it for good has the list removed"
