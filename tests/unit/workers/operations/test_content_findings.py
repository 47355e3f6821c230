"""What the doctor says of attributes that take no part in lists, and the log of a worker with it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from recsys.catalogue.content_values import LeftOut
from schemas import Item, encode
from tests.builders import small_settings
from tests.memory_store import MemoryStore
from workers.operations.content_findings import examine_content
from workers.operations.finding import Finding
from workers.runtime.left_out import left_out_lines
from workers.state.layout import layout_of
from workers.state.port import ItemRecord


def findings(attributes: list[dict[str, str]], extra: list[bytes] | None = None) -> list[Finding]:
    async def examined() -> list[Finding]:
        store = MemoryStore()
        await store.open(layout_of(small_settings()))
        items = [encode(Item(item_id=f"i{n}", categorical_attributes=said)) for n, said in enumerate(attributes)] + (extra or [])
        numbers = await store.item_numbers([f"i{n}" for n in range(len(items))])
        await store.upsert_items(
            [ItemRecord(number, 0, at, content) for at, (number, content) in enumerate(zip(numbers, items, strict=True))]
        )
        return await examine_content(store)

    return asyncio.run(examined())


def test_an_identifier_is_named_with_the_remedy() -> None:
    found = findings([{"isbn": str(n), "brand": f"b{n % 5}"} for n in range(150)])
    assert [(finding.name, finding.state) for finding in found] == [("attributes", "warning")]
    assert "isbn" in found[0].text and "brand" not in found[0].text
    assert "categorical_attributes" in found[0].remedy


def test_values_without_a_column_are_counted_by_attribute() -> None:
    found = findings([{"author": f"a{n // 2}"} for n in range(1_200)])
    assert [(finding.state, "88 of author" in finding.text) for finding in found] == [("warning", True)]


def test_a_catalogue_whose_values_all_count_is_in_order() -> None:
    assert findings([{"brand": f"b{n % 5}"} for n in range(20)]) == [
        Finding("attributes", "ok", "the values of 20 items take part in lists")
    ]
    assert findings([]) == []


@pytest.mark.parametrize("stored", [b"", b"[]", b"{", b'{"published_ts_ms":"x"}', b'{"categorical_attributes":[1]}'])
def test_an_item_that_cannot_be_read_says_nothing(stored: bytes) -> None:
    found = findings([{"isbn": str(n)} for n in range(150)], [stored] if stored else None)
    assert found[0].state == "warning" and "isbn" in found[0].text


def test_names_are_shown_as_text_and_not_all_of_many() -> None:
    left_out: Any = LeftOut(("a\x1b[31m", *map(str, range(9))), {"b\u202e": 3})
    identifiers, columns = left_out_lines(left_out)
    assert "\x1b" not in identifiers and "\\x1b" in identifiers and "and 5 more" in identifiers
    assert "\u202e" not in columns and "3 of b" in columns
