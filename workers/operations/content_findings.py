"""Find attributes of items that take no part in lists, for `recsys doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from recsys.catalogue.content_values import ContentValues, LeftOut
from recsys.catalogue.items import eras_of
from workers.operations.finding import Finding
from workers.runtime.left_out import columns_line, identifiers_line

if TYPE_CHECKING:
    from workers.state.port import StateStore

READ_ITEMS = 100_000
"""Described items that are looked at."""
ITEMS_AT_ONCE = 250


async def examine_content(store: StateStore) -> list[Finding]:
    """Judge the attributes of the items in the state as the stream workers do. Raises WorkerError when the state is away."""
    _, numbers = await store.changed_items(0)
    values = ContentValues()
    for start in range(0, min(len(numbers), READ_ITEMS), ITEMS_AT_ONCE):
        some = numbers[start : start + ITEMS_AT_ONCE]
        for number, stored in zip(some, await store.read_items(some), strict=True):
            if stored is not None:
                _take(values, number, stored)
    values.settle()
    return list(_findings(values.left_out, min(len(numbers), READ_ITEMS)))


def _take(values: ContentValues, number: int, stored: bytes) -> None:
    """Count what a stored item says; one that this version cannot read says nothing."""
    try:
        item = orjson.loads(stored)
        published_ms = item.get("published_ts_ms")
        eras = eras_of(None if published_ms is None else published_ms // 1000)
        values.take(number, item.get("categories") or (), eras, item.get("categorical_attributes") or {})
    except (ValueError, TypeError, AttributeError):
        return


def _findings(left_out: LeftOut, n_items: int) -> list[Finding]:
    found = []
    if line := identifiers_line(left_out):
        found.append(Finding("attributes", "warning", line, "leave it out of categorical_attributes, or send what items have in common"))
    if line := columns_line(left_out):
        found.append(Finding("attributes", "warning", line, "send fewer or coarser values, or an embedding for what is fine-grained"))
    if not found and n_items:
        found.append(Finding("attributes", "ok", f"the values of {n_items:,} items take part in lists"))
    return found
