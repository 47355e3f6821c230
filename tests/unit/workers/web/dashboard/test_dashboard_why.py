"""Why a list is as it is, and why an item is not on it; the keys that may ask."""

from __future__ import annotations

from schemas import Item
from tests.builders import play
from tests.dashboard import SCRIPT, DashboardWorld, dashboard


async def a_little_history(world: DashboardWorld) -> None:
    await world.happen(*(play(f"o{number}", item, number * 4 + at) for number in range(3) for at, item in enumerate(("i0", "i1", "i2"))))
    await world.happen(play("u1", "i0", 50))


async def test_a_list_is_told_with_its_sources_and_sentences() -> None:
    async with dashboard() as world:
        await a_little_history(world)
        text = await world.page("/why?user=u1", "admin")
        assert "Title 1" in text and "cooccurrence" in text and "Because you chose Title 0" in text
        assert "/why?user=u1&amp;item=i1" in text


async def test_an_item_is_told_with_its_place_or_with_what_keeps_it_off() -> None:
    async with dashboard() as world:
        await a_little_history(world)
        listed = await world.page("/why?user=u1&item=i1", "admin")
        assert "It is at place" in listed and "Features" in listed
        away = await world.page("/why?user=u1&item=i0", "admin")
        assert "It is not on the list:" in away
        assert "no event and no record" in await world.page("/why?user=u1&item=unheard-of", "admin")


async def test_an_unknown_user_is_said_to_be_so() -> None:
    async with dashboard() as world:
        answer = await world.get("/why?user=nobody", "admin")
        assert answer.status_code == 404 and "nothing is known of this user" in answer.text


async def test_explanations_need_the_scope_admin() -> None:
    async with dashboard() as world:
        await a_little_history(world)
        world.publish("u1", ["i1"])
        assert (await world.get("/why?user=u1", "reader")).status_code == 403
        assert "/why" not in await world.page("/users/u1", "reader") and "/why" in await world.page("/users/u1", "admin")


async def test_data_in_a_story_is_text() -> None:
    async with dashboard() as world:
        await world.put(Item(item_id="i1", title=SCRIPT, categories=(SCRIPT,)))
        await a_little_history(world)
        text = await world.page("/why?user=u1&item=i1", "admin")
        assert "alert(" in text and "<script>alert" not in text
        answer = await world.get("/why", "admin", **{"Accept-Language": "de"})
        assert "Warum" in answer.text
