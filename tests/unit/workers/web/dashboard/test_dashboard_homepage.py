"""Homepages: cards and what the user did lately; a click is an event in Kafka, and the answer is the page that it made."""

from __future__ import annotations

import pytest

from schemas import Item
from tests.builders import play
from tests.dashboard import SCRIPT, dashboard
from tests.gateway import NOW_S, with_keys

PICTURE = "data:image/png;base64,aGVsbG8="


async def test_a_page_shows_rows_of_cards_with_titles_and_categories_and_what_the_user_did() -> None:
    async with dashboard() as world:
        await world.happen(play("u1", "i3", 1, type="like"))
        world.publish("u1", ["i0", "i1"], rows={"top": ["i1", "i0"]})
        text = await world.page("/users/u1", "reader")
        assert text.index("For you</h2>") < text.index('data-item="i1"') < text.index('data-item="i0"')
        assert "Title 1" in text and "jazz" in text and "liked" in text and "Title 3" in text


async def test_a_user_without_a_list_gets_the_list_for_everybody_and_is_said_to() -> None:
    async with dashboard() as world:
        assert "lists.shared_every_s" in await world.page("/users/u1", "reader")
        world.publish("recsys:default", ["i2"])
        text = await world.page("/users/u1", "reader")
        assert 'data-item="i2"' in text and "list for everybody" in text


async def test_a_click_is_sent_to_kafka_and_answered_with_the_list_that_it_made_and_its_milliseconds() -> None:
    async with dashboard() as world:
        first = world.publish("u1", ["i0", "i1"])
        world.answer_events("i2", "i3")
        fields = {"item_id": "i0", "type": "like", "list_id": first.list_id, "position": 1}
        answer = (await world.post("/api/users/u1/events", fields, "writer")).json()
        (event,) = world.producer.events
        assert {name: event[name] for name in ("user_id", "item_id", "type", "list_id", "position")} == {"user_id": "u1", **fields}
        assert answer["list_ms"] == pytest.approx(40.0) and 'data-item="i2"' in answer["html"] and 'data-item="i0"' not in answer["html"]


async def test_a_list_that_does_not_come_is_said_and_no_number_is_made_up() -> None:
    async with dashboard() as world:
        world.publish("u1", ["i0"])
        answer = (await world.post("/api/users/u1/events", {"item_id": "i0", "type": "click"}, "writer")).json()
        assert answer["list_ms"] is None and 'data-item="i0"' in answer["html"] and len(world.producer.events) == 1


async def test_only_the_types_of_the_buttons_and_real_ids_are_sent() -> None:
    async with dashboard() as world:
        wrong = [("i0", "impression"), ("", "like"), ("a\n", "like"), (7, "like"), ("i0", None)]
        for fields in ([], {}, *({"item_id": item_id, "type": kind} for item_id, kind in wrong)):
            assert (await world.post("/api/users/u1/events", fields, "writer")).status_code == 422, fields
        assert not world.producer.events


async def test_ids_titles_categories_and_reasons_are_text() -> None:
    async with dashboard() as world:
        await world.put(Item(item_id=SCRIPT, title=SCRIPT, categories=(SCRIPT,)))
        await world.happen(play(SCRIPT, SCRIPT, 1, type="like"))
        world.publish(SCRIPT, [SCRIPT], because=[SCRIPT])
        for path in ("/users/%3Cscript%3Ealert('1')%3C%2Fscript%3E", "/users"):
            text = await world.page(path, "admin")
            assert "alert(" in text and "<script>alert" not in text
        assert "Because you chose &lt;script&gt;" in await world.page("/users/%3Cscript%3Ealert('1')%3C%2Fscript%3E", "admin")


async def test_pictures_are_of_the_kinds_that_the_settings_name() -> None:
    def item(number: int, url: str) -> Item:
        return Item(item_id=f"i{number}", categorical_attributes={"image_url": url})

    urls = (PICTURE, "https://pictures.example/a.png", "javascript:alert(1)", "data:image/svg+xml;base64,aGVsbG8=")
    for images, shown in (((), 0), (("data",), 1), (("data", "https"), 2)):
        settings = with_keys().model_copy(update={"dashboard": with_keys().dashboard.model_copy(update={"images": images})})
        async with dashboard(settings) as world:
            await world.put(*(item(number, url) for number, url in enumerate(urls)))
            world.publish("u1", [f"i{number}" for number in range(4)])
            answer = await world.get("/users/u1", "reader")
            assert answer.text.count("<img ") == shown and "javascript:" not in answer.text
            policy = answer.headers["content-security-policy"]
            assert ("https:" in policy, " data:" in policy) == ("https" in images, "data" in images)


async def test_a_sold_out_item_is_on_no_page() -> None:
    async with dashboard() as world:
        world.publish("u1", ["i0", "i1"])
        await world.put(Item(item_id="i1", available=False))
        assert 'data-item="i1"' not in await world.page("/users/u1", "reader")


async def test_the_newest_users_are_offered_and_any_id_can_be_looked_for() -> None:
    async with dashboard() as world:
        for user_id in ("u1", "a/b", "u1"):
            world.publish(user_id, ["i0"], generated_ts_ms=NOW_S * 1000 + world.lists.n_records)
        text = await world.page("/users", "reader")
        assert text.index("/users/u1") < text.index("/users/a%2Fb")
        found = await world.get("/users?user=a%2Fb", "reader")
        assert found.status_code == 303 and found.headers["location"] == "/users/a%2Fb"
