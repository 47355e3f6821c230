"""Published lists over HTTP: the newest one, without what may not be listed now, or the one for everybody, with a flag that says so."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from schemas import Item, Recommendations
from tests.builders import small_settings
from tests.gateway import NOW_S, gateway, ids, with_keys


async def test_a_user_gets_the_newest_published_list_with_all_fields_of_its_record() -> None:
    async with gateway() as world:
        made = world.publish("u1", ["i0", "i1"], source_offset=5)
        world.publish("u1", ["i3"], source_offset=4)
        answer = await world.get("/v1/users/u1/lists", "reader")
        assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
        body = answer.json()
        assert body.pop("is_default") is False and body.pop("on_request") is False
        assert Recommendations.model_validate_json(made.model_dump_json()).model_dump(mode="json") == body


async def test_a_user_without_a_list_gets_the_list_for_everybody_and_a_flag_that_says_so() -> None:
    async with gateway() as world:
        missing = await world.get("/v1/users/u1/lists", "reader")
        assert missing.status_code == 404 and "lists.shared_every_s" in missing.json()["error"]
        world.publish("recsys:default", ["i2"])
        answer = await world.get("/v1/users/u1/lists", "reader")
        assert ids(answer) == ["i2"] and answer.json()["is_default"] is True and answer.json()["user_id"] == "recsys:default"
        world.publish("u1", ["i1"])
        assert (await world.get("/v1/users/u1/lists", "reader")).json()["is_default"] is False
        world.held.put(b"u1", None)
        assert (await world.get("/v1/users/u1/lists", "reader")).json()["is_default"] is True


@pytest.mark.parametrize(
    "gone",
    [
        Item(item_id="i1", available=False),
        Item(item_id="i1", expires_ts_ms=NOW_S * 1000 - 1),
        Item(item_id="i1", published_ts_ms=NOW_S * 1000 + 60_000),
    ],
    ids=["unavailable", "expired", "not published yet"],
)
async def test_an_item_that_may_not_be_listed_now_leaves_every_list_and_row_at_read_time(gone: Item) -> None:
    async with gateway() as world:
        world.publish("u1", ["i0", "i1", "i2", "unheard-of"], rows={"top": ["i2", "i3"], "only": ["i1"]})
        before = await world.get("/v1/users/u1/lists", "reader")
        await world.put(gone)
        answer = await world.get("/v1/users/u1/lists", "reader")
        assert ids(answer) == ["i0", "i2", "unheard-of"] and [place["rank"] for place in answer.json()["items"]] == [1, 2, 3]
        assert [(row["name"], [place["item_id"] for place in row["items"]]) for row in answer.json()["rows"]] == [("top", ["i2", "i3"])]
        assert answer.headers["etag"] != before.headers["etag"]
        assert (await world.get("/v1/users/u1/lists/only", "reader")).status_code == 404
        await world.put(Item(item_id="i1"))
        assert (await world.get("/v1/users/u1/lists", "reader")).content == before.content


async def test_a_row_is_answered_by_its_name() -> None:
    async with gateway() as world:
        made = world.publish("u1", ["i0"], rows={"top": ["i1", "i3"], "more": ["i2"]})
        answer = await world.get("/v1/users/u1/lists/top", "reader")
        body = answer.json()
        assert [place["item_id"] for place in body["row"]["items"]] == ["i1", "i3"] and body["list_id"] == made.list_id
        unknown = await world.get("/v1/users/u1/lists/other", "reader")
        assert unknown.status_code == 404 and "top, more" in unknown.json()["error"] and unknown.json()["field"] == "row"


async def test_a_list_that_a_client_holds_is_not_sent_again() -> None:
    async with gateway() as world:
        world.publish("u1", ["i0"])
        tag = (await world.get("/v1/users/u1/lists", "reader")).headers["etag"]
        for held in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            answer = await world.get("/v1/users/u1/lists", "reader", **{"If-None-Match": held})
            assert answer.status_code == 304 and not answer.content and answer.headers["etag"] == tag
        assert (await world.get("/v1/users/u1/lists", "reader", **{"If-None-Match": '"other"'})).status_code == 200


async def test_until_everything_published_is_read_a_missing_list_is_no_answer() -> None:
    async with gateway() as world:
        world.is_loaded = False
        world.publish("u1", ["i0"])
        assert (await world.get("/v1/users/u1/lists", "reader")).status_code == 200
        answer = await world.get("/v1/users/u2/lists", "reader")
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("user_id", ["a/b", "a b", "ü", "100%", "x" * 128, "..", "a?b#c", "日本"])
async def test_ids_of_any_characters_are_percent_encoded_in_paths(user_id: str) -> None:
    async with gateway() as world:
        world.publish(user_id, ["i0"])
        answer = await world.get(f"/v1/users/{quote(user_id, safe='').replace('..', '%2E%2E')}/lists", "reader")
        assert ids(answer) == ["i0"] and answer.json()["user_id"] == user_id


@pytest.mark.parametrize("encoded", ["%00", "%0A", "%FF", "x" * 129, "%C3%BC" * 65])
async def test_what_can_be_no_id_is_refused(encoded: str) -> None:
    async with gateway() as world:
        answer = await world.get(f"/v1/users/{encoded}/lists", "reader")
        assert answer.status_code == 422 and answer.json()["field"] == "user_id", answer.text


async def test_redis_that_does_not_answer_is_503_and_comes_back_by_itself() -> None:
    async with gateway() as world:
        world.publish("u1", ["i0"])
        assert (await world.get("/v1/users/u1/lists", "reader")).status_code == 200 and not world.status.has("redis")
        world.store.is_away = True
        world.clock_s += 60.0
        for _ in range(2):
            answer = await world.get("/v1/users/u1/lists", "reader")
            assert answer.status_code == 503 and answer.headers["retry-after"] == "1", answer.text
        assert world.status.has("redis") and (await world.get("/ready")).status_code == 503
        world.store.is_away = False
        world.clock_s += 1.0
        assert (await world.get("/v1/users/u1/lists", "reader")).status_code == 200 and not world.status.has("redis")


async def test_another_state_takes_the_place_of_the_one_that_was_read() -> None:
    async with gateway() as world:
        world.publish("u1", ["i0", "i1"])
        await world.put(Item(item_id="i1", available=False))
        assert ids(await world.get("/v1/users/u1/lists", "reader")) == ["i0"] and world.state.n_opened == 1
        world.store._start_empty()
        world.clock_s += 60.0
        assert (await world.get("/v1/users/u1/lists", "reader")).status_code == 503
        world.pipeline.state.numbering.clear()
        await world.pipeline.open()
        await world.put(Item(item_id="i0", available=False), Item(item_id="i1"))
        assert ids(await world.get("/v1/users/u1/lists", "reader")) == ["i1"] and world.state.n_opened == 2


async def test_a_state_of_other_settings_is_no_state() -> None:
    async with gateway() as world:
        other = world.settings.model_copy(update={"state": world.settings.state.model_copy(update={"item_groups": 9})})
        world.state._settings = other
        answer = await world.get("/v1/users/u1/lists", "reader")
        assert answer.status_code == 503 and "item_groups" in answer.json()["error"]


async def test_the_catalogue_is_asked_for_at_most_once_in_fresh_ms() -> None:
    async with gateway(with_keys(fresh_ms=100)) as world:
        world.publish("u1", ["i0"])
        await world.get("/v1/users/u1/lists", "reader")
        world.store.is_away = True
        world.clock_s += 0.04
        assert (await world.get("/v1/users/u1/lists", "reader")).status_code == 200
        world.clock_s += 0.07
        assert (await world.get("/v1/users/u1/lists", "reader")).status_code == 503


async def test_a_key_of_lists_of_no_user_gives_that_list_and_never_that_of_another_key() -> None:
    settings = with_keys()
    settings = settings.model_copy(update={"lists": small_settings(lists={"shared_every_s": 60.0}).lists})
    async with gateway(settings) as world:
        world.publish("recsys:category:jazz", ["i0"])
        world.publish("recsys:default", ["i1"])
        answer = await world.get("/v1/users/recsys:category:jazz/lists", "reader")
        assert answer.json()["is_default"] is False and ids(answer) == ["i0"]
        answer = await world.get("/v1/users/recsys:default/lists", "reader")
        assert answer.json()["is_default"] is True and ids(answer) == ["i1"]
        answer = await world.get("/v1/users/recsys:category:rock/lists", "reader")
        assert answer.status_code == 404 and answer.json()["field"] == "user_id", answer.text
