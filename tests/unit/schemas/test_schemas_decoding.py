"""Reading events: what is refused, how it is named, and that nothing else is touched."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from typing import Any

import pytest

from schemas import (
    Event,
    EventType,
    Item,
    Poison,
    UserProfile,
    decode_announcement,
    decode_dead_letter,
    decode_event,
    decode_events,
    decode_item,
    decode_key,
    decode_profile,
    decode_recommendations,
    encode,
    from_fields,
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
    "lone surrogate": (with_text(r',"item_id":"\ud800"'), "item_id", "invalid_field"),
    "NaN": (with_text(',"type":"rating","value":NaN'), "value", "invalid_field"),
    "Infinity": (with_text(',"event_ts_ms":-Infinity'), "event_ts_ms", "invalid_field"),
    "overflowing number": (with_text(',"type":"rating","value":1e999'), "value", "invalid_field"),
    "numeric string": (raw(event_ts_ms=str(NOW_MS)), "event_ts_ms", "invalid_field"),
    "boolean as a number": (raw(type="rating", value=True), "value", "invalid_field"),
    "rating out of bounds": (raw(type="rating", value=1_000_001), "value", "invalid_field"),
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
    "future": (raw(event_ts_ms=NOW_MS + 1_001), "event_ts_ms", "future_timestamp"),
    "too large": (raw(x="x" * limits.EVENT_MAX_BYTES), "record", "too_large"),
    "five megabytes": (b"[" * 5_000_000, "record", "too_large"),
    "deep arrays": (with_text(',"x":' + "[" * 5_000 + "]" * 5_000), "record", "too_deep"),
    "deep objects": (with_text(',"x":' + '{"a":' * 70 + "1" + "}" * 70), "record", "too_deep"),
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


TRIMMED: dict[str, tuple[bytes, dict[str, Any], set[str]]] = {
    "a price in rupiah": (raw(type="purchase", value=15_750_000), {"value": 15_750_000.0}, set()),
    "null in every optional field": (
        raw(value=None, list_id=None, position=None, session=None, context=None, schema_version=None),
        {},
        set(),
    ),
    "a huge value": (raw(value=1e16), {}, {"value"}),
    "a value as text": (raw(value="4.5"), {}, {"value"}),
    "a boolean value": (raw(value=True), {}, {"value"}),
    "NaN": (with_text(',"value":NaN'), {}, {"value"}),
    "Infinity in the context": (with_text(',"context":{"a":-Infinity,"b":1}'), {"context": {"b": 1}}, {"context"}),
    "NaN in an ignored field": (with_text(',"x":[NaN]'), {}, set()),
    "an overflowing number": (with_text(',"value":1e999'), {}, {"value"}),
    "position zero": (raw(position=0, value=2), {"value": 2.0}, {"position"}),
    "position far below": (raw(position=10_001), {}, {"position"}),
    "a fraction as a position": (raw(position=3.0), {}, {"position"}),
    "an empty list id": (raw(list_id=""), {}, {"list_id"}),
    "a long list id": (raw(list_id="x" * 129), {}, {"list_id"}),
    "a number as a list id": (raw(list_id=17), {}, {"list_id"}),
    "an empty session": (raw(session=""), {}, {"session"}),
    "a number as a session": (raw(session=17), {}, {"session"}),
    "a session of 129 bytes outside ASCII": (raw(session="é" * 64 + "x"), {}, {"session"}),
    "half an emoji in a list id": (with_text(r',"list_id":"\ud83d"'), {}, {"list_id"}),
    "half an emoji in the context": (with_text(r',"context":{"q":"so \ud83d"}'), {"context": {"q": "so \ufffd"}}, {"context"}),
    "forty entries": (raw(context={str(n): n for n in range(40)}), {"context": {str(n): n for n in range(32)}}, {"context"}),
    "a nested entry": (raw(context={"a": {"b": 1}, "c": 1}), {"context": {"c": 1}}, {"context"}),
    "a list as an entry": (raw(context={"a": [1], "c": True}), {"context": {"c": True}}, {"context"}),
    "null as an entry": (raw(context={"a": None, "c": 1.5}), {"context": {"c": 1.5}}, set()),
    "a long URL": (raw(context={"url": "x" * 3_000}), {"context": {"url": "x" * 256}}, {"context"}),
    "a long name": (raw(context={"x" * 65: 1, "c": 1}), {"context": {"c": 1}}, {"context"}),
    "an empty name": (raw(context={"": 1}), {}, {"context"}),
    "text as the context": (raw(context="tv"), {}, {"context"}),
    "an array as the context": (raw(context=[{"a": 1}]), {}, {"context"}),
    "deep context": (with_text(',"context":' + '{"a":' * 40 + "1" + "}" * 40), {}, {"context"}),
    "all at once": (
        raw(value=1e99, position=0, list_id="", session="")[:-1]
        + b',"context":'
        + json.dumps({"page": "x" * 257, "deep": {"a": {}}, **{str(n): n for n in range(40)}}).encode()
        + b"}",
        {"context": {"page": "x" * 256, **{str(n): n for n in range(31)}}},
        {"value", "position", "list_id", "session", "context"},
    ),
}


@pytest.mark.parametrize("case", TRIMMED)
def test_a_fault_in_an_optional_field_costs_that_field_and_is_counted_but_never_the_event(case: str) -> None:
    """C05. The batch and the single event agree on what is kept and counted."""
    value, given, fields = TRIMMED[case]
    trimmed: Counter[str] = Counter()
    event = decode_event(value, b"u1", record_ts_ms=NOW_MS, future_skew_ms=0, trimmed=trimmed)
    kind = {"type": "purchase"} if b"purchase" in value else {}
    assert event == Event.model_validate({**MINIMAL, **kind, **given})
    assert trimmed == Counter(dict.fromkeys(fields, 1))
    batch = decode_events([(b"u1", raw()), (b"u1", value), (b"u1", value)], record_ts_ms=[NOW_MS] * 3, future_skew_ms=0)
    assert (batch.index, batch.poisons) == ([0, 1, 2], [])
    assert batch.trimmed == Counter(dict.fromkeys(fields, 2))
    assert (batch.list_ids[1:], batch.positions[1:]) == ([event.list_id] * 2, [event.position] * 2)
    assert (batch.sessions[1:], batch.contexts[1:]) == ([event.session] * 2, [event.context or None] * 2)
    assert [None if math.isnan(number) else number for number in batch.values[1:]] == [event.value] * 2


def test_what_is_trimmed_of_a_refused_event_is_not_counted() -> None:
    late = raw(position=0, event_ts_ms=NOW_MS + 5_000)
    batch = decode_events(
        [(b"u1", late), (b"u2", raw(position=0)), (b"u1", raw(position=0))], record_ts_ms=[NOW_MS] * 3, future_skew_ms=1_000
    )
    assert (batch.index, batch.trimmed) == ([2], Counter(position=1))


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (NOW_MS // 1000, "is it in seconds? multiply by 1000"),
        (NOW_MS / 1000, "is it in seconds? multiply by 1000"),
        (NOW_MS * 1000, "is it in microseconds? divide by 1000"),
        (NOW_MS * 1_000_000, "is it in nanoseconds? divide by 1,000,000"),
        (NOW_MS + 0.5, "round it to whole milliseconds"),
    ],
)
def test_a_time_in_another_unit_is_refused_with_the_remedy(given: float, hint: str) -> None:
    """C20, events."""
    found = poison(raw(event_ts_ms=given))
    assert found.field == "event_ts_ms" and hint in found.reason


@pytest.mark.parametrize("field", ["event_id", "user_id", "item_id", "type", "event_ts_ms", "schema_version"])
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
    assert batch.sessions[:2] == [EVENT.session, None]
    assert batch.contexts[:2] == [{"device": "tv", "autoplay": False}, None]


def test_columns_of_plain_events_and_of_others_do_not_run_into_one_another() -> None:
    """No plain event of this batch names a list, a position or a visit, so that these columns start empty."""
    full = [raw(list_id=f"l{n}", position=n, session=f"s{n}", context={"n": n}) for n in (1, 2)]
    batch = decode_events([(b"u1", value) for value in (raw(), full[0], raw(), full[1])], record_ts_ms=[NOW_MS] * 4, future_skew_ms=0)
    assert batch.list_ids == [None, "l1", None, "l2"]
    assert batch.positions == [None, 1, None, 2]
    assert batch.sessions == [None, "s1", None, "s2"]
    assert batch.contexts == [None, {"n": 1}, None, {"n": 2}]


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


SECONDS = NOW_MS // 1000
ITEM_KEPT: dict[str, tuple[dict[str, Any], dict[str, Any], set[str]]] = {
    "null in every optional field": (
        {n: None for n in Item.model_fields if n not in ("item_id", "available")} | {"available": False}, {"available": False}, set()
    ),
    "null availability": ({"available": None}, {}, set()),
    "a long text and title": ({"text": "t" * 9_000, "title": "a" * 600}, {"text": "t" * 8_192, "title": "a" * 512}, {"text", "title"}),
    "45 tags": ({"categories": [str(n) for n in range(45)]}, {"categories": [str(n) for n in range(32)]}, {"categories"}),
    "odd tags": ({"categories": ["a", "", None, 7, "b" * 300]}, {"categories": ["a", "b" * 256]}, {"categories"}),
    "a title that is a number": ({"title": 1984, "categories": "jazz", "available": False}, {"available": False}, {"title", "categories"}),
    "attributes": (
        {"numeric_attributes": {"a": 1, "b": "2", "c": True, "d": None}, "categorical_attributes": {"a": "x" * 300, "b": 2, "c": None}},
        {"numeric_attributes": {"a": 1.0}, "categorical_attributes": {"a": "x" * 256}},
        {"numeric_attributes", "categorical_attributes"},
    ),
    "3,072 dimensions": ({"embeddings": {"text": [0.5] * 3_072}}, {"embeddings": {"text": [0.5] * 3_072}}, set()),
    "odd embeddings": (
        {"embeddings": {"a": [0.5], "b": [], "c": [1, "x"], "d": [math.nan], "e": [1e7], "f": [0.1] * 3_073, "g": None, "h": "", "i": [2]}},
        {"embeddings": {"a": [0.5], "i": [2]}},
        {"embeddings"},
    ),
    "five embeddings": ({"embeddings": {str(n): [n] for n in range(5)}}, {"embeddings": {str(n): [n] for n in range(4)}}, {"embeddings"}),
    "times in seconds of an unavailable item": (
        {"available": False, "published_ts_ms": SECONDS, "expires_ts_ms": SECONDS},
        {"available": False},
        {"published_ts_ms", "expires_ts_ms"},
    ),
    "a film of 1950": ({"published_ts_ms": -631_152_000_000}, {"published_ts_ms": -631_152_000_000}, set()),
    "a film of 1 January 1970": ({"published_ts_ms": 0}, {"published_ts_ms": 0}, set()),
    "a film of 25 January 1970": ({"published_ts_ms": 24 * 86_400_000}, {"published_ts_ms": 24 * 86_400_000}, set()),
    "never": ({"expires_ts_ms": limits.CALENDAR_MAX_MS}, {"expires_ts_ms": limits.CALENDAR_MAX_MS}, set()),
    "expired long ago": ({"expires_ts_ms": 300_000_000_000}, {"expires_ts_ms": 300_000_000_000}, set()),
}  # fmt: skip


@pytest.mark.parametrize("case", ITEM_KEPT)
def test_a_fault_in_an_optional_field_never_keeps_an_item_from_being_applied(case: str) -> None:
    """C06, C19 and what C20 admits."""
    given, kept, fields = ITEM_KEPT[case]
    trimmed: Counter[str] = Counter()
    assert decode_item(json.dumps({"item_id": "i", **given}).encode(), b"i", trimmed=trimmed) == Item(item_id="i", **kept)
    assert trimmed == Counter(dict.fromkeys(fields, 1))


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({"published_ts_ms": SECONDS}, "published_ts_ms", "seconds"),
        ({"published_ts_ms": -631_152_000 + 1}, "published_ts_ms", "seconds"),
        ({"published_ts_ms": SECONDS + 0.5}, "published_ts_ms", "is it in seconds? multiply by 1000"),
        ({"expires_ts_ms": SECONDS}, "expires_ts_ms", "seconds times 1000"),
        ({"expires_ts_ms": 1_814_400_000}, "expires_ts_ms", "seconds"),  # midnight UTC as seconds too
        ({"expires_ts_ms": 253_402_300_799}, "expires_ts_ms", "seconds"),  # the last second of 9999
        ({"expires_ts_ms": 0}, "expires_ts_ms", "leave it out if the item never expires"),
        ({"expires_ts_ms": -1}, "expires_ts_ms", "leave it out if the item never expires"),
        ({"published_ts_ms": NOW_MS * 1000}, "published_ts_ms", "is it in microseconds? divide by 1000"),
        ({"expires_ts_ms": NOW_MS * 1_000_000}, "expires_ts_ms", "is it in nanoseconds? divide by 1,000,000"),
        ({"expires_ts_ms": "2027-01-01"}, "expires_ts_ms", "a string"),
        ({"available": "false", "title": None}, "available", "a string"),
        ({"available": 0}, "available", "a number"),
    ],
)
def test_a_wrong_time_or_availability_refuses_an_item_and_names_the_remedy(given: dict[str, Any], field: str, said: str) -> None:
    """C20: an item that would be listed too long or never is refused, by the reader and by the publisher."""
    with pytest.raises(Poison) as read_:
        decode_item(json.dumps({"item_id": "i", **given}).encode(), b"i")
    with pytest.raises(Poison) as written:
        from_fields(Item, {"item_id": "i", **given})
    for poison_ in (read_.value, written.value):
        assert (poison_.field, poison_.kind) == (field, "invalid_field") and said in poison_.reason


def test_a_profile_is_read_whatever_its_optional_fields_hold() -> None:
    trimmed: Counter[str] = Counter()
    value = {"user_id": "u", "preferred_categories": ["jazz", None, 3], "numeric_attributes": None, "updated_ts_ms": SECONDS}
    assert decode_profile(json.dumps(value).encode(), b"u", trimmed=trimmed) == UserProfile(user_id="u", preferred_categories=("jazz",))
    assert trimmed == Counter(preferred_categories=1, updated_ts_ms=1)


def test_null_is_not_given_in_what_this_system_writes_too() -> None:
    for example, names, decode in (
        (RECOMMENDATIONS, ["model_versions"], decode_recommendations),
        (ANNOUNCEMENT, ["challenger_metrics", "champion_metrics", "reason"], decode_announcement),
    ):
        fields = json.loads(encode(example))
        without = type(example).model_validate({k: v for k, v in fields.items() if k not in names})
        assert decode(json.dumps(fields | dict.fromkeys(names)).encode(), key_of(example)) == without


def test_a_program_s_own_call_cuts_what_is_too_long_and_refuses_what_is_wrong() -> None:
    shortened: Counter[str] = Counter()
    item = from_fields(Item, {"item_id": "i", "text": "t" * 9_000, "title": None, "categories": ["c"] * 45}, shortened=shortened)
    assert (len(item.text), item.title, len(item.categories), shortened) == (8_192, "", 32, Counter(text=1, categories=1))
    wrong: list[tuple[type[Any], dict[str, Any]]] = [
        (Item, {"item_id": "i", "title": 7}),
        (Item, {"item_id": "i", "embeddings": {"text": [0.1] * 3_073}}),
        (Event, {**MINIMAL, "position": 0}),
        (Event, {**MINIMAL, "context": {"a": {}}}),
        (Event, {**MINIMAL, "value": math.nan}),
    ]
    for model, fields in wrong:
        with pytest.raises(Poison) as caught:
            from_fields(model, fields, shortened=shortened)
        assert caught.value.field.split(".")[0] == list(fields)[-1]
    assert shortened == Counter(text=1, categories=1)


def test_a_fault_inside_a_nested_model_is_named_by_its_path() -> None:
    fields = json.loads(encode(RECOMMENDATIONS))
    fields["items"][1]["propensity"] = 0
    with pytest.raises(Poison) as caught:
        decode_recommendations(json.dumps(fields).encode(), key_of(RECOMMENDATIONS))
    assert caught.value.field == "items.1.propensity"
    letter = json.loads(encode(ANNOUNCEMENT))
    letter["challenger_metrics"] = {CANARY: "x"}
    with pytest.raises(Poison) as caught:
        decode_announcement(json.dumps(letter).encode(), key_of(ANNOUNCEMENT))
    assert caught.value.field == "challenger_metrics.*"


def test_a_key_is_an_id() -> None:
    assert decode_key("zoë".encode()) == "zoë"
    for wrong in (None, b"", b"\xff", b"a\x00", b"x" * 129, b"\xed\xa0\x80"):
        with pytest.raises(Poison):
            decode_key(wrong)
