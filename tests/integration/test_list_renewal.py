"""A list that holds an item which is gone is made again, also one that a worker made which runs no more."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import play
from tests.conftest import TestStack
from tests.integration.test_stream import topics_of, workers
from workers.kafka.topics import provision
from workers.local.embedded import environment
from workers.settings import load_settings

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


async def test_lists_of_an_earlier_worker_lose_an_item_that_is_gone_without_any_event(
    stack: TestStack, sections: dict[str, Any], worker_env: dict[str, str]
) -> None:
    sections["lists"] = {"renewed_users": 1_000, "size": 3}
    settings = load_settings(**sections)
    provision(settings)
    env = {**worker_env, **environment({"lists": sections["lists"]})}
    users = [f"u{number}" for number in range(6)]
    async with topics_of(settings) as topics:

        def listed(user: str) -> set[str]:
            return {item.item_id for item in topics.lists[user][-1].items}

        with workers(stack, env):
            for number in range(4):
                await topics.item(f"i{number}")
            for number, user in enumerate(users):
                await topics.until_answered(user, await topics.event(play(user, f"i{number % 2}", number)))
            await topics.until(lambda: all(len(listed(user)) == 3 for user in users), "full lists")
        made = {user: len(topics.lists[user]) for user in users}
        with workers(stack, env, 2):
            await topics.item("i1", available=False)
            await topics.until(lambda: not any("i1" in listed(user) for user in users), "lists without i1")
        again = {user for user in users if len(topics.lists[user]) > made[user]}
        assert again == set(users[::2]), "those who had played i1 did not have it on their list"
