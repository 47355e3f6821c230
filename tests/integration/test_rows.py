"""Rows of pages and lists of categories on a real broker and Redis: a user's page, a visitor's page, and nothing on them that is gone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import play, value_of
from tests.conftest import TestStack
from tests.integration.test_stream import topics_of, workers
from workers.client import ListReader
from workers.kafka.topics import provision
from workers.local.embedded import environment
from workers.settings import load_settings

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
KEY, JAZZ = "recsys:default", "recsys:category:Jazz"
ROWS = [
    {"kind": "for_you", "size": 3, "least": 1, "title": "row.for_you"},
    {"kind": "because", "size": 3, "least": 1},
    {"kind": "popular_now", "size": 3, "least": 1},
    {"kind": "category", "category": "Jazz", "size": 4, "least": 1},
]


async def test_pages_have_rows_and_categories_have_lists_until_an_item_is_gone(
    stack: TestStack, sections: dict[str, Any], worker_env: dict[str, str]
) -> None:
    sections["lists"] = {"size": 4, "rows": ROWS, "shared_every_s": 3600, "shared_categories": ["Jazz"], "renewed_users": 100}
    settings = load_settings(**sections)
    provision(settings)
    async with topics_of(settings) as topics:
        with workers(stack, {**worker_env, **environment({"lists": sections["lists"]})}) as (one,):
            for number in range(12):
                await topics.item(f"i{number}", categories=["Jazz" if number % 2 else "Rock"])
            lasts: dict[str, int] = {}
            for user in range(4):
                for at, number in enumerate((0, 1, 2 + user, 3 + user)):
                    fact = play(f"u{user}", f"i{number}", 10 * user + at)
                    lasts[fact.user_id] = await topics.record(fact.user_id.encode(), value_of(fact))
            for user_id, last in lasts.items():  # a list that waited for the catalogue names no event
                await topics.until_answered(user_id, last)
            fact = play("reader", "i0", 99)
            await topics.record(b"reader", value_of(fact))

            def page() -> dict[str, Any]:
                made = topics.lists.get("reader")
                return {row.name: row for row in made[-1].rows} if made else {}

            def on_page() -> set[str]:
                return {item.item_id for row in page().values() for item in row.items}

            await topics.until(lambda: {"for_you", "because", "category"} <= page().keys(), "a page with rows")
            assert page()["because"].item_id == "i0" and page()["category"].category == "Jazz"
            assert sum(len(row.items) for row in page().values()) == len(on_page()) and "i0" not in on_page()
            assert topics.lists["reader"][-1].schema_version == 2 and page()["for_you"].title == "row.for_you"
            await topics.until(lambda: JAZZ in topics.lists, "a list of a category")
            assert {item.item_id for item in topics.lists[JAZZ][-1].items} <= {f"i{n}" for n in range(1, 12, 2)}
            assert len(topics.lists[JAZZ][-1].items) == 4 and topics.lists[JAZZ][-1].schema_version == 1
            gone = next(item.item_id for item in page()["category"].items)
            await topics.item(gone, categories=["Jazz"], available=False)
            await topics.until(lambda: gone not in on_page() and len(on_page()) > 0, f"a page without {gone}")
            await topics.until(lambda: gone not in {i.item_id for i in topics.lists[JAZZ][-1].items}, f"a list of Jazz without {gone}")
            newest = ListReader(settings).newest("reader")
            assert newest is not None and newest.rows == topics.lists["reader"][-1].rows, one.last_lines(5)
