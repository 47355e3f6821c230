"""The list for everybody: there without any event, made again on a schedule and when it may not be shown any more, by one worker."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from recsys.models.segments.config import SegmentsConfig
from recsys.models.segments.model import SegmentsModel
from recsys.models.segments.segment import Segment
from recsys.state.profiles import Attribute
from schemas import Item, decode_recommendations
from tests.builders import TOPIC_ID, Fact, opened_pipeline, own, put_items, records_of, small_settings
from tests.memory_store import MemoryStore
from tests.unit.workers.stream.test_rules_sync import value_of
from workers.errors import SettingsError, Transient
from workers.kafka.partitioner import partition_for
from workers.kafka.records import Record
from workers.settings import Settings, load_settings
from workers.stream import shared_lists
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.partitions import Partitions
from workers.stream.pipeline import Pipeline
from workers.stream.reference_topics import Intake
from workers.stream.shared_lists import SharedLists

SETTINGS = small_settings(lists={"size": 3, "shared_every_s": 60.0})
KEY = "recsys:default"
START_MS = 1_764_000_000_000
PARTITION = partition_for(KEY.encode(), SETTINGS.topics.partitions)


class World:
    """A pipeline that owns every partition, a clock, and what was published."""

    def __init__(self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, settings: Settings = SETTINGS) -> None:
        self.pipeline, self.now_s = pipeline, 1_000.0
        self.follower, self.partitions = CatalogueFollower(pipeline.state), Partitions(settings.topics.events)
        self.published: list[tuple[int, bytes, Any]] = []
        clocks: dict[str, Any] = {"clock": lambda: self.now_s, "wall_clock": lambda: START_MS / 1000 + self.now_s}
        no_producer: Any = None
        self.shared = SharedLists(settings, pipeline, self.partitions, producer=lambda: no_producer, **clocks)

        async def publish(_: object, records: Any) -> None:
            for partition, pairs in records.items():
                self.published += [(partition, key, json.loads(value) if value else None) for key, value in pairs]
                assert all(partition == partition_for(key, settings.topics.partitions) for key, _ in pairs)
                assert all((decode_recommendations(value, key) is None) == (value is None) for key, value in pairs)

        monkeypatch.setattr(shared_lists.ListPublisher, "publish", publish)

    @classmethod
    async def opened(cls, monkeypatch: pytest.MonkeyPatch, settings: Settings = SETTINGS) -> World:
        pipeline = await opened_pipeline(MemoryStore(), settings)
        await pipeline.assign(range(settings.topics.partitions), TOPIC_ID)
        world = cls(pipeline, monkeypatch, settings)
        own(world.partitions, range(settings.topics.partitions))
        return world

    async def put(self, source_offset: int, *items: Item) -> None:
        await put_items(self.pipeline, source_offset, *items)
        await self.follower.follow()

    async def keys_looked(self, after_s: float = 0.0) -> dict[str, list[str] | None]:
        """Return the items of the lists that a look published by key; None for a removal."""
        self.now_s += after_s
        before = len(self.published)
        await self.shared.look()
        return {
            key.decode(): None if value is None else [item["item_id"] for item in value["items"]]
            for _, key, value in self.published[before:]
        }

    async def looked(self, after_s: float = 0.0) -> list[str] | None:
        """Return the items of the list that a look published, None if it published none."""
        self.now_s += after_s
        before = len(self.published)
        await self.shared.look()
        assert len(self.published) <= before + 1
        return [item["item_id"] for item in self.published[-1][2]["items"]] if len(self.published) > before else None


async def test_there_is_a_list_before_any_event_under_its_own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await World.opened(monkeypatch)
    assert await world.looked() is None, "without any item there is nothing to list"
    await world.put(0, *(Item(item_id=f"i{number}") for number in range(3)))
    assert sorted(await world.looked() or []) == ["i0", "i1", "i2"]
    partition, key, record = world.published[0]
    assert (partition, key, record["user_id"]) == (PARTITION, KEY.encode(), KEY)
    assert record["trigger"] == {"event_id": None, "partition": PARTITION, "source_offset": 0}


async def test_it_is_made_again_on_schedule_and_follows_what_is_popular(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await World.opened(monkeypatch)
    await world.put(0, *(Item(item_id=f"i{number}") for number in range(9)))
    await world.looked()
    plays = [Fact(f"u{number}", "i7", f"e{number}", "play", None, START_MS) for number in range(5)]
    await world.pipeline.process({PARTITION: records_of(plays)})
    assert await world.looked(59) is None
    assert (await world.looked(2) or [])[0] == "i7"
    assert world.published[-1][2]["trigger"]["source_offset"] == 4
    assert "recsys:default" not in {user for _, user in world.pipeline.lists.short_lists.take([PARTITION]).items()}


@pytest.mark.parametrize("ends", ["unavailable", "expires"])
async def test_an_item_that_may_not_be_listed_any_more_leaves_it_at_once(monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    world = await World.opened(monkeypatch)
    expires_ms = START_MS + 1_010_000 if ends == "expires" else None
    await world.put(0, Item(item_id="gone", expires_ts_ms=expires_ms), *(Item(item_id=f"i{number}") for number in range(2)))
    assert "gone" in (await world.looked() or [])
    assert await world.looked(1) is None
    if ends == "unavailable":
        await world.put(1, Item(item_id="gone", available=False))
    assert sorted(await world.looked(11) or []) == ["i0", "i1"]
    assert await world.looked(1) is None


async def test_only_the_owner_of_the_key_s_partition_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await World.opened(monkeypatch)
    await world.put(0, Item(item_id="i0"))
    assert await world.looked() == ["i0"]
    world.partitions.disown([PARTITION])
    assert await world.looked(100) is None
    own(world.partitions, [PARTITION])
    assert await world.looked() == ["i0"], "the next owner makes it at once"


async def test_a_profile_of_a_reserved_user_id_is_a_dead_letter() -> None:
    pipeline = await opened_pipeline(MemoryStore(), SETTINGS)
    intake = Intake(SETTINGS, pipeline.state, pipeline.lists, CatalogueFollower(pipeline.state))
    partition = partition_for(b"recsys:bob", SETTINGS.topics.partitions)
    value = json.dumps({"user_id": "recsys:bob"}).encode()
    lists, dead = await intake.users([Record("users", partition, 0, b"recsys:bob", value, START_MS)])
    assert lists == [] and [letter.kind for letter in dead] == ["reserved_user_id"] and "shared_prefix" in dead[0].reason


CATEGORIES = small_settings(lists={"size": 3, "shared_every_s": 60.0, "shared_categories": ["Jazz", "Rock", "Folk"]})
ITEMS = [Item(item_id=f"j{n}", categories=("Jazz",)) for n in range(4)] + [Item(item_id="r0", categories=("Rock", "Jazz"))]


async def test_each_category_has_a_list_of_its_own_items_by_what_is_popular_now(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await World.opened(monkeypatch, CATEGORIES)
    await world.put(0, *ITEMS, Item(item_id="other"))
    plays = [Fact(f"u{number}", item, f"e{number}-{item}", "play", None, START_MS) for number in range(5) for item in ("other", "j2")]
    await world.pipeline.process({PARTITION: records_of(plays)})
    found = await world.keys_looked()
    assert set(found) == {KEY, "recsys:category:Jazz", "recsys:category:Rock", "recsys:category:Folk"}
    jazz = found["recsys:category:Jazz"]
    assert jazz is not None and jazz[0] == "j2" and len(jazz) == 3 and set(jazz) <= {"j0", "j1", "j2", "j3", "r0"}
    assert found["recsys:category:Rock"] == ["r0"] and found["recsys:category:Folk"] is None, "a tombstone where there is nothing to list"
    assert await world.keys_looked(59) == {} and set(await world.keys_looked(2)) == {KEY, "recsys:category:Jazz", "recsys:category:Rock"}


async def test_a_category_s_list_is_made_at_once_when_an_item_on_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await World.opened(monkeypatch, CATEGORIES)
    await world.put(0, *ITEMS, *(Item(item_id=f"x{n}") for n in range(9)))
    before = await world.keys_looked()
    await world.put(1, Item(item_id="r0", categories=("Rock",), available=False))
    found = await world.keys_looked(1)
    assert found["recsys:category:Rock"] is None
    assert set(found) == {key for key, items in before.items() if items and "r0" in items}
    assert await world.keys_looked(1) == {}


async def test_all_categories_means_those_of_most_items_and_one_that_is_no_more_among_them_is_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = small_settings(lists={"size": 3, "shared_every_s": 60.0, "shared_categories": "all", "shared_most": 1})
    world = await World.opened(monkeypatch, settings)
    await world.put(0, *ITEMS)
    assert set(await world.keys_looked()) == {KEY, "recsys:category:Jazz"}
    await world.put(1, *(Item(item_id=f"r{n}", categories=("Rock",)) for n in range(1, 9)))
    found = await world.keys_looked(6)
    assert found["recsys:category:Jazz"] is None and len(found["recsys:category:Rock"] or []) == 3


async def test_a_category_without_a_key_has_no_list_and_the_log_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = small_settings(lists={"size": 3, "shared_every_s": 60.0, "shared_categories": ["x" * 200, "a\nb"]})
    world = await World.opened(monkeypatch, settings)
    await world.put(0, Item(item_id="i", categories=("x" * 200, "a\nb")))
    assert set(await world.keys_looked()) == {KEY}
    await world.keys_looked(61)
    assert len([record for record in caplog.records if "has no list" in record.getMessage()]) == 2


async def test_what_could_not_be_published_or_removed_is_tried_again_at_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = small_settings(lists={"size": 2, "shared_every_s": 60.0, "shared_categories": "all"})
    world = await World.opened(monkeypatch, settings)
    await world.put(0, Item(item_id="i0", categories=("a",)), Item(item_id="i1"))
    publish = shared_lists.ListPublisher.publish

    async def fails(*_: object) -> None:
        raise Transient("Kafka is away on purpose")

    for change, expected in ((None, {KEY: ["i0", "i1"], "recsys:category:a": ["i0"]}), ("removed", {"recsys:category:a": None})):
        if change:
            await world.put(1, Item(item_id="i0"))
        monkeypatch.setattr(shared_lists.ListPublisher, "publish", fails)
        with pytest.raises(Transient):
            await world.keys_looked(6.0)
        monkeypatch.setattr(shared_lists.ListPublisher, "publish", publish)
        found = await world.keys_looked(0.1)
        assert {key: items and sorted(items) for key, items in found.items()} == expected
        assert await world.keys_looked(0.1) == {}


async def test_a_segment_s_list_is_what_its_users_start_with(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = small_settings(lists={"size": 2, "shared_every_s": 60.0, "shared_segments": ["gender", "age"], "shared_diversity": 0})
    world = await World.opened(monkeypatch, settings)
    await world.put(0, *(Item(item_id=f"i{n}") for n in range(6)))
    assert set(await world.keys_looked()) == {KEY}, "no model knows segments"
    segments = [
        Segment(Attribute("categorical", "gender", "F")),
        Segment(Attribute("categorical", "city", "Oslo")),
        Segment(Attribute("numeric", "age", ""), 18, 25.5),
    ]
    vectors = np.zeros((6, 4), np.float32)
    vectors[4, 1], vectors[1, 3] = 5, 5
    engine, numbers = world.pipeline.state.engine, world.pipeline.state.numbering.numbers
    engine.serve("segments", "1", SegmentsModel(SegmentsConfig(), segments, [f"i{n}" for n in range(6)], vectors), numbers)
    found = await world.keys_looked()
    assert set(found) == {"recsys:segment:gender=F", "recsys:segment:age=18..25.5"}
    assert (found["recsys:segment:gender=F"] or [])[0] == "i4" and (found["recsys:segment:age=18..25.5"] or [])[0] == "i1"


async def test_the_list_for_everybody_differs_in_content(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = {}
    for diversity in (0.0, 0.5):
        settings = small_settings(lists={"size": 4, "shared_every_s": 60.0, "shared_diversity": diversity})
        world = await World.opened(monkeypatch, settings)
        items = [Item(item_id=f"{name}{n}", categories=(name,)) for name in ("a", "b", "c", "d") for n in range(4)]
        await world.put(0, *items)
        plays = [Fact(f"u{n}", f"a{at}", f"e{n}-{at}", "play", None, START_MS) for n in range(6) for at in range(4)]
        await world.pipeline.process({PARTITION: records_of(plays)})
        listed[diversity] = {item[0] for item in await world.looked() or []}
    assert listed[0.0] == {"a"} and len(listed[0.5]) > 1


@pytest.mark.parametrize("name", ["shared_categories", "shared_segments"])
def test_shared_lists_that_nobody_makes_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is set and shared_every_s is 0"):
        load_settings(lists={name: ["a"]})


def test_categories_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_LISTS__SHARED_EVERY_S", "60")
    for given, read in (("all", "all"), ('["Jazz", "Rock"]', ("Jazz", "Rock"))):
        monkeypatch.setenv("RECSYS_LISTS__SHARED_CATEGORIES", given)
        assert load_settings().lists.shared_categories == read


async def test_published_rules_hold_and_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await World.opened(monkeypatch, small_settings(lists={"size": 3, "shared_every_s": 60.0, "rules_topic": True}))
    first = {"name": "first", "when": f'item.id == "i4" && user.id == "{KEY}"', "action": "pin", "places": [1]}
    of_profiles = {"name": "of profiles", "when": 'item.id == "i5" && !(user.age >= 18)', "action": "pin", "places": [2]}
    await world.pipeline.state.store.set_control("rules", value_of(1, first, of_profiles), 1)
    await world.put(0, *(Item(item_id=f"i{number}") for number in range(6)))
    assert (await world.looked() or [])[0] == "i4"
    assert [place.get("rules") for place in world.published[-1][2]["items"]] == [["first"], None, None], "no profile: unknown"
