"""The documents are fresh, and the check that guards readers sees what would break them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.compatibility import incompatibilities
from schemas.contracts import CONTRACTS, Contract
from schemas.export import asyncapi, broken, documents, json_schema, main, promises, stale

Change = Callable[[dict[str, Any]], object]


def test_the_documents_are_what_the_code_says() -> None:
    assert stale() == [], "run python -m schemas.export"


def test_no_promise_to_readers_is_broken() -> None:
    assert broken() == []


def test_check_fails_on_a_stale_document_and_freeze_refuses_to_break_a_promise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--freeze"], docs=tmp_path) == 0
    assert main([], docs=tmp_path) == 0
    assert main(["--check"], docs=tmp_path) == 0
    document = tmp_path / "schemas" / "Event.v1.json"
    document.write_text(document.read_text("utf-8").replace("10000", "10001"), "utf-8")
    assert main(["--check"], docs=tmp_path) == 1
    assert "Event.v1.json is stale" in capsys.readouterr().err
    assert main([], docs=tmp_path) == 0
    frozen = tmp_path / "schemas" / "frozen" / "v1" / "Event.json"
    promise = json.loads(frozen.read_text("utf-8"))
    promise["properties"]["session_id"] = {"type": "string"}
    frozen.write_text(json.dumps(promise), "utf-8")
    assert main(["--freeze"], docs=tmp_path) == 1
    assert "record.session_id: removed" in capsys.readouterr().err
    assert json.loads(frozen.read_text("utf-8")) == promise


def test_a_promised_topic_may_not_vanish(tmp_path: Path) -> None:
    main(["--freeze"], docs=tmp_path)
    (tmp_path / "schemas" / "frozen" / "v1" / "Gone.json").write_text("{}", "utf-8")
    assert broken(tmp_path) == ["Gone.json: frozen, but no longer generated; a promised topic may not vanish"]


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [ref for part in node.values() for ref in references(part)]
    return [ref for part in node for ref in references(part)] if isinstance(node, list) else []


@pytest.mark.parametrize("path", sorted(documents()))
def test_every_reference_in_a_document_resolves(path: str) -> None:
    document = json.loads(documents()[path])
    for reference in references(document):
        target = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


def test_asyncapi_names_every_channel_with_key_message_and_a_valid_example() -> None:
    document = asyncapi()
    assert [channel["address"] for channel in document["channels"].values()] == [
        "recsys.events",
        "recsys.items",
        "recsys.users",
        "recsys.recommendations",
        "recsys.models",
        "recsys.dlq",
        "recsys.control",
        "recsys.similar",
        "recsys.bought-together",
        "recsys.trending",
    ]
    for contract in CONTRACTS:
        message = document["components"]["messages"][contract.name]
        assert message["bindings"]["kafka"]["key"]["type"] == "string"
        assert contract.model.model_validate(message["examples"][0]["payload"])
    assert sorted(operation["action"] for operation in document["operations"].values()) == ["receive"] * 5 + ["send"] * 6
    assert list(document["channels"]["Event"]["messages"]) == ["Event", "UserErasure"]


def test_topic_addresses_are_the_defaults_of_the_settings() -> None:
    topics = pytest.importorskip("workers.settings").TopicSettings()
    assert [contract.address for contract in CONTRACTS] == [
        topics.events, topics.items, topics.users, topics.recommendations, topics.models, topics.dead_letters,
        topics.control, topics.similar, topics.bought_together, topics.trending, topics.events,
    ]  # fmt: skip


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
@pytest.mark.parametrize("direction", ["input", "output"])
def test_an_unchanged_schema_is_compatible_both_ways(contract: Contract[Any], direction: Any) -> None:
    assert incompatibilities(json_schema(contract), json_schema(contract), direction) == []


def event_schema() -> dict[str, Any]:
    return copy.deepcopy(promises()["Event.json"][0])


def changed(change: Change) -> dict[str, Any]:
    schema = event_schema()
    change(schema)
    return schema


def p(schema: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = schema["properties"][name]
    return found


def union(schema: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = p(schema, name)["anyOf"]
    return found


# (change, breaks an input topic, breaks an output topic)
CHANGES: dict[str, tuple[Change, bool, bool]] = {
    "optional field added": (lambda s: s["properties"].update(session_id={"type": "string"}), False, False),
    "required field added": (lambda s: (s["properties"].update(x={"type": "string"}), s["required"].append("x")), True, False),
    "optional field removed": (lambda s: s["properties"].pop("position"), True, True),
    "required field removed": (lambda s: (s["properties"].pop("item_id"), s["required"].remove("item_id")), True, True),
    "optional field became required": (lambda s: s["required"].append("value"), True, False),
    "required field became optional": (lambda s: s["required"].remove("item_id"), False, True),
    "enum widened": (lambda s: s["$defs"]["EventType"]["enum"].append("stare"), False, True),
    "enum narrowed": (lambda s: s["$defs"]["EventType"]["enum"].remove("hide"), True, False),
    "enum became a string": (lambda s: s["$defs"]["EventType"].pop("enum"), False, True),
    "string became an enum": (lambda s: p(s, "item_id").update(enum=["a"]), True, False),
    "maximum raised": (lambda s: p(s, "event_ts_ms").update(maximum=10**15), False, True),
    "maximum lowered": (lambda s: p(s, "event_ts_ms").update(maximum=10**12), True, False),
    "maximum dropped": (lambda s: p(s, "event_ts_ms").pop("maximum"), False, True),
    "minimum raised": (lambda s: p(s, "event_ts_ms").update(minimum=10**12), True, False),
    "minimum lowered": (lambda s: p(s, "event_ts_ms").update(minimum=0), False, True),
    "length cap lowered": (lambda s: p(s, "item_id").update(maxLength=64), True, False),
    "byte cap lowered": (lambda s: p(s, "item_id").update({"x-max-bytes": 64}), True, False),
    "length cap raised": (lambda s: p(s, "item_id").update(maxLength=256), False, True),
    "pattern changed": (lambda s: p(s, "item_id").update(pattern="^x$"), True, True),
    "type changed": (lambda s: p(s, "item_id").update(type="integer"), True, True),
    "integer became number": (lambda s: p(s, "event_ts_ms").update(type="number"), False, True),
    "null no longer allowed": (lambda s: p(s, "value")["anyOf"].pop(), True, False),
    "null allowed": (lambda s: s["properties"].update(item_id={"anyOf": [p(s, "item_id"), {"type": "null"}]}), False, True),
    "limit inside a union lowered": (lambda s: p(s, "value")["anyOf"][0].update(maximum=5), True, False),
    "limit inside a union raised": (lambda s: p(s, "value")["anyOf"][0].update(maximum=1e18), False, True),
    "fewer context entries": (lambda s: union(s, "context")[0].update(maxProperties=8), True, False),
    "more context entries": (lambda s: union(s, "context")[0].update(maxProperties=64), False, True),
    "context names shortened": (lambda s: union(s, "context")[0]["propertyNames"].update(maxLength=8), True, False),
    "context no longer takes booleans": (
        lambda s: next(iter(union(s, "context")[0]["patternProperties"].values()))["anyOf"].pop(0),
        True,
        False,
    ),
    "version changed": (lambda s: union(s, "schema_version")[0].update(const=2), True, True),
    "default changed": (lambda s: p(s, "position").update(default=1), True, False),
    "unknown keyword appeared": (lambda s: p(s, "item_id").update(format="uuid"), True, False),
    "unknown fields refused": (lambda s: s.update(additionalProperties=False), True, False),
    "description changed": (lambda s: p(s, "item_id").update(description="other words"), False, False),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("direction", ["input", "output"])
def test_the_check_sees_what_breaks_a_reader_and_nothing_else(name: str, direction: Any) -> None:
    change, breaks_input, breaks_output = CHANGES[name]
    problems = incompatibilities(event_schema(), changed(change), direction)
    assert bool(problems) == (breaks_input if direction == "input" else breaks_output), problems
    assert all(problem.startswith("record") and ";" in problem for problem in problems)


def test_changes_deep_inside_lists_are_seen() -> None:
    old = promises()["Recommendations.json"][0]
    new = copy.deepcopy(old)
    place = new["$defs"]["RecommendedItem"]
    place["properties"].pop("because")
    place["properties"]["rank"]["maximum"] = 500
    problems = incompatibilities(old, new, "output")
    assert any("record.items.*.because: removed" in problem for problem in problems)
    assert any("record.items.*.rank: maximum" in problem for problem in problems)
