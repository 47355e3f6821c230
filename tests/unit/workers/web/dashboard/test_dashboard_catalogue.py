"""The catalogue: search, neighbours, and the switch that publishes an item's record."""

from __future__ import annotations

import re

from schemas import Item
from tests.builders import play
from tests.dashboard import SCRIPT, dashboard


def ids(text: str) -> list[str]:
    return re.findall(r'data-item="([^"]*)"', text)


async def test_items_are_found_by_id_title_and_category_in_any_case() -> None:
    async with dashboard() as world:
        await world.put(Item(item_id="x/1", title="Blue Train", categories=("Hard Bop",)), Item(item_id="x2", title="Train Songs"))
        assert ids(await world.page("/catalogue?q=blue+bop", "reader")) == ["x/1"]
        assert ids(await world.page("/catalogue?q=X%2F1", "reader")) == ["x/1"]
        assert ids(await world.page("/catalogue?q=train", "reader")) == ["x2", "x/1"]
        assert set(ids(await world.page("/catalogue", "reader"))) == {"i0", "i1", "i2", "i3", "x/1", "x2"}
        assert ids(await world.page("/catalogue?q=nothing", "reader")) == []


async def test_a_new_item_is_found_at_once() -> None:
    async with dashboard() as world:
        await world.page("/catalogue", "reader")
        await world.put(Item(item_id="new", title="Just In"))
        assert ids(await world.page("/catalogue?q=just", "reader")) == ["new"]


async def test_an_item_is_shown_with_its_neighbours() -> None:
    async with dashboard() as world:
        await world.happen(*(play(f"o{number}", item, number * 4 + at) for number in range(3) for at, item in enumerate(("i0", "i1"))))
        text = await world.page("/items/i0", "reader")
        assert "Title 0" in text and "i1" in ids(text)
        assert (await world.get("/items/unheard-of", "reader")).status_code == 404


async def test_the_switch_publishes_the_whole_record_with_the_other_availability() -> None:
    async with dashboard() as world:
        item = Item(item_id="i1", title="Kept", categories=("jazz",), numeric_attributes={"price": 3.0}, embeddings={"text": (0.5, 0.25)})
        await world.put(item)
        world.answer_items()
        answer = await world.post("/api/items/i1/availability", {"available": False}, "writer")
        assert answer.json() == {"done": True}
        assert world.producer.items == [item.model_copy(update={"available": False})]
        assert "not available" in await world.page("/items/i1", "reader")


async def test_a_switch_that_is_not_in_the_state_yet_is_said_to_be_so() -> None:
    async with dashboard() as world:
        assert (await world.post("/api/items/i1/availability", {"available": False}, "writer")).json() == {"done": False}


async def test_only_an_item_with_a_record_can_be_switched_and_only_by_who_may_write() -> None:
    async with dashboard() as world:
        await world.happen(play("u1", "bare", 1))
        assert (await world.post("/api/items/bare/availability", {"available": False}, "writer")).status_code == 409
        assert (await world.post("/api/items/i1/availability", {"available": "no"}, "writer")).status_code == 422
        assert (await world.post("/api/items/i1/availability", {"available": False}, "reader")).status_code == 403
        assert (await world.post("/api/items/i1/availability", {"available": False}, "writer", Origin="https://evil")).status_code == 403
        assert not world.producer.items
        assert "data-opens" not in await world.page("/items/i1", "reader") and "data-opens" in await world.page("/items/i1", "admin")


async def test_what_the_catalogue_says_is_text() -> None:
    async with dashboard() as world:
        await world.put(Item(item_id=SCRIPT, title=SCRIPT, categories=(SCRIPT,), text=SCRIPT, categorical_attributes={SCRIPT: SCRIPT}))
        for path in ("/catalogue?q=%3Cscript%3E", "/items/%3Cscript%3Ealert('1')%3C%2Fscript%3E"):
            text = await world.page(path, "admin")
            assert "alert(" in text and "<script>alert" not in text
