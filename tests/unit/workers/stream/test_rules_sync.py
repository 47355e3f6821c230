"""Published rules: checked before they are stored, swapped in between two batches, and never less than the rules of the settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from recsys.lists.registry import built_in
from schemas import Item, PublishedRules, Recommendations, encode
from schemas.errors import Poison
from schemas.limits import CONTROL_MAX_BYTES
from tests.builders import NOW_S, TOPIC_ID, opened_pipeline, play, put_items, records_of, small_settings
from tests.memory_store import MemoryStore
from workers.errors import SettingsError
from workers.kafka.records import Record
from workers.kafka.rights import kafka_rights
from workers.kafka.topics import topic_specs
from workers.lists.topic_rules import with_published
from workers.operations.rules_topic import folded, read_rules_topic
from workers.runtime.status import WorkerStatus
from workers.settings import Settings
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.pipeline import Pipeline
from workers.stream.reference_topics import Intake

OWN = {"name": "no spirits", "when": '"spirits" in item.categories', "action": "deny"}
SETTINGS = small_settings(lists={"rules_topic": True, "rules": [OWN]})
NO_ACME = {"name": "no acme", "when": 'item.brand == "acme"', "action": "deny"}
NOT_DEAR = {"name": "not dear", "when": "item.price > 20", "action": "deny"}
ITEMS = [
    Item(item_id="i0", categories=("wine",), categorical_attributes={"brand": "acme"}, numeric_attributes={"price": 30}),
    Item(item_id="i1", categories=("spirits",), numeric_attributes={"price": 5}),
    Item(item_id="i2", categories=("wine",), categorical_attributes={"brand": "umbrella"}, numeric_attributes={"price": 25}),
    Item(item_id="i3", categories=("wine",), numeric_attributes={"price": 5}),
]


def value_of(version: int, *rules: dict[str, Any], **fields: Any) -> bytes:
    return orjson.dumps({"kind": "rules", "version": version, "published_ts_ms": NOW_S * 1000, "rules": rules} | fields)


def record(offset: int, value: bytes | None, key: bytes = b"rules") -> Record:
    return Record("recsys.control", 0, offset, key, value, NOW_S * 1000)


class World:
    """A worker with four items, and what it reads of the control topic."""

    def __init__(self, pipeline: Pipeline, status: WorkerStatus) -> None:
        self.pipeline, self.status, self._n_events = pipeline, status, 0
        self.follower = CatalogueFollower(pipeline.state, status)
        self.intake = Intake(pipeline.state.settings, pipeline.state, pipeline.lists, self.follower, wall_clock=lambda: NOW_S)

    @classmethod
    async def of(cls, store: MemoryStore, settings: Settings = SETTINGS, *, follows: bool = True) -> World:
        pipeline = await opened_pipeline(store, settings)
        await pipeline.assign((0, 1), TOPIC_ID)
        world = cls(pipeline, WorkerStatus())
        if follows:
            await put_items(pipeline, 0, *ITEMS)
            await world.follower.follow()
        return world

    async def listed(self) -> set[str]:
        """Return what is listed for a user who has only looked at an item, between two batches."""
        await self.follower.follow()
        self._n_events += 1
        last = self.pipeline.last_applied(0)
        assert last is not None
        outcome = await self.pipeline.process({0: records_of([play("u0", "i3", last + 1, type="view")], last + 1)})
        ((_, value),) = outcome.lists[0]
        return {item.item_id for item in Recommendations.model_validate_json(value or b"").items}


async def test_published_rules_join_those_of_the_settings_between_two_batches_and_leave_with_a_tombstone() -> None:
    world = await World.of(MemoryStore())
    assert await world.listed() == {"i0", "i2", "i3"} and world.status.facts == {"rules_version": 0}
    assert await world.intake.rules([record(0, value_of(1, NO_ACME))]) == []
    assert await world.listed() == {"i2", "i3"} and world.status.facts == {"rules_version": 1}, "an attribute that nobody held before"
    assert await world.intake.rules([record(1, value_of(2, NOT_DEAR))]) == []
    assert await world.listed() == {"i3"} and world.status.facts == {"rules_version": 2}, "a set replaces the one before"
    await put_items(world.pipeline, 1, ITEMS[2].model_copy(update={"numeric_attributes": {"price": 15.0}}))
    assert await world.listed() == {"i2", "i3"}, "what rules read of items is kept up to date"
    assert await world.intake.rules([record(2, None)]) == []
    assert await world.listed() == {"i0", "i2", "i3"} and world.status.facts == {"rules_version": 0}


NAMED = "rule 'no acme': "
FAULTS: dict[str, tuple[bytes, str, str]] = {
    "condition": (value_of(2, NO_ACME, {**NOT_DEAR, "when": "item.price >"}), "rules.1.when", "rule 'not dear'"),
    "amount": (value_of(2, {**NO_ACME, "amount": 2.0}), "rules.0.amount", f"{NAMED}amount: deny has none: remove it"),
    "taken": (value_of(2, {**NO_ACME, "name": "no spirits"}), "rules.0.name", "rule 'no spirits': the settings have a rule of this name"),
    "twice": (value_of(2, NO_ACME, NO_ACME), "rules", "two rules are named 'no acme'"),
    "place": (value_of(2, {**NO_ACME, "action": "pin", "places": [21]}), "rules", "places: 21 is behind the last one"),
    "field": (value_of(2, {**NO_ACME, "place": [1]}), "rules.0", f"{NAMED}unknown field; send only: name, when, action"),
    "kind": (value_of(2, {**NO_ACME, "amount": "2"}), "rules.0.amount", f"{NAMED}got a string; input should be a valid number; send what"),
    "lacking": (value_of(2, {"name": "no acme", "action": "deny"}), "rules.0.when", f"{NAMED}got nothing; field required; send the cond"),
    "version": (value_of(0, NO_ACME), "version", "version"),
    "no JSON": (b"{", "record", "JSON"),
    "size": (b" " * (CONTROL_MAX_BYTES + 1), "record", "bytes"),
}


@pytest.mark.parametrize(("value", "field", "reason"), FAULTS.values(), ids=FAULTS)
async def test_a_faulty_set_is_a_dead_letter_with_field_and_remedy_and_the_old_rules_go_on(value: bytes, field: str, reason: str) -> None:
    world = await World.of(MemoryStore())
    await world.intake.rules([record(0, value_of(1, NO_ACME))])
    (letter,) = await world.intake.rules([record(1, value)])
    assert letter.field == field and reason in letter.reason and letter.source_topic == "recsys.control" and "\n" not in letter.reason
    assert await world.listed() == {"i2", "i3"} and world.status.facts == {"rules_version": 1}


async def test_a_key_that_controls_nothing_is_a_dead_letter() -> None:
    world = await World.of(MemoryStore())
    (letter,) = await world.intake.rules([record(0, value_of(1, NO_ACME), b"weights")])
    assert letter.field == "key" and await world.listed() == {"i0", "i2", "i3"}


async def test_a_worker_that_starts_later_or_reads_another_state_follows_them_from_its_first_list() -> None:
    store = MemoryStore()
    world = await World.of(store)
    await world.intake.rules([record(0, value_of(3, NO_ACME))])
    later = await World.of(store, follows=False)
    assert await later.listed() == {"i2", "i3"} and later.status.facts == {"rules_version": 3}
    await later.pipeline.state._reset()
    assert later.pipeline.state.engine.rules is not None and later.pipeline.state.engine.rules.names == ("no spirits",)
    assert await later.listed() == {"i2", "i3"}


async def test_an_older_record_that_is_read_again_changes_nothing() -> None:
    world = await World.of(MemoryStore())
    await world.intake.rules([record(0, value_of(1, NOT_DEAR)), record(1, value_of(2, NO_ACME))])
    await world.intake.rules([record(0, value_of(1, NOT_DEAR))])
    assert await world.listed() == {"i2", "i3"}


async def test_what_another_worker_stored_and_this_one_cannot_follow_changes_nothing() -> None:
    world = await World.of(MemoryStore())
    await world.intake.rules([record(0, value_of(1, NO_ACME))])
    assert await world.listed() == {"i2", "i3"}
    for order, stored in enumerate((b"{", value_of(2, {**NO_ACME, "name": "no spirits"})), 1):
        await world.pipeline.state.store.set_control("rules", stored, order)
        assert await world.listed() == {"i2", "i3"} and world.status.facts == {"rules_version": 1}


async def test_without_the_setting_nobody_follows_and_no_topic_or_right_is_needed() -> None:
    settings = small_settings()
    world = await World.of(MemoryStore(), settings)
    await world.pipeline.state.store.set_control("rules", value_of(1, NO_ACME), 0)
    assert await world.listed() == {"i0", "i1", "i2", "i3"} and world.status.facts == {}
    assert "control" not in {spec.role for spec in topic_specs(settings)}
    assert all(right.name != settings.topics.control for role in ("stream", "admin", "operator") for right in kafka_rights(settings, role))
    with pytest.raises(SettingsError, match=r"lists.rules_topic: it is off"):
        read_rules_topic(settings)


def test_with_the_setting_the_topic_is_compacted_and_each_role_has_its_right() -> None:
    (spec,) = [spec for spec in topic_specs(SETTINGS) if spec.role == "control"]
    assert (spec.name, spec.partitions, spec.configs["cleanup.policy"]) == ("recsys.control", 1, "compact")
    operations = {role: {right.operation for right in kafka_rights(SETTINGS, role) if right.name == "recsys.control"} for role in ROLES}
    admin = {"Create", "Read", "DescribeConfigs"}
    assert operations == {"stream": {"Read"}, "trainer": set(), "admin": admin, "operator": {"Read", "Write"}}


ROLES: tuple[Any, ...] = ("stream", "trainer", "admin", "operator")


def test_what_the_topic_holds_is_the_newest_set_that_can_be_followed() -> None:
    lists = SETTINGS
    found = folded(lists, [record(0, value_of(4, NO_ACME)), record(1, value_of(6, {**NO_ACME, "name": "no spirits"}))], built_in())
    assert found.published is not None and (found.published.version, found.newest_version) == (4, 6)
    assert found.refused.startswith("offset 1: rules.0.name: rule 'no spirits'")
    found = folded(lists, [record(0, value_of(4, NO_ACME)), record(1, b"{"), record(2, None)], built_in())
    assert (found.published, found.newest_version, found.refused) == (None, 4, "")


def test_the_settings_rules_come_first_and_a_set_is_joined_as_it_is_written() -> None:
    published = PublishedRules.model_validate_json(value_of(1, NO_ACME, {**NOT_DEAR, "action": "bury", "amount": 0.5}))
    assert PublishedRules.model_validate_json(encode(published)) == published
    joined = with_published(SETTINGS.lists, published, built_in())
    assert [rule.name for rule in joined.rules] == ["no spirits", "no acme", "not dear"] and joined.rules[2].amount == 0.5
    assert with_published(SETTINGS.lists, None, built_in()) is SETTINGS.lists
    many = published.model_copy(update={"rules": tuple(published.rules[0].model_copy(update={"name": f"r{n}"}) for n in range(50))})
    with pytest.raises(Poison, match="there are 51 rules, 50 are allowed"):
        with_published(SETTINGS.lists, many, built_in())


async def test_rules_are_swapped_without_a_change_of_any_other_list() -> None:
    world = await World.of(MemoryStore(), small_settings(lists={"rules_topic": True}))
    engine = world.pipeline.state.engine
    engine.users.load({"u": None})
    slots = np.array([engine.users.slot("u")], np.int64)
    before = engine.recommend(slots, {}, NOW_S)
    await world.intake.rules([record(0, value_of(1, NO_ACME))])
    await world.follower.follow()
    assert engine.recommend(slots, {}, NOW_S).rules is None or engine.rules is not None
    await world.intake.rules([record(1, None)])
    await world.follower.follow()
    after = engine.recommend(slots, {}, NOW_S)
    assert engine.rules is None
    np.testing.assert_array_equal(after.items, before.items)
    np.testing.assert_array_equal(after.scores, before.scores)
