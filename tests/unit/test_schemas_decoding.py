"""Reading events: what is refused, how it is named, and that nothing else is touched."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest

from schemas import (
    Event,
    EventType,
    Poison,
    decode_announcement,
    decode_dead_letter,
    decode_event,
    decode_events,
    decode_item,
    decode_key,
    decode_profile,
    decode_recommendations,
    encode,
    key_of,
    limits,
)
from schemas.examples import ANNOUNCEMENT, DEAD_LETTER, EVENT, ITEM, PROFILE, RECOMMENDATIONS

NOW_MS = EVENT.event_ts_ms
CANARY = "canary-7d1f"
MINIMAL: dict[str, Any] = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "type": "view", "event_ts_ms": NOW_MS}


def raw(**changes: Any) -> bytes:
    return json.dumps({**MINIMAL, **changes}).encode()


def with_text(text: str) -> bytes:
    """The minimal event with literal text before its closing brace."""
    return raw()[:-1] + text.encode() + b"}"


def read(value: bytes | None, key: bytes | None = b"u1", max_bytes: int = limits.EVENT_MAX_BYTES) -> Event:
    return decode_event(value, key, record_ts_ms=NOW_MS, future_skew_ms=1_000, max_bytes=max_bytes)


def poison(value: bytes | None, key: bytes | None = b"u1") -> Poison:
    with pytest.raises(Poison) as caught:
        read(value, key)
    return caught.value


REFUSED: dict[str, tuple[bytes | None, str, str]] = {
    "null value": (None, "record", "null_value"),
    "empty": (b"", "record", "not_json"),
    "not json": (b"hello", "record", "not_json"),
    "an array": (b"[]", "record", "invalid_field"),
    "null": (b"null", "record", "invalid_field"),
    "cut off": (raw()[:-1], "record", "not_json"),
    "two objects": (raw() + raw(), "record", "not_json"),
    "byte order mark": (b"\xef\xbb\xbf" + raw(), "record", "not_json"),
    "invalid utf-8": (raw().replace(b"i1", b"\xff\xfe"), "record", "not_json"),
    "invalid utf-8 in an ignored field": (raw()[:-1] + b',"x":"\xff"}', "record", "not_json"),
    "lone surrogate": (with_text(r',"list_id":"\ud800"'), "record", "not_json"),
    "NaN": (with_text(',"value":NaN'), "record", "not_json"),
    "Infinity": (with_text(',"value":-Infinity'), "record", "not_json"),
    "NaN in an ignored field": (with_text(',"x":[NaN]'), "record", "not_json"),
    "overflowing number": (with_text(',"value":1e999'), "value", "invalid_field"),
    "numeric string": (raw(event_ts_ms=str(NOW_MS)), "event_ts_ms", "invalid_field"),
    "boolean as a number": (raw(value=True), "value", "invalid_field"),
    "fraction as a time": (raw(event_ts_ms=NOW_MS + 0.5), "event_ts_ms", "invalid_field"),
    "seconds as milliseconds": (raw(event_ts_ms=NOW_MS // 1000), "event_ts_ms", "invalid_field"),
    "microseconds as milliseconds": (raw(event_ts_ms=NOW_MS * 1000), "event_ts_ms", "invalid_field"),
    "number as an id": (raw(item_id=5), "item_id", "invalid_field"),
    "null id": (raw(item_id=None), "item_id", "invalid_field"),
    "empty id": (raw(item_id=""), "item_id", "invalid_field"),
    "missing id": (json.dumps({k: v for k, v in MINIMAL.items() if k != "item_id"}).encode(), "item_id", "missing_field"),
    "control character in an id": (raw(item_id="a\x00b"), "item_id", "invalid_field"),
    "long id": (raw(item_id="x" * 129), "item_id", "invalid_field"),
    "many bytes in an id": (raw(item_id="é" * 65), "item_id", "invalid_field"),
    "unknown type": (raw(type="stare"), "type", "unknown_event_type"),
    "unknown version": (raw(schema_version=2, type=["changed"]), "schema_version", "unknown_version"),
    "rating without value": (raw(type="rating"), "value", "missing_field"),
    "position zero": (raw(position=0), "position", "invalid_field"),
    "future": (raw(event_ts_ms=NOW_MS + 1_001), "event_ts_ms", "future_timestamp"),
    "large context": (raw(context={str(n): n for n in range(33)}), "context", "invalid_field"),
    "nested context": (raw(context={CANARY: {"a": 1}}), "context.*", "invalid_field"),
    "null in context": (raw(context={CANARY: None}), "context.*", "invalid_field"),
    "long string in context": (raw(context={"user_id": "x" * 257}), "context.*", "invalid_field"),
    "too large": (raw(x="x" * limits.EVENT_MAX_BYTES), "record", "too_large"),
    "five megabytes": (b"[" * 5_000_000, "record", "too_large"),
    "deep arrays": (with_text(',"x":' + "[" * 5_000 + "]" * 5_000), "record", "too_deep"),
    "deep objects": (with_text(',"x":' + '{"a":' * 50 + "1" + "}" * 50), "record", "too_deep"),
    "unclosed arrays": (b"[" * 60_000, "record", "not_json"),
    "huge number": (with_text(',"x":' + "9" * 60_000), "record", "not_json"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_record_names_the_field_and_the_kind_of_fault(case: str) -> None:
    value, field, kind = REFUSED[case]
    found = poison(value)
    assert (found.field, found.kind) == (field, kind), found.reason
    assert found.reason.startswith(f"{field}: ")
    assert ";" in found.reason  # what is wrong; what to do
    assert "\n" not in found.reason
    assert str(found) == found.reason


@pytest.mark.parametrize(
    "field", ["event_id", "user_id", "item_id", "type", "value", "event_ts_ms", "list_id", "position", "context", "schema_version"]
)
def test_a_reason_never_repeats_the_value(field: str) -> None:
    for wrong in (CANARY + "\n", [CANARY], {CANARY: [CANARY]}, {CANARY: {CANARY: CANARY}}):
        found = poison(raw(**{field: wrong}))
        assert found.field.split(".")[0] == field
        assert CANARY not in found.field + found.reason
        assert found.__context__ is None  # the parser's own error holds the record
        assert found.__cause__ is None


def test_the_key_must_be_the_user_id() -> None:
    assert read(raw()).user_id == "u1"
    assert read(raw(user_id="zoë"), "zoë".encode()).user_id == "zoë"
    assert [poison(raw(), key).kind for key in (None, b"", b"u2", b"\xff")] == ["empty_key", "empty_key", "key_mismatch", "key_mismatch"]
    assert poison(raw(), b"u2").field == "key"


def test_an_event_at_the_edge_of_the_allowed_skew_is_good() -> None:
    assert read(raw(event_ts_ms=NOW_MS + 1_000)).event_ts_ms == NOW_MS + 1_000


def test_nesting_up_to_the_bound_is_good_and_brackets_in_strings_do_not_count() -> None:
    inside = limits.MAX_DEPTH - 1
    assert read(with_text(',"x":' + "[" * inside + "]" * inside))
    assert poison(with_text(',"x":' + "[" * (inside + 1) + "]" * (inside + 1))).kind == "too_deep"
    assert read(raw(x="[{" * 500, y='\\"[[[[[[[[[[[[[[[[[[[['))
    assert read(raw(x=[{"a": [n]} for n in range(200)]))


def test_the_words_nan_and_infinity_are_good_inside_strings() -> None:
    assert read(raw(item_id="NaN", context={"title": 'Infinity "NaN"'})).item_id == "NaN"


def test_the_last_of_two_equal_names_counts() -> None:
    assert read(with_text(',"item_id":"second"')).item_id == "second"


@pytest.mark.parametrize(
    "text", [b'"' * 65_000, b'"\\' * 32_000, b'{"a":"' + b'\\"' * 30_000, b"[]" * 32_000, b'{"a":' * 13_000, b"NaN" * 21_000]
)
def test_the_dearest_records_under_the_cap_take_milliseconds(text: bytes) -> None:
    started_s = time.process_time()
    poison(text)
    assert time.process_time() - started_s < 0.2  # measured below 0.005; quadratic work would take minutes


def test_columns_hold_exactly_the_good_events_and_poisons_the_others() -> None:
    bad = [value for value, _, _ in REFUSED.values()]
    records: list[tuple[bytes | None, bytes | None]] = []
    for value in bad:
        records += [(b"u1", value), (b"user-42", encode(EVENT)), (b"u1", raw())]
    batch = decode_events(records, record_ts_ms=[NOW_MS] * len(records), future_skew_ms=1_000)
    assert len(batch) == 2 * len(bad)
    assert batch.index == [position for position in range(len(records)) if position % 3]
    assert [position for position, _ in batch.poisons] == list(range(0, len(records), 3))
    assert [(p.field, p.kind) for _, p in batch.poisons] == [(field, kind) for _, field, kind in REFUSED.values()]
    assert batch.event_ids[:2] == [EVENT.event_id, "e1"]
    assert batch.user_ids[:2] == ["user-42", "u1"]
    assert batch.item_ids[:2] == ["film-1198", "i1"]
    assert batch.types[:2] == [EventType.RATING.code, EventType.VIEW.code]
    assert batch.values[0] == 4.5
    assert math.isnan(batch.values[1])
    assert batch.event_ts_ms[:2] == [EVENT.event_ts_ms, NOW_MS]
    assert batch.list_ids[:2] == ["user-42:1207", None]
    assert batch.positions[:2] == [3, None]


@pytest.mark.parametrize(
    ("record_ts_ms", "refused"), [(NOW_MS - 1_001, True), (NOW_MS - 1_000, False), (NOW_MS + 10**12, False), (0, True), (-1, False)]
)
def test_the_time_of_an_event_is_judged_by_its_record_s_timestamp_and_no_clock(record_ts_ms: int, refused: bool) -> None:
    batch = decode_events([(b"u1", raw())], record_ts_ms=[record_ts_ms], future_skew_ms=1_000)
    assert [poison.kind for _, poison in batch.poisons] == ["future_timestamp"] * refused


def test_a_batch_needs_one_timestamp_for_each_record() -> None:
    with pytest.raises(ValueError):
        decode_events([(b"u1", raw())] * 2, record_ts_ms=[NOW_MS], future_skew_ms=1_000)


def test_two_broken_records_do_not_mend_each_other() -> None:
    whole = raw()
    batch = decode_events([(b"u1", whole[:40]), (b"u1", whole[40:])], record_ts_ms=[NOW_MS] * 2, future_skew_ms=0)
    assert (len(batch), [kind.kind for _, kind in batch.poisons]) == (0, ["not_json", "not_json"])


def test_an_empty_batch_is_empty() -> None:
    assert len(decode_events([], record_ts_ms=[], future_skew_ms=0)) == 0


def test_the_other_topics_read_back_and_take_a_null_value_as_a_tombstone() -> None:
    assert decode_item(encode(ITEM), key_of(ITEM)) == ITEM
    assert decode_profile(encode(PROFILE), key_of(PROFILE)) == PROFILE
    assert decode_recommendations(encode(RECOMMENDATIONS), key_of(RECOMMENDATIONS)) == RECOMMENDATIONS
    assert decode_announcement(encode(ANNOUNCEMENT), key_of(ANNOUNCEMENT)) == ANNOUNCEMENT
    assert decode_dead_letter(encode(DEAD_LETTER), key_of(DEAD_LETTER)) == DEAD_LETTER
    assert decode_item(None, b"film-1198") is None
    assert decode_profile(None, b"user-42") is None
    assert decode_recommendations(None, b"user-42") is None
    assert decode_announcement(None, b"ials") is None
    with pytest.raises(Poison):
        decode_dead_letter(None, key_of(DEAD_LETTER))


def test_the_other_topics_refuse_a_wrong_or_empty_key_and_too_many_bytes() -> None:
    for value, key, kind in (
        (encode(ITEM), b"film-1", "key_mismatch"),
        (encode(ITEM), b"", "empty_key"),
        (None, None, "empty_key"),
        (None, b"\xff", "invalid_field"),
        (b" " * (limits.ITEM_MAX_BYTES + 1), b"film-1198", "too_large"),
    ):
        with pytest.raises(Poison) as caught:
            decode_item(value, key)
        assert caught.value.kind == kind


def test_a_fault_inside_a_nested_model_is_named_by_its_path() -> None:
    fields = json.loads(encode(RECOMMENDATIONS))
    fields["items"][1]["propensity"] = 0
    with pytest.raises(Poison) as caught:
        decode_recommendations(json.dumps(fields).encode(), key_of(RECOMMENDATIONS))
    assert caught.value.field == "items.1.propensity"
    vector = json.loads(encode(ITEM))
    vector["embeddings"]["text"][1] = "x"
    with pytest.raises(Poison) as caught:
        decode_item(json.dumps(vector).encode(), key_of(ITEM))
    assert caught.value.field == "embeddings.*"


def test_a_key_is_an_id() -> None:
    assert decode_key("zoë".encode()) == "zoë"
    for wrong in (None, b"", b"\xff", b"a\x00", b"x" * 129, b"\xed\xa0\x80"):
        with pytest.raises(Poison):
            decode_key(wrong)
