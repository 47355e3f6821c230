"""The list for everybody on a real broker and Redis: there before any event, without an item from the moment that it is gone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import play, value_of
from tests.conftest import TestStack
from tests.integration.test_stream import topics_of, workers
from workers.kafka.topics import provision
from workers.lists.reader import newest_list
from workers.local.embedded import environment
from workers.settings import load_settings

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
KEY = "recsys:default"


async def test_visitors_have_a_list_before_any_event_and_never_one_with_an_item_that_is_gone(
    stack: TestStack, sections: dict[str, Any], worker_env: dict[str, str]
) -> None:
    sections["lists"] = {"shared_every_s": 3600, "size": 5}
    settings = load_settings(**sections)
    provision(settings)
    async with topics_of(settings) as topics:
        with workers(stack, {**worker_env, **environment({"lists": sections["lists"]})}, 2) as (one, _):
            for number in range(4):
                await topics.item(f"i{number}")

            def listed() -> set[str]:
                return {item.item_id for item in topics.lists[KEY][-1].items} if topics.lists.get(KEY) else set()

            await topics.until(lambda: len(listed()) > 0, "a list for everybody")
            assert set(topics.lists) == {KEY} and topics.lists[KEY][0].trigger.event_id is None
            gone = topics.lists[KEY][-1].items[0].item_id
            await topics.item(gone, available=False)
            await topics.until(lambda: gone not in listed(), f"a list for everybody without {gone}")
            refused = await topics.record(KEY.encode(), value_of(play(KEY, "i1", 0)))
            await topics.until(lambda: len(topics.dead) == 1, "a dead letter")
            assert (topics.dead[0]["kind"], topics.dead[0]["source_offset"]) == ("reserved_user_id", refused)
            newest = newest_list(settings, KEY)
            assert newest is not None and newest.list_id == topics.lists[KEY][-1].list_id, one.last_lines(5)
