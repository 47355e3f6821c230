"""`recsys explain` says why a list is as it is, and of each item that is not on it why not."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest

from recsys.lists.registry import STAGES
from schemas import Recommendations
from tests.builders import NOW_S, TOPIC_ID, opened_pipeline, play, records_of, small_settings
from tests.memory_store import MemoryStore
from workers.errors import Fatal
from workers.operations.absence import absence
from workers.operations.explain import Explanation, explain_in
from workers.operations.live_lists import load_users, open_state
from workers.settings import Settings
from workers.state.port import StoredItem
from workers.state.users_topic import ProfileRecord
from workers.stream.catalogue_sync import CatalogueFollower

N_ITEMS = 60
UNAVAILABLE, EXPIRED, FUTURE, REMOVED, BOUGHT, SNACK, UNTOUCHED = 50, 51, 52, 53, 1, 2, 59
DENY = {"name": "no c2", "when": '"c2" in item.categories', "action": "deny"}


def item_json(number: int) -> bytes:
    fields: dict[str, Any] = {"item_id": f"i{number}", "title": f"T{number}", "available": number != UNAVAILABLE}
    fields["categories"] = [f"c{number % 4}"] if number < 58 else []
    fields |= {"expires_ts_ms": (NOW_S - 60) * 1000} if number == EXPIRED else {}
    fields |= {"published_ts_ms": (NOW_S + 3_600) * 1000} if number == FUTURE else {}
    return orjson.dumps(fields)


def listing(**lists: Any) -> Settings:
    return small_settings(lists={"size": 5, **lists}, state={"shown_items": 8})


async def filled(settings: Settings) -> tuple[MemoryStore, dict[str, Recommendations]]:
    """Return a state of four users, and the lists that the worker made of it last."""
    store = MemoryStore()
    pipeline = await opened_pipeline(store, settings)
    await pipeline.assign([0, 1], TOPIC_ID)
    await pipeline.state.store_items([(f"i{n}", StoredItem(0, n, item_json(n))) for n in range(N_ITEMS)])
    await pipeline.state.store_items([(f"i{REMOVED}", StoredItem(0, 99, None))])
    await CatalogueFollower(pipeline.state).follow()
    facts = [play(f"u{n % 4}", f"i{n * 7 % 40 + 4}", n) for n in range(40)]
    facts += [play("u0", f"i{BOUGHT}", 41, type="purchase"), play("u0", f"i{SNACK}", 42)]
    facts += [play("u0", f"i{47 + n % 2}", 60 + n, type="impression") for n in range(6)]
    outcome = await pipeline.process({0: records_of(facts)})
    made = {key.decode(): Recommendations.model_validate_json(value) for records in outcome.lists.values() for key, value in records}
    return store, made


async def explained(settings: Settings, store: MemoryStore, user: str = "u0", item: str | None = None, **options: Any) -> Explanation:
    return await explain_in(settings, store, user, item, say=lambda line: None, now_s=NOW_S, **options)


async def test_the_list_is_the_one_that_a_worker_makes_and_says_its_reasons() -> None:
    settings = listing(reasons=True)
    store, made = await filled(settings)
    before = copy.deepcopy(vars(store))
    found = await explained(settings, store)
    assert {name for name, value in vars(store).items() if repr(value) != repr(before[name])} == set(), "nothing is written"
    assert found.record.items == made["u0"].items and found.item is None
    first = found.record.items[0].item_id
    assert all(found.sentences) and found.titles[first] == f"T{first[1:]}"
    off = await explained(listing(), store, language="de")
    assert [item.reason for item in off.record.items] == [item.reason for item in found.record.items], "with reasons off, too"
    assert off.sentences != found.sentences


async def test_an_item_on_the_list_shows_sources_features_parts_filters_and_stages() -> None:
    settings = listing(freshness={"weight": 0.5})
    store, _ = await filled(settings)
    listed = (await explained(settings, store)).record.items[1].item_id
    story = (await explained(settings, store, item=listed)).item
    assert story is not None and story.absence is None and story.place == 2
    assert story.score == pytest.approx(sum(story.parts.values()), abs=1e-4) and "trending" in story.parts
    assert all(rank is not None and 1 <= rank <= story.n_candidates for _, rank in story.sources.values())
    assert "cooccurrence.relative" in story.features and all(np.isfinite(list(story.features.values())))
    assert story.passed == {"available": True, "published": True, "expired": True, "seen": True, "resting": True}
    assert [name for name, _ in story.places] == ["ranked", *STAGES]
    assert {place for _, place in story.places} == {2}
    assert json.loads(json.dumps(story.figures()))["listed"] is True


@pytest.mark.parametrize(
    ("item", "lists", "kind", "said"),
    [
        ("nothing", {}, "unknown_item", "no event and no record of the items topic has named this id"),
        (f"i{UNAVAILABLE}", {}, "unavailable", "its record says that it is not available"),
        (f"i{REMOVED}", {}, "unavailable", "it was removed from the items topic"),
        (f"i{EXPIRED}", {}, "expired", "it expired at 2027-01-15T07:59:00Z; it is 2027-01-15T08:00:00Z"),
        (f"i{FUTURE}", {}, "not_yet_published", "it is published at 2027-01-15T09:00:00Z"),
        (f"i{SNACK}", {}, "seen", "the user touched it: it does not come back (touch policy)"),
        (f"i{BOUGHT}", {}, "seen", "it comes back at 2023-12-14T22:14:01Z of event time"),
        ("i47", {"frequency_cap": {"times": 3, "rest_hours": 1}}, "resting", "shown 3 times without being chosen, and rests until"),
        ("i6", {"rules": [DENY]}, "denied", "rule no c2 denies it"),
        ("i5", {"rules": [DENY | {"action": "allow", "name": "only c2"}]}, "denied", "rule only c2 does not allow it"),
        (f"i{UNTOUCHED}", {}, "not_nominated", "no source has an opinion of it"),
    ],
)
async def test_an_item_that_is_not_listed_says_why(item: str, lists: dict[str, Any], kind: str, said: str) -> None:
    settings = listing(**lists)
    store, _ = await filled(settings)
    story = (await explained(settings, store, item=item)).item
    assert story is not None and story.absence is not None and story.place is None
    assert story.absence.kind == kind and said in story.absence.text
    assert all(story.passed.values()) == (kind in ("unknown_item", "not_nominated"))
    assert story.figures()["absence"]["kind"] == kind


async def test_an_item_behind_the_last_place_says_its_place_and_what_it_lacks() -> None:
    settings = listing()
    store, _ = await filled(settings)
    stories = [(await explained(settings, store, item=f"i{number}")).item for number in range(4, 20)]
    behind = [story for story in stories if story is not None and story.absence is not None and story.absence.kind == "ranked_below"]
    assert behind
    for story in behind:
        assert story.absence is not None
        assert "behind the last place (5); its score lacks" in story.absence.text and "lacks -" not in story.absence.text


async def test_an_item_that_the_ranker_did_not_look_at_says_so() -> None:
    """Where a ranker looks only at the best by a recipe, an item behind them may rank high among all."""
    settings = listing()
    store, _ = await filled(settings)
    state = await open_state(settings, store, lambda line: None)
    users = await load_users(state, 1, "u0", 0)
    trace = state.engine.trace(users.slots, state.engine.encode(users.slots), state.engine.shared(NOW_S), ids=users.ids)
    behind = int(trace.ranked.numbers[0, 8])
    first = trace.ranked.at(np.array([[8, *range(8)]]))
    assert absence(state.engine, trace, behind, [], is_described=True).text.startswith("it is ranked 9, behind the last place (5)")
    found = absence(state.engine, replace(trace, ranked=first), behind, [], is_described=True)
    assert found.kind == "ranked_below" and "not among the candidates that the ranker looks at again" in found.text


@pytest.mark.parametrize(
    ("lists", "stage"),
    [
        ({"caps": [{"by": "category", "most": 1, "first": 5}]}, "caps"),
        ({"diversity": {"kind": "mmr", "strength": 0.9}}, "diversity"),
        ({"rules": [DENY | {"name": "shelf", "when": 'item.id in ["i54", "i55"]', "action": "pin", "places": [1, 2]}]}, "pins"),
    ],
)
async def test_an_item_that_a_stage_pushed_out_names_the_stage(lists: dict[str, Any], stage: str) -> None:
    plain, settings = listing(), listing(**lists)
    store, _ = await filled(plain)
    before = {place.item_id for place in (await explained(plain, store)).record.items}
    lost = sorted(before - {place.item_id for place in (await explained(settings, store)).record.items})
    assert lost
    for item in lost:
        story = (await explained(settings, store, item=item)).item
        assert story is not None and story.absence is not None and story.absence.kind == "pushed_out"
        assert story.absence.text.startswith(f"{stage} moved it to place") and "had it on the list" in story.absence.text


async def test_rules_that_moved_an_item_are_named_in_the_list() -> None:
    settings = listing(rules=[DENY | {"name": "up", "when": 'item.id == "i9"', "action": "boost", "amount": 50.0}])
    store, _ = await filled(settings)
    found = await explained(settings, store, item="i9")
    assert found.record.items[0].item_id == "i9" and found.record.items[0].rules == ("up",)
    assert found.item is not None and found.item.parts["rules"] == 50.0 and found.item.passed["rules"]


async def test_rules_on_attributes_of_the_profile_are_explained() -> None:
    settings = listing(rules=[DENY | {"name": "up", "when": 'item.id == "i9" && user.age < 18', "action": "boost", "amount": 50.0}])
    store, _ = await filled(settings)
    assert (await explained(settings, store)).record.items[0].item_id != "i9", "the age is not known"
    await store.upsert_profiles([ProfileRecord(0, "u0", 1, orjson.dumps({"user_id": "u0", "numeric_attributes": {"age": 17}}))])
    assert (await explained(settings, store)).record.items[0].rules == ("up",)


async def test_a_user_of_whom_nothing_is_known_and_an_empty_state_end_with_one_line() -> None:
    settings = listing()
    store, _ = await filled(settings)
    with pytest.raises(Fatal, match="no state of this user"):
        await explained(settings, store, "nobody")
    with pytest.raises(Fatal, match="holds no state"):
        await explained(settings, MemoryStore())
