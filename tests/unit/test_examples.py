"""Programs that documents show are the very files that tests run, and what no broker is needed for works."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from schemas import Event, from_fields

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / "examples" / "clients"
SHOWN = re.compile(r"^<!-- (examples/\S+) -->\n\n```\w+\n(.*?)^```$", re.M | re.S)


def shown() -> dict[str, str]:
    """Return every program in the documents, by its file."""
    return {name: text for page in sorted((ROOT / "docs").glob("*.md")) for name, text in SHOWN.findall(page.read_text("utf-8"))}


def test_programs_in_documents_are_the_files_that_tests_run() -> None:
    assert {name: (ROOT / name).read_text("utf-8") for name in shown()} == shown()


def test_every_example_is_shown() -> None:
    files = {str(file.relative_to(ROOT)) for file in CLIENTS.iterdir() if file.is_file() and file.name != "package.json"}
    assert files == set(shown())


def segment(message: dict[str, Any]) -> list[dict[str, Any]]:
    spec = importlib.util.spec_from_file_location("segment_example", CLIENTS / "segment.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: list[dict[str, Any]] = module.to_events(message)
    for event in found:
        from_fields(Event, event)
    return found


MESSAGE = {"type": "track", "messageId": "m1", "anonymousId": "a1", "timestamp": "2026-11-29T23:02:18.123Z"}


def test_a_product_that_was_viewed_is_one_event_of_the_user_or_the_visitor() -> None:
    viewed = {**MESSAGE, "event": "Product Viewed", "properties": {"product_id": "507f", "price": 18.99}}
    (event,) = segment({**viewed, "userId": "u1"})
    assert event == {"event_id": "m1", "user_id": "u1", "item_id": "507f", "type": "view", "event_ts_ms": 1_795_993_338_123}
    assert segment(viewed)[0]["user_id"] == "a1" and segment({**viewed, "userId": None})[0]["user_id"] == "a1"


def test_an_order_is_an_event_for_each_product_with_ids_that_stay_the_same() -> None:
    products = [{"product_id": "1"}, {"sku": "no id"}, {"product_id": "3"}]
    order = {**MESSAGE, "event": "Order Completed", "userId": "u1", "properties": {"order_id": "o1", "products": products}}
    events = segment(order)
    assert [(event["event_id"], event["item_id"]) for event in events] == [("m1:0", "1"), ("m1:2", "3")]
    assert {event["type"] for event in events} == {"purchase"}
    assert segment(order) == events


@pytest.mark.parametrize("change", [{"type": "page"}, {"event": "Song Heard"}, {"type": "identify", "traits": {}}], ids=str)
def test_messages_of_another_kind_are_no_events(change: dict[str, Any]) -> None:
    assert segment({**MESSAGE, "event": "Product Viewed", "properties": {"product_id": "1"}, **change}) == []


def test_the_connector_writes_plain_keys_and_values_and_no_tombstones() -> None:
    config = json.loads((CLIENTS / "debezium-outbox.json").read_text("utf-8"))["config"]
    assert config["key.converter"].endswith("StringConverter") and config["value.converter.schemas.enable"] == "false"
    assert config["tombstones.on.delete"] == "false" and config["transforms.outbox.table.field.event.key"] == "user_id"
