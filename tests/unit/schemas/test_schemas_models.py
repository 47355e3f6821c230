"""What the wire models accept and refuse."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import schemas
from schemas import (
    CONTRACTS,
    EVENT_TYPES,
    DeadLetter,
    Event,
    EventType,
    Item,
    ModelAction,
    Poison,
    Recommendations,
    encode,
    from_fields,
    key_of,
    limits,
    make_dead_letter,
)
from schemas.contracts import Contract
from schemas.decoding import _decode
from schemas.examples import ANNOUNCEMENT, EVENT, EXAMPLES, ITEM, RECOMMENDATIONS

WIDEST = "\u0001"  # one character, six bytes of JSON: the dearest there is
WIDE_ID = '"' * limits.ID_MAX_BYTES  # an id may hold no control character; a quote takes two bytes


def scalar_schemas(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("type") in ("int", "float", "str", "bool"):
            yield schema
        for part in schema.values():
            yield from scalar_schemas(part)
    elif isinstance(schema, list | tuple):
        for part in schema:
            yield from scalar_schemas(part)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
def test_every_scalar_of_every_model_is_strict(contract: Contract[Any]) -> None:
    found = list(scalar_schemas(contract.model.__pydantic_core_schema__))
    computed = {"type": "str"}  # the return type of a computed field, which is written and never read
    assert found
    assert [scalar for scalar in found if not scalar.get("strict") and scalar != computed] == []


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
def test_every_example_reads_back_equal(contract: Contract[Any]) -> None:
    example = EXAMPLES[contract.model]
    assert _decode(contract, encode(example), key_of(example), contract.max_bytes) == example


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
def test_readers_ignore_unknown_fields_and_know_only_version_one(contract: Contract[Any]) -> None:
    example = EXAMPLES[contract.model]
    fields = json.loads(encode(example))
    later = json.dumps({**fields, "added_later": {"deep": [1]}}).encode()
    assert _decode(contract, later, key_of(example), contract.max_bytes) == example
    if contract.direction == "input":  # null is "not given" in every optional field, this one too
        assert _decode(contract, json.dumps({**fields, "schema_version": None}).encode(), key_of(example), contract.max_bytes) == example
    newest = 2 if contract.name == "Recommendations" else 1
    for version in (newest + 1, 0, True, 1.0, "1", *([] if contract.direction == "input" else [None])):
        with pytest.raises(Poison) as caught:
            _decode(contract, json.dumps({**fields, "schema_version": version}).encode(), key_of(example), contract.max_bytes)
        assert (caught.value.field, caught.value.kind) == ("schema_version", "unknown_version")


def largest_records() -> list[schemas.fields.Wire]:
    names = [f"{n:02d}".ljust(limits.NAME_MAX_CHARS, "\U0001f600") for n in range(limits.MAX_METRICS)]
    label = WIDEST * limits.LABEL_MAX_CHARS
    numbers = dict.fromkeys(names[: limits.MAX_NUMERIC_ATTRIBUTES], -123456789012345.13)
    labels = dict.fromkeys(names[: limits.MAX_CATEGORICAL_ATTRIBUTES], label)
    event = EVENT.model_copy(
        update={
            "event_id": WIDE_ID,
            "user_id": WIDE_ID,
            "item_id": WIDE_ID,
            "list_id": WIDE_ID,
            "session": WIDE_ID,
            "context": labels,
            "value": -123456.0123456789,
        }
    )
    item = Item(
        item_id=WIDE_ID,
        title=WIDEST * limits.TITLE_MAX_CHARS,
        categories=(label,) * limits.MAX_CATEGORIES,
        text=WIDEST * limits.TEXT_MAX_CHARS,
        numeric_attributes=numbers,
        categorical_attributes=labels,
        embeddings=dict.fromkeys(names[: limits.MAX_EMBEDDINGS], (-1.2345678901234568e-300,) * limits.MAX_EMBEDDING_DIMENSIONS),
        published_ts_ms=limits.CALENDAR_MIN_MS,
        expires_ts_ms=limits.CALENDAR_MIN_MS,
    )
    profile = schemas.UserProfile(
        user_id=WIDE_ID, numeric_attributes=numbers, categorical_attributes=labels, preferred_categories=(label,) * limits.MAX_CATEGORIES
    )
    announcement = ANNOUNCEMENT.model_copy(
        update={
            "reason": WIDEST * limits.REASON_MAX_CHARS,
            "manifest_url": WIDEST * limits.URL_MAX_CHARS,
            "champion": ANNOUNCEMENT.serving.model_copy(update={"manifest_url": WIDEST * limits.URL_MAX_CHARS})
            if ANNOUNCEMENT.serving
            else None,
            "challenger_metrics": dict.fromkeys(names, -123456789012345.12),
            "champion_metrics": dict.fromkeys(names, -123456789012345.12),
        }
    )
    letter = make_dead_letter(
        Poison("record", WIDEST * limits.REASON_MAX_CHARS, "too_large"),
        source_topic="t" * 249,
        source_partition=limits.MAX_PARTITION,
        source_offset=limits.MAX_OFFSET,
        source_timestamp_ms=limits.MAX_OFFSET,
        key=b"k",
        value=b"v" * limits.DEAD_LETTER_MAX_PAYLOAD_BYTES,
        dead_letter_ts_ms=EVENT.event_ts_ms,
        with_payload=True,
    )
    return [type(record).model_validate(record.model_dump()) for record in (event, item, profile, announcement, letter)]


def test_the_largest_valid_record_fits_under_the_cap_of_its_topic() -> None:
    caps = {contract.model: contract.max_bytes for contract in CONTRACTS}
    for record in largest_records():
        assert caps[type(record)] / 4 < len(encode(record)) <= caps[type(record)], type(record).__name__


def test_a_list_of_two_hundred_items_with_long_ids_and_five_sources_fits_under_the_cap() -> None:
    fields = RECOMMENDATIONS.model_dump(exclude={"items", "model_version"})
    places = [
        {
            "rank": rank,
            "item_id": f"{rank:04d}".ljust(limits.ID_MAX_BYTES, "x"),
            "score": -123456789012345.12,
            "sources": {f"source-{n}": -0.12345678901234567 for n in range(5)},
            "because": ["b" * limits.ID_MAX_BYTES] * limits.MAX_BECAUSE,
            "propensity": 0.12345678901234567,
        }
        for rank in range(1, limits.MAX_LIST_ITEMS + 1)
    ]
    assert len(encode(Recommendations.model_validate({**fields, "items": places}))) <= limits.RECOMMENDATIONS_MAX_BYTES


def test_event_type_codes_are_dense_and_follow_the_published_order() -> None:
    assert [event_type.code for event_type in EVENT_TYPES] == list(range(11))
    assert [str(event_type) for event_type in EVENT_TYPES[:3]] == ["impression", "view", "play"]
    assert EventType.HIDE.code == 10  # packed histories would change their meaning if a code moved


def test_ids_are_capped_in_bytes_not_characters() -> None:
    assert from_fields(Event, {**EVENT.model_dump(), "user_id": "é" * 64}).user_id == "é" * 64
    for wrong in ("é" * 65, "", "a\nb", "a\x7f", "a\x9fb", "x" * 129):
        with pytest.raises(Poison) as caught:
            from_fields(Event, {**EVENT.model_dump(), "user_id": wrong})
        assert caught.value.field == "user_id"


def test_python_callers_may_pass_lists_and_plain_strings_but_no_numeric_strings() -> None:
    assert from_fields(Event, {**EVENT.model_dump(), "type": "view"}).type is EventType.VIEW
    assert Item.model_validate({"item_id": "i", "categories": ["a", "b"]}).categories == ("a", "b")
    with pytest.raises(Poison):
        from_fields(Event, {**EVENT.model_dump(), "event_ts_ms": "1767225600000"})


def test_from_fields_refuses_a_misspelt_field_that_readers_would_ignore() -> None:
    with pytest.raises(Poison) as caught:
        from_fields(Event, {**EVENT.model_dump(), "positon": 3})
    assert (caught.value.field, caught.value.kind) == ("record", "unknown_field")
    assert "position" in caught.value.reason
    assert "positon" not in caught.value.reason  # the name is the record's, and may be anything


def test_a_lone_surrogate_cannot_be_built_or_is_refused_on_encoding() -> None:
    for field in ("user_id", "list_id"):
        with pytest.raises(Poison):
            from_fields(Event, {**EVENT.model_dump(), field: "\ud800"})
    with pytest.raises((Poison, schemas.SchemaError)):
        encode(from_fields(Event, {**EVENT.model_dump(), "context": {"a": "\ud800"}}))


def test_ranks_count_up_from_one_and_no_item_occurs_twice() -> None:
    fields = RECOMMENDATIONS.model_dump(exclude={"model_version"})
    first, second = fields["items"]
    for places in ([second, first], [first], [first, {**second, "item_id": first["item_id"]}]):
        if places == [first]:
            assert Recommendations(**{**fields, "items": places})
            continue
        with pytest.raises(ValidationError):
            Recommendations(**{**fields, "items": places})


def test_model_version_joins_the_kinds_in_alphabetical_order() -> None:
    assert RECOMMENDATIONS.model_version == "ials=20260101T000000-1,sasrec=20260101T000000-2"
    assert RECOMMENDATIONS.model_copy(update={"model_versions": {}}).model_version == "none"


def test_a_refusal_says_that_the_champion_goes_on_serving() -> None:
    assert ANNOUNCEMENT.serving is not None
    assert ANNOUNCEMENT.serving.version == ANNOUNCEMENT.version
    refused = ANNOUNCEMENT.model_copy(update={"action": ModelAction.REFUSED})
    assert refused.serving == ANNOUNCEMENT.champion
    assert refused.model_copy(update={"champion": None}).serving is None


def test_a_dead_letter_holds_the_payload_only_when_asked_for_and_small() -> None:
    def letter(value: bytes | None, *, with_payload: bool) -> DeadLetter:
        return make_dead_letter(
            Poison("key", "key: got nothing", "empty_key"),
            source_topic="recsys.events",
            source_partition=0,
            source_offset=0,
            source_timestamp_ms=None,
            key=None,
            value=value,
            dead_letter_ts_ms=EVENT.event_ts_ms,
            with_payload=with_payload,
        )

    assert letter(b"secret", with_payload=False).payload_base64 is None
    assert letter(b"secret", with_payload=True).payload_base64 == "c2VjcmV0"
    assert letter(b"x" * (limits.DEAD_LETTER_MAX_PAYLOAD_BYTES + 1), with_payload=True).payload_base64 is None
    empty = letter(None, with_payload=True)
    assert (empty.payload_sha256, empty.key_sha256, empty.payload_bytes, empty.source_timestamp_ms) == (None, None, 0, -1)


def test_items_from_before_1970_and_never_expiring_ones_are_valid() -> None:
    item = ITEM.model_copy(update={"published_ts_ms": -1_500_000_000_000, "expires_ts_ms": limits.CALENDAR_MAX_MS})
    assert Item.model_validate(item.model_dump()) == item


def test_schemas_import_neither_kafka_nor_redis_clock_nor_environment() -> None:
    forbidden = {"workers", "recsys", "aiokafka", "kafka", "redis", "faust", "time", "datetime", "os", "pickle", "torch"}
    assert schemas.__file__ is not None
    for path in Path(schemas.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & forbidden, path.name
