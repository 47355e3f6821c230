"""Lists on request: by the engine of workers, read-only on the state, in batches; sessions and explanations."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import pytest

from schemas import Item, UserProfile, encode
from tests.builders import START_MS, play, records_of, small_settings
from tests.gateway import GatewayWorld, gateway, ids, with_keys
from tests.rankers import evening_ranker, tv_ranker
from workers.settings import Settings
from workers.state.users_topic import ProfileRecord
from workers.web import on_request

LISTS = "/v1/users/u0/lists"
JAZZ = ("i0", "i2", "i4", "i6")


@pytest.fixture(scope="module")
def ruled() -> Settings:
    rules = [{"name": "no i5", "when": "item.id == 'i5'", "action": "deny"}]
    others = small_settings(lists={"size": 3, "rules": rules}, stream={"staleness_ms": 1})
    return with_keys().model_copy(update={"lists": others.lists, "stream": others.stream})


@pytest.fixture
async def world(ruled: Settings) -> AsyncIterator[GatewayWorld]:
    """A user who has played i0 and i1, others who like other things, and eight items, half of them jazz."""
    async with gateway(ruled) as world:
        await world.put(*(Item(item_id=f"i{n}", title=f"Title {n}", categories=("jazz",) if n % 2 == 0 else ("rock",)) for n in range(8)))
        await world.happen(play("u0", "i0", 0), play("u0", "i1", 1))
        for number, items in enumerate([("i0", "i1", "i2"), ("i0", "i1", "i2", "i3"), ("i4", "i6"), ("i0", "i2")]):
            await world.happen(*(play(f"v{number}", item, 10 * number + 2 + at) for at, item in enumerate(items)))
        world.publish("u0", ["i3"])
        yield world


async def post(world: GatewayWorld, body: Any, key: str = "reader") -> httpx.Response:
    async with world.client(key) as client:
        return await client.post("/v1/sessions/lists", content=orjson.dumps(body), headers={"Content-Type": "application/json"})


async def test_a_parameter_makes_a_list_from_the_state_as_it_is(world: GatewayWorld) -> None:
    published = await world.get(LISTS, "reader")
    assert ids(published) == ["i3"] and published.json()["on_request"] is False
    made = await world.get(LISTS + "?limit=2", "reader")
    assert ids(made)[0] == "i2" and len(ids(made)) == 2 and made.json()["on_request"] is True and made.json()["is_default"] is False
    assert made.json()["trigger"] == {"event_id": None, "partition": 0, "source_offset": 12} and made.json()["user_id"] == "u0"
    await world.happen(play("u0", "i2", 90))
    assert "i2" not in ids(await world.get(LISTS + "?limit=2", "reader"))


async def test_an_id_that_goes_on_as_another_one_is_a_stranger(world: GatewayWorld) -> None:
    before = await world.get(LISTS + "?limit=5", "reader")
    assert before.json()["is_default"] is False and not {"i0", "i1"} & set(ids(before))
    profile = encode(UserProfile(user_id="u0", merged_into="someone"))
    await world.store.upsert_profiles([ProfileRecord(0, "u0", 1, profile, "someone")])
    world.clock_s += 60
    after = await world.get(LISTS + "?limit=5", "reader")
    assert after.json()["is_default"] is True and {"i0", "i1"} <= set(ids(after)), "its history counts for the other id"


async def test_a_state_without_items_is_waited_for(ruled: Settings) -> None:
    async with gateway(ruled, n_items=0) as empty:
        answer = await empty.get(LISTS + "?limit=2", "reader")
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1", answer.text
        await empty.put(Item(item_id="i0"))
        assert ids(await empty.get(LISTS + "?limit=2", "reader")) == ["i0"]


async def test_it_is_the_list_that_a_worker_publishes(world: GatewayWorld) -> None:
    made = (await world.get(LISTS + "?limit=3", "reader")).json()
    batch = await world.pipeline.process({0: records_of([play("u0", "i7", 99)], world.n_events)})
    world.clock_s += 60
    again = (await world.get(LISTS + "?limit=3", "reader")).json()
    (record,) = [json.loads(value) for _, pairs in batch.lists.items() for key, value in pairs if key == b"u0" and value]
    assert [(one["item_id"], one["score"]) for one in record["items"]] == [(one["item_id"], one["score"]) for one in again["items"]]
    assert made["items"] != again["items"]


async def test_nothing_is_written_and_nobody_is_held(world: GatewayWorld) -> None:
    before = {name: repr(held) for name, held in vars(world.store).items()}
    for query in ("limit=2", "category=jazz", "exclude=i2"):
        await world.get(f"{LISTS}?{query}", "reader")
        await world.get(f"/v1/users/stranger/lists?{query}", "reader")
    await post(world, {"items": ["i4", "brand-new"]})
    await world.get("/v1/explain/u0/i2", "admin")
    assert {name: repr(held) for name, held in vars(world.store).items()} == before
    assert len((await world.state.current()).engine.users) == 0


async def test_a_category_and_exclusions_narrow_a_list(world: GatewayWorld) -> None:
    assert set(ids(await world.get(LISTS + "?category=jazz&limit=20", "reader"))) == {"i2", "i4", "i6"}
    assert set(ids(await world.get(LISTS + "?category=jazz&limit=20&exclude=i2&exclude=i4", "reader"))) == {"i6"}
    found = await world.get(LISTS + "?limit=200&exclude=i2", "reader")
    assert set(ids(found)) == {"i3", "i4", "i6", "i7"} and [one["rank"] for one in found.json()["items"]] == [1, 2, 3, 4]
    unknown = await world.get(LISTS + "?category=opera", "reader")
    assert unknown.status_code == 404 and unknown.json()["field"] == "category"


async def test_rules_hold_and_only_an_admin_may_do_without(world: GatewayWorld) -> None:
    everything = await world.get(LISTS + "?limit=200", "reader")
    assert "i5" not in ids(everything)
    assert (await world.get(LISTS + "?limit=200&rules=false", "reader")).status_code == 403
    assert "i5" in ids(await world.get(LISTS + "?limit=200&rules=false", "admin"))
    assert ids(await world.get(LISTS + "?limit=200&rules=true", "reader")) == ids(everything)


async def test_the_context_of_a_request_changes_the_order_that_a_learned_ranker_makes(world: GatewayWorld) -> None:
    await world.put(Item(item_id="i6", published_ts_ms=START_MS - 86_400_000))
    await world.get(LISTS + "?limit=3", "reader")
    await (await world.state.current()).serve("ranker", "ranker-000001", evening_ranker(0.0))
    morning, evening = [await world.get(f"{LISTS}?limit=3&context=hour:{hour}&context=device:tv", "reader") for hour in (8, 20)]
    assert ids(morning)[0] != "i6" == ids(evening)[0] and evening.json()["on_request"] is True
    together = await asyncio.gather(*(world.get(f"{LISTS}?limit=3&context=hour:{hour}", "reader") for hour in (20, 8, 20)))
    assert [ids(one) for one in together] == [ids(evening), ids(morning), ids(evening)]
    sessions = [await post(world, {"items": ["i0"], "context": {"hour": hour, "device": "tv"}}) for hour in (8, 20)]
    assert ids(sessions[0])[0] != "i6" == ids(sessions[1])[0]


async def test_the_device_of_a_request_changes_the_order_that_a_ranker_with_devices_makes(world: GatewayWorld) -> None:
    await world.put(Item(item_id="i6", published_ts_ms=START_MS - 86_400_000))
    await world.get(LISTS + "?limit=3", "reader")
    await (await world.state.current()).serve("ranker", "ranker-000001", tv_ranker(0.0))
    lists = [await world.get(f"{LISTS}?limit=3{context}", "reader") for context in ("", "&context=device:phone", "&context=device:tv")]
    assert ids(lists[0]) == ids(lists[1]) and [ids(one)[0] == "i6" for one in lists] == [False, False, True]
    sessions = [await post(world, {"items": ["i0"], "context": {"device": device}}) for device in ("fridge", "tv")]
    assert ids(sessions[0])[0] != "i6" == ids(sessions[1])[0]


async def test_what_is_sold_out_a_moment_ago_is_on_no_list(world: GatewayWorld) -> None:
    assert "i2" in ids(await world.get(LISTS + "?limit=3", "reader"))
    await world.put(Item(item_id="i2", available=False))
    world.clock_s -= 59.9  # well before what lists share would be made again by itself
    assert "i2" not in ids(await world.get(LISTS + "?limit=3", "reader"))


async def test_a_stranger_gets_a_list_for_nobody_in_particular(world: GatewayWorld) -> None:
    answer = await world.get("/v1/users/stranger/lists?limit=2", "reader")
    assert answer.json()["is_default"] is True and len(ids(answer)) == 2


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"), ("limit=201", "limit"), ("limit=NaN", "limit"), ("limit=1e3", "limit"), ("limit=Infinity", "limit"),
        ("limit=-1", "limit"), ("category=", "category"), ("category=" + "x" * 257, "category"), ("exclude=", "exclude"),
        ("exclude=" + "x" * 129, "exclude"), ("exclude=%00", "exclude"), ("rules=perhaps", "rules"),
        ("context=hour:24", "context"), ("context=hour:8.5", "context"), ("context=hour:true", "context"), ("context=tv", "context"),
        ("context=weekday:-1", "context"), ("context=:tv", "context"), ("context=hour:1&context=hour:2", "context"),
        ("context=a:" + "x" * 257, "context"), ("&".join(f"context=n{n}:1" for n in range(33)), "context"),
        ("limits=3", "limits"), ("&".join(f"exclude=i{n}" for n in range(501)), "exclude"),
    ],
)  # fmt: skip
async def test_a_parameter_out_of_its_bounds_is_refused(world: GatewayWorld, query: str, field: str) -> None:
    answer = await world.get(f"{LISTS}?{query}", "reader")
    assert answer.status_code == 422 and answer.json()["field"] == field, answer.text


async def test_a_session_gets_a_list_from_its_items_as_a_user_with_them_would(world: GatewayWorld) -> None:
    events = [{"item_id": item, "type": "play", "event_ts_ms": START_MS + at * 1000} for at, item in enumerate(("i0", "i1"))]
    of_session, of_user = await post(world, {"items": events, "limit": 3}), await world.get(LISTS + "?limit=3", "reader")
    assert [one["item_id"] for one in of_session.json()["items"]] == ids(of_user)
    assert of_session.json()["is_default"] is False and of_session.json()["user_id"] == "session"
    assert ids(await post(world, {"items": ["i4"], "limit": 1})) == ["i6"]
    assert ids(await post(world, {"items": ["i4"], "category": "rock", "exclude": ["i1", "i3"]})) == ["i7"]


async def test_a_session_that_says_nothing_gets_what_strangers_get_or_the_categories_that_it_names(world: GatewayWorld) -> None:
    nothing = await post(world, {})
    assert nothing.json()["is_default"] is True and len(ids(nothing)) == 3
    assert ids(await post(world, {"items": ["never-heard-of"]})) == ids(nothing)
    named = ids(await post(world, {"preferred_categories": ["rock"], "limit": 2}))
    assert set(named) <= {"i1", "i3", "i7"}


async def test_a_dislike_in_a_session_is_no_liking(world: GatewayWorld) -> None:
    liked = await post(world, {"items": [{"item_id": "i4", "type": "like"}], "limit": 1})
    disliked = await post(world, {"items": [{"item_id": "i4", "type": "dislike"}], "limit": 1})
    assert ids(liked) == ["i6"] != ids(disliked)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"), ({"item": []}, "item"), ({"items": ["x" * 129]}, "items.0"),
        ({"items": [{"item_id": "i1", "type": "yodel"}]}, "items.0.type"),
        ({"items": ["i1"] * 101}, "items"), ({"limit": 0}, "limit"), ({"limit": 2.5}, "limit"), ({"limit": True}, "limit"),
        ({"context": {"hour": 24}}, "context"), ({"context": {"hour": "8"}}, "context"), ({"context": {"a": []}}, "context.a"),
        ({"exclude": [3]}, "exclude.0"), ({"category": ""}, "category"),
        ({"items": [{"item_id": "i1", "event_ts_ms": 12}]}, "items.0.event_ts_ms"),
        ({"items": [{"item_id": "i1", "colour": "red"}]}, "items.0.colour"),
    ],
)  # fmt: skip
async def test_a_session_out_of_its_bounds_is_refused_with_its_field(world: GatewayWorld, body: Any, field: str) -> None:
    answer = await post(world, body)
    assert answer.status_code == 422 and answer.json()["field"].startswith(field), answer.text


async def test_requests_that_come_while_a_list_is_made_share_the_next_batch(world: GatewayWorld) -> None:
    async with world.client("reader") as client:
        asked = [f"{LISTS}?limit={limit}" for limit in (1, 2, 3)] + ["/v1/users/v2/lists?limit=3&exclude=i7", LISTS + "?category=jazz"]
        alone = [(await client.get(path)).json()["items"] for path in asked]
        together = await asyncio.gather(*(client.get(path) for path in asked))
        assert [answer.json()["items"] for answer in together] == alone
    text = (await world.get("/metrics", "admin")).text
    assert "recsys_gateway_batch_lists_count 6.0" in text and "recsys_gateway_batch_lists_sum 10.0" in text


async def test_redis_that_is_away_is_503_for_all_who_wait(world: GatewayWorld) -> None:
    world.store.is_away = True
    world.clock_s += 60
    asked = (world.get(LISTS + "?limit=2", "reader"), post(world, {"items": ["i4"]}), world.get("/v1/explain/u0", "admin"))
    answers = await asyncio.gather(*asked)
    assert [answer.status_code for answer in answers] == [503, 503, 503] and all("retry-after" in answer.headers for answer in answers)


async def test_more_requests_than_may_wait_are_503(world: GatewayWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_request, "MOST_WAITING", 2)
    answers = await asyncio.gather(*(world.get(LISTS + "?limit=2", "reader") for _ in range(6)))
    assert sorted({answer.status_code for answer in answers}) == [200, 503]


async def test_where_lists_were_dropped_for_want_of_memory_a_list_is_made(world: GatewayWorld) -> None:
    world.publish("recsys:default", ["i6"])
    world.held.n_dropped = 1
    answer = await world.get("/v1/users/v0/lists", "reader")
    assert answer.json()["on_request"] is True and len(ids(answer)) == 3
    assert ids(await world.get(LISTS, "reader")) == ["i3"]


async def test_an_explanation_says_why_an_item_is_on_a_list_or_not(world: GatewayWorld) -> None:
    answer = await world.get("/v1/explain/u0/i2", "admin")
    found = answer.json()
    assert answer.status_code == 200 and found["item"]["listed"] and found["item"]["title"] == found["titles"]["i2"] == "Title 2"
    assert len(found["sentences"]) == len(found["list"]["items"]) and "Title 0" in " ".join(found["sentences"])
    denied = (await world.get("/v1/explain/u0/i5", "admin")).json()["item"]
    assert not denied["listed"] and denied["absence"] is not None
    assert (await world.get("/v1/explain/u0", "admin")).json()["item"] is None
    german = (await world.get("/v1/explain/u0?language=de", "admin")).json()["sentences"]
    assert german != found["sentences"] and any(german)


async def test_explanations_need_the_scope_admin_and_a_user(world: GatewayWorld) -> None:
    for key in ("reader", "writer"):
        assert (await world.get("/v1/explain/u0", key)).status_code == 403
    stranger = await world.get("/v1/explain/" + quote("a/b", safe=""), "admin")
    assert stranger.status_code == 404 and stranger.json()["field"] == "user_id"
    assert (await world.get("/v1/explain/u0?language=xx", "admin")).json()["field"] == "language"
    unknown = (await world.get("/v1/explain/u0/never-heard-of", "admin")).json()["item"]
    assert unknown["absence"]["kind"] == "unknown_item"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"items": [{"item_id": "p1", "foo": 1}]}, "items.0.foo: unknown field; there are item_id, type, value, event_ts_ms"),
        ({"foo": 1}, "foo: unknown field; there are items, preferred_categories, limit"),
        ({"items": [5]}, "items.0: send an id, or a JSON object with item_id"),
        ({"items": [{"item_id": "p1", "type": "rating"}]}, "items.0: a rating needs a value"),
        (None, "body: send a JSON object"),
        ([[]], "body: send a JSON object"),
    ],
)
async def test_a_fault_of_a_session_is_named_in_words_of_json(body: Any, said: str, world: GatewayWorld) -> None:
    answer = await post(world, body)
    assert answer.status_code == 422 and said in answer.json()["error"], answer.text
