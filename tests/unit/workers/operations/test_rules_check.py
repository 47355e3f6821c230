"""`recsys rules check` says what rules do to lists of the state as it is, and writes nothing; workers' lists follow the same rules."""

from __future__ import annotations

import copy
import json
from typing import Any

import orjson
import pytest

from schemas import Recommendations
from tests.builders import NOW_S, TOPIC_ID, opened_pipeline, play, records_of, small_settings
from tests.memory_store import MemoryStore
from workers.errors import Fatal, SettingsError
from workers.operations.rules_check import check_rules, check_store
from workers.operations.rules_report import RuleReport
from workers.settings import Settings
from workers.state.port import StoredItem
from workers.state.users_topic import ProfileRecord
from workers.stream.catalogue_sync import CatalogueFollower

N_ITEMS = 30
DENY = {"name": "no c1", "when": '"c1" in item.categories', "action": "deny"}
PIN = {"name": "shelf", "when": 'item.brand == "acme" && user.id != "u1"', "action": "pin", "places": [2]}
BOOST = {"name": "cheap", "when": "item.price < 5.0", "action": "boost", "amount": 2.0}


def item_json(number: int) -> bytes:
    fields: dict[str, Any] = {"item_id": f"i{number}", "title": f"T{number}", "categories": [f"c{number % 3}"]}
    fields |= {"numeric_attributes": {"price": float(number)}, "categorical_attributes": {"brand": "acme"} if number % 10 == 9 else {}}
    return orjson.dumps(fields)


def ruled(*rules: dict[str, Any], **lists: Any) -> Settings:
    return small_settings(lists={"size": 10, "rules": list(rules), **lists})


async def filled(settings: Settings) -> tuple[MemoryStore, dict[str, Recommendations]]:
    """Return a state of four users with histories and one with a profile only, and the lists that the worker made."""
    store = MemoryStore()
    pipeline = await opened_pipeline(store, settings)
    await pipeline.assign([0, 1], TOPIC_ID)
    await pipeline.state.store_items([(f"i{n}", StoredItem(0, n, item_json(n))) for n in range(N_ITEMS)])
    await CatalogueFollower(pipeline.state).follow()
    facts = [play(f"u{n % 4}", f"i{n * 7 % N_ITEMS}", n) for n in range(16)]
    outcome = await pipeline.process({0: records_of(facts)})
    await store.upsert_profiles([ProfileRecord(1, "fresh", 0, orjson.dumps({"user_id": "fresh", "preferred_categories": ["c2"]}))])
    made = {key.decode(): Recommendations.model_validate_json(value) for records in outcome.lists.values() for key, value in records}
    return store, made


async def checked(settings: Settings, store: MemoryStore, user_id: str | None = None, said: list[str] | None = None) -> RuleReport:
    say = (lambda line: None) if said is None else said.append
    return await check_store(settings, store, n_users=100, user_id=user_id, seed=0, say=say, now_s=NOW_S)


async def test_lists_of_a_worker_follow_the_rules_and_say_so() -> None:
    _, made = await filled(ruled(DENY, PIN, BOOST))
    assert set(made) == {"u0", "u1", "u2", "u3"}
    for user, found in made.items():
        numbers = [int(place.item_id[1:]) for place in found.items]
        assert numbers and not any(number % 3 == 1 for number in numbers)
        for place, number in zip(found.items, numbers, strict=True):
            moved = [name for name, holds in (("shelf", user != "u1" and place.rank == 2), ("cheap", number < 5)) if holds]
            assert list(place.rules) == moved and (place.sources.get("rules") == 2.0) == (number < 5)
        assert user == "u1" or numbers[1] % 10 == 9


async def test_the_report_says_what_each_rule_did() -> None:
    settings = ruled(DENY, PIN, BOOST)
    store, _ = await filled(ruled())
    before = copy.deepcopy(vars(store))
    report = await checked(settings, store)
    assert {name for name, value in vars(store).items() if not _same(value, before[name])} == set(), "nothing is written"
    assert (report.n_items, report.n_users) == (N_ITEMS, 4)
    deny, pin, boost = report.rules
    assert (deny.name, deny.action, deny.items, deny.users, deny.after) == ("no c1", "deny", 10, 4, 0) and deny.before > 0
    assert (pin.items, pin.users) == (3, 3) and pin.moved == 3
    assert boost.items == 5 and boost.moved > 0
    for user in report.users:
        assert {change.item_id for change in user.changes if change.after is None} <= set(user.before) - set(user.after)
        for change in user.changes:
            if change.after is not None:
                assert user.after[change.after - 1] == change.item_id and change.rules
            elif int(change.item_id[1:]) % 3 == 1:
                assert change.rules == ("no c1",)
    assert json.loads(json.dumps(report.figures()))["rules"][0]["name"] == "no c1"


def _same(one: Any, other: Any) -> bool:
    return one == other or repr(one) == repr(other)


async def test_the_report_is_of_the_lists_that_workers_make() -> None:
    settings = ruled(DENY, PIN, BOOST)
    store, made = await filled(settings)
    report = await checked(settings, store)
    after = {user.user_id: user.after for user in report.users}
    for user, found in made.items():  # of the last one, whose list was made of the state as it still is
        if user == "u3":
            assert after[user] == tuple(place.item_id for place in found.items)


async def test_one_user_and_a_user_without_history_are_checked() -> None:
    settings = ruled({"name": "c2 first", "when": '"c2" in user.categories && "c2" in item.categories', "action": "pin", "places": [1]})
    store, _ = await filled(ruled())
    report = await checked(settings, store, "u1")
    assert report.n_users == 1
    with pytest.raises(Fatal, match="no state of this user"):
        await checked(settings, store, "nobody")
    partition = 0 if (await store.read_profiles(0, ["fresh"]))[0] else 1
    profile = orjson.dumps({"user_id": "fresh", "preferred_categories": ["c2"]})
    await store.upsert_profiles([ProfileRecord(1 - partition, "fresh", 0, profile)])
    fresh = await checked(settings, store, "fresh")
    assert fresh.rules[0].users == 1 and fresh.rules[0].items == 10


@pytest.mark.parametrize(
    ("rules", "kind", "text"),
    [
        ([DENY, BOOST | {"when": "item.price < 0.0"}], "no_match", "rule cheap: no item matches item.price < 0.0"),
        ([DENY | {"when": 'item.brandt == "acme"'}], "unknown_attribute", "no item has the attribute brandt; did you mean brand?"),
        ([DENY | {"when": 'item.qqq == "acme"'}], "unknown_attribute", "no item has the attribute qqq"),
        (
            [DENY, PIN | {"when": "item.id in ['i1', 'i2']"}],
            "contradiction",
            "rule no c1 denies what rule shelf pins: i1: they are not listed",
        ),
        ([DENY, BOOST], "contradiction", "rule no c1 denies what rule cheap boosts: i1, i4: they are not listed"),
        (
            [DENY | {"action": "allow"}, PIN | {"when": "item.price > 14.0"}],
            "contradiction",
            "rule no c1 does not allow what rule shelf pins: i15, i17, i18 and 7 more: they are not listed",
        ),
        ([BOOST, DENY | {"action": "bury"}], "contradiction", "rule no c1 buries what rule cheap boosts: i1, i4"),
        (
            [PIN, PIN | {"name": "other", "when": "item.price > 20.0", "places": [2, 3]}],
            "contradiction",
            "rules shelf and other pin the same place (2): shelf comes first and takes it",
        ),
        (
            [DENY, DENY | {"name": "only c1", "action": "allow"}],
            "no_items_left",
            "4 users may see no item at all: what one rule allows, another one does not allow or denies",
        ),
        ([DENY | {"when": 'item.id != "i29"'}], "shorter", "4 of 4 lists get shorter, the shortest has 0 items"),
    ],
)
async def test_what_looks_wrong_is_found(rules: list[dict[str, Any]], kind: str, text: str) -> None:
    store, _ = await filled(ruled())
    found = [finding.text for finding in (await checked(ruled(*rules), store)).findings if finding.kind == kind]
    if kind == "shorter":
        assert found and found[0].startswith("4 of 4 lists get shorter")
    else:
        assert text in found


async def test_without_rules_state_or_items_the_command_says_what_to_do() -> None:
    with pytest.raises(SettingsError, match=r"setting lists\.rules: there are no rules to check"):
        await check_rules(ruled())
    with pytest.raises(Fatal, match="holds no state"):
        await checked(ruled(DENY), MemoryStore())
    empty = MemoryStore()
    await opened_pipeline(empty, ruled())
    with pytest.raises(Fatal, match="the state has no items yet"):
        await checked(ruled(DENY), empty)


async def test_a_model_that_cannot_be_loaded_is_left_out_with_a_line(tmp_path: Any) -> None:
    settings = ruled(DENY)
    settings = settings.model_copy(update={"trainer": settings.trainer.model_copy(update={"model_url": str(tmp_path)})})
    store, _ = await filled(ruled())
    await store.set_serving("ials", b"{}", 1)
    said: list[str] = []
    assert (await checked(settings, store, said=said)).n_users == 4
    assert len(said) == 1 and said[0].startswith("model kind ials is left out of these lists, it cannot be loaded")


async def test_rules_on_attributes_of_profiles_count_for_users_who_have_them() -> None:
    store, _ = await filled(ruled())
    fields = {"u0": {"categorical_attributes": {"country": "no"}}, "u1": {"categorical_attributes": {"country": "se"}}}
    settings = ruled(DENY | {"when": '"c0" in item.categories && user.country == "no"'})
    await store.upsert_profiles([ProfileRecord(0, user, 5, orjson.dumps({"user_id": user, **of})) for user, of in fields.items()])
    report = await checked(settings, store)
    assert [(rule.users, rule.items, rule.after < rule.before) for rule in report.rules] == [(1, 10, True)]
    assert [user.user_id for user in report.users] == ["u0"] and not report.findings
    misspelt = await checked(ruled(DENY | {"when": "has(item.price) && user.countri == 'no'"}), store)
    text = "none of these users has the attribute countri; did you mean country?"
    assert [(one.rules, one.text) for one in misspelt.findings if one.kind == "unknown_attribute"] == [(("no c1",), text)]
