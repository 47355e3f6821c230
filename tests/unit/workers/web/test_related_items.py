"""Lists of items over HTTP: made from the state, held for some seconds, without what is sold out."""

from __future__ import annotations

from schemas import Item
from tests.builders import play, small_settings
from tests.gateway import gateway, ids


async def test_similar_items_are_made_from_the_state_and_leave_out_what_is_gone() -> None:
    async with gateway() as world:
        for user in range(4):
            await world.happen(*(play(f"u{2 * user}", f"i{number}", 10 * user + number) for number in range(3)))
        answer = await world.get("/v1/items/i0/similar", "reader")
        assert set(ids(answer)) == {"i1", "i2"} and answer.json()["item_id"] == "i0"
        await world.put(Item(item_id="i1", available=False))
        assert ids(await world.get("/v1/items/i0/similar", "reader")) == ["i2"]


async def test_a_list_is_held_for_some_seconds_and_what_is_sold_out_leaves_it_before() -> None:
    async with gateway() as world:
        await world.happen(play("u0", "i0", 0), play("u0", "i1", 1), play("u0", "i2", 2))
        first = await world.get("/v1/items/i0/similar", "reader")
        again = await world.get("/v1/items/i0/similar", "reader")
        assert again.headers["etag"] == first.headers["etag"]
        asked_s = world.clock_s
        await world.put(Item(item_id="i1", available=False))
        world.clock_s = asked_s + 5.0
        later = await world.get("/v1/items/i0/similar", "reader")
        assert ids(later) == ["i2"] and later.json()["generated_ts_ms"] == first.json()["generated_ts_ms"]


async def test_what_is_bought_together_is_answered_where_it_is_counted() -> None:
    async with gateway() as world:
        for user in range(4):
            events = [play(f"u{2 * user}", f"i{number}", 10 * user + number, type="purchase") for number in range(2)]
            await world.happen(*events)
        answer = await world.get("/v1/items/i0/bought-together", "reader")
        assert ids(answer) == ["i1"] and answer.json()["items"][0]["support"] == 4
    async with gateway(small_settings()) as world:
        answer = await world.get("/v1/items/i0/bought-together")
        assert answer.status_code == 404 and "related.bought_together" in answer.json()["error"]


async def test_an_item_that_nothing_has_named_is_404_and_one_without_company_an_empty_list() -> None:
    async with gateway() as world:
        answer = await world.get("/v1/items/unheard-of/similar", "reader")
        assert answer.status_code == 404 and answer.json()["field"] == "item_id"
        assert ids(await world.get("/v1/items/i3/similar", "reader")) == []
