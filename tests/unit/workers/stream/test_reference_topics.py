"""Items, profiles and announcements reach the store whatever comes twice or late, and a newcomer gets a first list."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import orjson
import pytest

from schemas import Recommendations, encode
from schemas.examples import ANNOUNCEMENT
from tests.builders import NOW_S, TOPIC_ID, opened_pipeline, play, records_of, small_settings
from tests.memory_store import MemoryStore
from workers.errors import Transient
from workers.kafka.records import Record
from workers.runtime.metrics import StreamMetrics
from workers.settings import AlarmSettings
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.pipeline import Pipeline
from workers.stream.reference_topics import Intake

SETTINGS = small_settings()


async def ready() -> tuple[Pipeline, Intake]:
    pipeline = await opened_pipeline(MemoryStore(), SETTINGS)
    await pipeline.assign([0, 1], TOPIC_ID)
    return pipeline, Intake(SETTINGS, pipeline.state, pipeline.lists, CatalogueFollower(pipeline.state), wall_clock=lambda: NOW_S)


def item(item_id: str, source_offset: int = 0, **fields: Any) -> Record:
    return Record("items", 0, source_offset, item_id.encode(), orjson.dumps({"item_id": item_id, **fields}))


def removed(item_id: str, source_offset: int) -> Record:
    return Record("items", 0, source_offset, item_id.encode(), None)


def profile(user_id: str, source_offset: int = 0, **fields: Any) -> Record:
    return Record("users", 0, source_offset, user_id.encode(), orjson.dumps({"user_id": user_id, **fields}))


async def first_lists(intake: Intake, *records: Record) -> dict[str, Recommendations]:
    lists, dead = await intake.users(records)
    assert not dead
    made = [Recommendations.model_validate_json(record) for _, _, record in lists]
    assert [one.user_id.encode() for one in made] == [key for _, key, _ in lists]
    return {one.user_id: one for one in made}


async def test_the_newest_record_of_an_item_wins_in_whatever_order_they_come() -> None:
    pipeline, intake = await ready()
    assert await intake.items([item("a", 5, title="new"), item("b", 6)]) == []
    assert await intake.items([item("a", 3, title="old"), removed("b", 7), item("b", 6)]) == []
    a, b = await pipeline.state.store.read_items([0, 1])
    assert a is not None and orjson.loads(a)["title"] == "new" and b is None
    assert pipeline.state.numbering.names == ["a", "b"]


async def test_a_bad_item_is_a_dead_letter_and_the_others_are_stored() -> None:
    pipeline, intake = await ready()
    unreadable = [Record("items", 0, 2, b"y", b"{"), Record("items", 0, 3, None, b"{}")]
    bad = [item("x", 1, expires_ts_ms=NOW_S), *unreadable, item("z", 4, available="no")]
    dead = await intake.items([item("a", 0), *bad, item("b", 5)])
    assert [(letter.source_offset, letter.field) for letter in dead] == [(1, "expires_ts_ms"), (2, "record"), (3, "key"), (4, "available")]
    assert {letter.source_topic for letter in dead} == {"items"} and {letter.dead_letter_ts_ms for letter in dead} == {NOW_S * 1000}
    assert pipeline.state.numbering.names == ["a", "b"]


async def test_a_fault_in_an_optional_field_does_not_keep_an_item_from_being_hidden(caplog: pytest.LogCaptureFixture) -> None:
    """C06. The sold-out item leaves the lists, the field is counted and named in one line."""
    _, intake = await ready()
    metrics = StreamMetrics(AlarmSettings())
    intake.trimmed = metrics.trimmed
    await intake.items([item("o", 0, title="here"), item("p", 1)])
    assert {i.item_id for i in (await first_lists(intake, profile("u1")))["u1"].items} == {"o", "p"}
    with caplog.at_level(logging.WARNING):
        assert await intake.items([item("o", 2, title=None, available=False)]) == []
        assert await intake.items([item("o", 3, title=7, categories="jazz", available=False), item("q", 4, title={})]) == []
    assert {i.item_id for i in (await first_lists(intake, profile("u2")))["u2"].items} == {"p", "q"}
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == ["categories of 1 item, title of 2 items (limits"]
    for field, n in (("title", 2), ("categories", 1)):
        assert metrics.registry.get_sample_value("recsys_trimmed_fields_total", {"record": "item", "field": field}) == n


async def test_a_long_embedding_is_stored_in_the_digits_that_the_engine_reads() -> None:
    """C19. 3,072 numbers take 40 kB of the state at most, and are the same numbers to the engine."""
    pipeline, intake = await ready()
    given = np.random.default_rng(0).normal(size=3_072)
    assert await intake.items([item("a", embeddings={"text": given.tolist(), "audio": [1, 1e-30, -1e6, 0]})]) == []
    (stored,) = await pipeline.state.store.read_items([0])
    assert stored is not None and len(stored) < 41_000
    embeddings = orjson.loads(stored)["embeddings"]
    assert np.array_equal(np.array(embeddings["text"], np.float32), given.astype(np.float32))
    assert np.array_equal(np.array(embeddings["audio"], np.float32), np.array([1, 1e-30, -1e6, 0], np.float32))


async def test_a_newcomer_gets_a_list_by_their_categories() -> None:
    pipeline, intake = await ready()
    await intake.items([item(f"i{n}", n, categories=["noir" if n % 2 else "western"]) for n in range(6)])
    lists = await first_lists(intake, profile("new", preferred_categories=["noir"]), profile("plain"))
    assert {place.item_id for place in lists["new"].items[:3]} == {"i1", "i3", "i5"}
    assert len(lists["new"].items) == len(lists["plain"].items) == 6
    assert lists["new"].trigger.event_id is None and lists["new"].trigger.source_offset == 0
    assert list(pipeline.state.engine.users) == [], "a newcomer takes no place in the table of users"
    assert await pipeline.state.store.read_profiles(0, ["new"]) != [None]


async def test_a_newcomer_gets_published_items_before_any_event_has_come() -> None:
    _, intake = await ready()
    await intake.items([
        item("out", 0, published_ts_ms=NOW_S * 1000 - 1),
        item("soon", 1, published_ts_ms=NOW_S * 1000 + 60_000),
        item("over", 2, expires_ts_ms=NOW_S * 1000 - 60_000),
    ])  # fmt: skip
    lists = await first_lists(intake, profile("new"))
    assert [place.item_id for place in lists["new"].items] == ["out"]


class Waiting:
    def check(self) -> None:
        raise Transient("lists wait for items")


async def test_a_newcomer_waits_for_the_list_until_the_catalogue_is_loaded_and_the_profile_is_stored() -> None:
    """X2: a first list made of half a catalogue would stay the newest."""
    pipeline, ready_intake = await ready()
    await ready_intake.items([item("i1", 0, title="Blue", categories=["jazz"])])
    intake = Intake(SETTINGS, pipeline.state, pipeline.lists, CatalogueFollower(pipeline.state), Waiting())  # type: ignore[arg-type]
    with pytest.raises(Transient, match="lists wait for items"):
        await intake.users([profile("u0", 0, preferred_categories=["jazz"])])
    assert (await pipeline.state.store.read_profiles(0, ["u0"]))[0] is not None
    assert set(await first_lists(ready_intake, profile("u0", 0, preferred_categories=["jazz"]))) == {"u0"}


async def test_how_far_the_topics_are_read_is_noted_in_the_state_good_records_or_not() -> None:
    pipeline, intake = await ready()
    await intake.items([item("a", 5), item("b", 6), Record("items", 1, 3, b"c", b"{")])
    await intake.users([profile("u0", 4)], first_lists=False)
    assert await pipeline.state.store.catalogue_offsets() == {"items/0": 7, "items/1": 4, "users/0": 5}


async def test_a_newcomer_to_an_empty_catalogue_gets_no_list() -> None:
    _, intake = await ready()
    assert await first_lists(intake, profile("new")) == {}


async def test_somebody_with_a_history_gets_no_first_list() -> None:
    pipeline, intake = await ready()
    await pipeline.process({0: records_of([play("old", "i0", 1), play("other", "i1", 2)])})
    lists = await first_lists(intake, profile("old"), profile("new"))
    assert list(lists) == ["new"]
    assert lists["new"].trigger.source_offset == 1 and {place.item_id for place in lists["new"].items} == {"i0", "i1"}


async def test_a_removed_profile_makes_no_list() -> None:
    pipeline, intake = await ready()
    await first_lists(intake, profile("u", 0))
    assert await first_lists(intake, Record("users", 0, 1, b"u", None)) == {}
    assert await pipeline.state.store.read_profiles(0, ["u"]) == [None]
    await intake.users([profile("u", 0)])
    assert await pipeline.state.store.read_profiles(0, ["u"]) == [None], "an older record that comes late does not bring it back"


async def test_a_bad_profile_is_a_dead_letter_and_the_others_get_lists() -> None:
    _, intake = await ready()
    await intake.items([item("a")])
    unreadable = [profile("u", 0, schema_version=2), Record("users", 0, 2, b"w", b"{}")]
    lists, dead = await intake.users([unreadable[0], profile("v", 1), unreadable[1]])
    assert [letter.field for letter in dead] == ["schema_version", "user_id"] and [key for _, key, _ in lists] == [b"v"]


async def test_the_newest_announcement_serves() -> None:
    pipeline, intake = await ready()

    def announcement(version: str, source_offset: int) -> Record:
        return Record("models", 0, source_offset, b"ials", encode(ANNOUNCEMENT.model_copy(update={"version": version})))

    dead = await intake.announcements([announcement("v2", 5), Record("models", 0, 6, b"ials", b"{"), announcement("v1", 4)])
    assert [letter.source_offset for letter in dead] == [6]
    assert orjson.loads((await pipeline.state.store.serving())["ials"])["version"] == "v2"


async def test_a_tombstone_leaves_its_kind_without_a_model_until_the_next_announcement() -> None:
    pipeline, intake = await ready()

    def announcement(source_offset: int) -> Record:
        return Record("models", 0, source_offset, b"ials", encode(ANNOUNCEMENT))

    tombstone = Record("models", 0, 5, b"ials", None)
    assert await intake.announcements([announcement(4), tombstone, announcement(4)]) == []
    assert await pipeline.state.store.serving() == {"ials": b""}
    await intake.announcements([announcement(6)])
    assert (await pipeline.state.store.serving())["ials"] == encode(ANNOUNCEMENT)
