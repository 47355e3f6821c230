"""Rules that read attributes of profiles: lists follow the profile without any model, and nothing is read where no rule does."""

from __future__ import annotations

from typing import Any

import pytest

from schemas import Item, Recommendations, encode
from schemas.decoding import decode_profile
from tests.builders import NOW_S, TOPIC_ID, opened_pipeline, play, put_items, records_of, small_settings
from tests.unit.workers.stream.test_pipeline import lists_of
from tests.unit.workers.stream.test_profile_cache import CountedStore
from tests.unit.workers.stream.test_profile_changes import profile, waiting
from tests.unit.workers.stream.test_rules_sync import value_of
from workers.state.users_topic import ProfileRecord
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.profile_cache import ProfileCache
from workers.stream.reference_topics import Intake

ITEMS = [f"i{number}" for number in range(8)]
ADULTS = {"name": "adults", "when": 'item.id == "i7" && !(user.age >= 18)', "action": "deny"}
NORWAY = {"name": "norway", "when": 'item.id == "i6" && user["home country"] in ["no", "sj"]', "action": "pin", "places": [1]}


class World:
    """A worker that knows eight items and follows these rules."""

    def __init__(self, *rules: dict[str, Any], **lists: Any) -> None:
        self.settings = small_settings(lists={"rules": list(rules), "renewed_profiles": True, **lists})
        self.store, self.now_s, self.source_offset = CountedStore(), 0.0, 0

    async def open(self) -> World:
        self.pipeline = await opened_pipeline(self.store, self.settings)
        await self.pipeline.assign([0, 1], TOPIC_ID)
        self.pipeline.lists.profiles = ProfileCache(self.pipeline.state, 30.0, clock=lambda: self.now_s)
        await put_items(self.pipeline, 0, *(Item(item_id=item_id) for item_id in ITEMS))
        self.catalogue = CatalogueFollower(self.pipeline.state)
        await self.catalogue.follow()
        self.intake = Intake(self.settings, self.pipeline.state, self.pipeline.lists, self.catalogue, wall_clock=lambda: NOW_S)
        return self

    async def publish(self, user_id: str, **fields: Any) -> list[Recommendations]:
        """Publish a profile, and return the first lists that follow."""
        self.source_offset += 1
        lists, dead = await self.intake.users([profile(user_id, self.source_offset, **fields)])
        assert not dead
        return [Recommendations.model_validate_json(record) for _, _, record in lists]

    async def next_list(self, user_id: str) -> list[str]:
        """Apply an event of the user, and return the ids on the list that follows."""
        self.source_offset += 1
        event = play(user_id, "i0", self.source_offset)
        found = lists_of(await self.pipeline.process({0: records_of([event], self.source_offset)}))[user_id]
        return [place.item_id for place in found.items]


async def test_a_list_follows_the_profile_once_it_comes() -> None:
    world = await World(ADULTS, NORWAY).open()
    stranger = await world.next_list("u")
    assert stranger and stranger[0] != "i6", "nothing is known of the user's country: the rule does not hold"
    assert "i7" in stranger, "nor of the age: a condition that is unknown denies nothing"
    await world.publish("u", numeric_attributes={"age": 17.99}, categorical_attributes={"home country": "no"})
    assert await waiting(world.pipeline) == ["u"], "rules read what has changed"
    child = await world.next_list("u")
    assert child[0] == "i6" and "i7" not in child
    await world.publish("u", numeric_attributes={"age": 18.0}, categorical_attributes={"home country": "NO"})
    adult = await world.next_list("u")
    assert adult[0] != "i6" and "i7" in adult
    assert world.pipeline.state.engine.models == {}


async def test_a_first_list_follows_the_profile() -> None:
    world = await World(ADULTS, NORWAY).open()
    (first,) = await world.publish("new", numeric_attributes={"age": 3}, categorical_attributes={"home country": "sj"})
    listed = [place.item_id for place in first.items]
    assert listed[0] == "i6" and first.items[0].rules == ("norway",) and "i7" not in listed


async def test_a_list_is_made_again_only_where_a_rule_reads_what_has_changed() -> None:
    world = await World(ADULTS).open()
    await world.next_list("u")
    await world.publish("u", categorical_attributes={"age": "old", "hat": "blue"}, numeric_attributes={"hats": 2})
    assert await waiting(world.pipeline) == [], "rules read the number, and that is missing still"
    await world.publish("u", numeric_attributes={"age": 5})
    assert await waiting(world.pipeline) == ["u"]
    await world.publish("u", numeric_attributes={"age": 5.0, "hats": 3})
    assert await waiting(world.pipeline) == []
    await world.publish("u")
    assert await waiting(world.pipeline) == ["u"], "the age is gone"


async def test_a_change_that_another_worker_read_counts_after_a_while() -> None:
    world = await World(ADULTS).open()
    assert "i7" in await world.next_list("u")
    given = decode_profile(profile("u", 900, numeric_attributes={"age": 1}).value, b"u")
    assert given is not None
    await world.store.upsert_profiles([ProfileRecord(0, "u", 900, encode(given))])
    assert "i7" in await world.next_list("u")
    world.now_s += 31
    assert "i7" not in await world.next_list("u")


@pytest.mark.parametrize("rules", [(), ({"name": "a", "when": 'item.id == "i7" && user.history_size < 3', "action": "deny"},)])
async def test_no_profile_is_read_where_no_rule_reads_attributes(rules: tuple[dict[str, Any], ...]) -> None:
    world = await World(*rules).open()
    await world.publish("u", numeric_attributes={"age": 1})
    await world.next_list("u")
    assert world.store.n_read == 0 and world.pipeline.state.engine.users.profiles is None


async def test_published_rules_read_profiles_as_long_as_they_are_in_use() -> None:
    world = await World(rules_topic=True).open()
    await world.publish("u", numeric_attributes={"age": 1})
    assert "i7" in await world.next_list("u") and world.store.n_read == 0
    await world.store.set_control("rules", value_of(1, ADULTS), 1)
    await world.catalogue.follow()
    assert "i7" not in await world.next_list("u"), "the first list by these rules has read the profile"
    await world.store.set_control("rules", b"", 2)
    await world.catalogue.follow()
    assert "i7" in await world.next_list("u") and world.pipeline.state.engine.users.profiles is None
