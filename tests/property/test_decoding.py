"""For any bytes, decoding returns a record or raises Poison; encoded records decode to themselves."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

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
    key_of,
    limits,
)
from schemas.examples import EVENT

NOW_MS = limits.TIMESTAMP_MAX_MS
Record = tuple[bytes | None, bytes | None]

characters = st.characters(codec="utf-8", exclude_categories=["Cc"])
ids = st.text(characters, min_size=1, max_size=limits.ID_MAX_BYTES).filter(lambda text: len(text.encode()) <= limits.ID_MAX_BYTES)
names = st.text(characters, min_size=1, max_size=limits.NAME_MAX_CHARS)
labels = st.text(st.characters(codec="utf-8"), max_size=40)
numbers = st.floats(-limits.MAX_NUMBER, limits.MAX_NUMBER)
scalars = st.booleans() | st.integers(-limits.MAX_SAFE_INTEGER, limits.MAX_SAFE_INTEGER) | numbers | labels
events = st.builds(
    Event,
    event_id=ids,
    user_id=ids,
    item_id=ids,
    type=st.sampled_from(EventType),
    value=st.floats(-limits.MAX_RATING, limits.MAX_RATING),
    event_ts_ms=st.integers(limits.TIMESTAMP_MIN_MS, limits.TIMESTAMP_MAX_MS),
    list_id=st.none() | ids,
    position=st.none() | st.integers(1, limits.MAX_POSITION),
    session=st.none() | ids,
    context=st.dictionaries(names, scalars, max_size=4),
)
items = st.builds(
    Item,
    item_id=ids,
    title=labels,
    categories=st.lists(labels.filter(bool), max_size=3),
    numeric_attributes=st.dictionaries(names, numbers, max_size=3),
    categorical_attributes=st.dictionaries(names, labels, max_size=3),
    embeddings=st.dictionaries(names, st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5), max_size=2),
    available=st.booleans(),
    published_ts_ms=st.none()
    | st.integers(limits.CALENDAR_MIN_MS, -limits.SECONDS_MAX)
    | st.integers(limits.SECONDS_MAX, limits.CALENDAR_MAX_MS)
    | st.integers(-40, 40).map(lambda day: day * 86_400_000),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Generate an event with one field replaced, or with bytes changed, cut or added."""
    fields: dict[str, Any] = json.loads(encode(EVENT))
    if draw(st.booleans()):
        fields[draw(st.sampled_from(sorted(fields)))] = draw(anything)
    value = bytearray(json.dumps(fields).encode())
    if draw(st.booleans()):
        start = draw(st.integers(0, len(value)))
        value[start : start + draw(st.integers(0, 5))] = draw(st.binary(max_size=5))
    return bytes(value)


raws = st.none() | st.binary(max_size=200) | damaged() | anything.map(lambda tree: json.dumps(tree).encode())
keys = st.none() | st.just(b"user-42") | st.binary(max_size=8)


@given(value=raws, key=keys)
def test_only_poison_escapes_from_any_decoder(value: bytes | None, key: bytes | None) -> None:
    refused: list[Poison] = []
    for decode in (decode_item, decode_profile, decode_recommendations, decode_announcement, decode_dead_letter):
        try:
            decode(value, key)
        except Poison as poison:
            refused.append(poison)
    try:
        decode_key(key)
    except Poison as poison:
        refused.append(poison)
    assert all(poison.reason.startswith(f"{poison.field}: ") for poison in refused)


@given(records=st.lists(st.tuples(keys, raws), max_size=6))
def test_a_batch_accepts_exactly_what_is_accepted_one_by_one(records: list[Record]) -> None:
    batch = decode_events(records, record_ts_ms=[NOW_MS] * len(records), future_skew_ms=0)
    good: list[tuple[int, Event]] = []
    bad: list[tuple[int, str, str]] = []
    for position, (key, value) in enumerate(records):
        try:
            good.append((position, decode_event(value, key, record_ts_ms=NOW_MS, future_skew_ms=0)))
        except Poison as poison:
            bad.append((position, poison.kind, poison.reason))
    assert batch.index == [position for position, _ in good]
    assert batch.item_ids == [event.item_id for _, event in good]
    assert [(position, poison.kind, poison.reason) for position, poison in batch.poisons] == bad


@st.composite
def nearly_plain(draw: st.DrawFn) -> Record:
    """Generate a flat event as most producers write it, with up to two fields odd, missing or added; its key mostly matches."""
    fields: dict[str, Any] = {
        "event_id": "e1", "user_id": draw(st.sampled_from(["u", "user 2", "~" * 128])), "item_id": "i", "type": "rating", "value": 4,
        "event_ts_ms": 1_700_000_000_000,
    }  # fmt: skip
    others = ["list_id", "position", "session", "schema_version", "context", "other"]
    for name in draw(st.lists(st.sampled_from([*fields, *others]), max_size=2)):
        fields[name] = draw(st.sampled_from(ODD_VALUES) | anything)
    for name in draw(st.lists(st.sampled_from(sorted(fields)), max_size=1)):
        del fields[name]
    value = json.dumps(fields, ensure_ascii=draw(st.booleans()))
    fitting = str(fields.get("user_id")).encode(errors="surrogatepass")
    return draw(st.just(fitting) | st.none() | st.just(b"u")), value.encode(errors="surrogatepass") + draw(
        st.sampled_from([b"", b" ", b"x"])
    )


ODD_VALUES: list[Any] = [
    None, True, False, 0, 1, 1.0, -1, 10_000, 10_001, 1e6, -1e6, 1_000_001, 1e15, 10**15 + 1,
    2**63, 2**64, 1e300, "", " ", "a" * 128, "a" * 129,
    "\x7f", "é", "\x1f",
    "rating", "play", "RATING", float("nan"), float("inf"), limits.TIMESTAMP_MIN_MS, limits.TIMESTAMP_MIN_MS - 1, limits.TIMESTAMP_MAX_MS,
    limits.TIMESTAMP_MAX_MS + 1, {}, [], {"a": 1},
]  # fmt: skip


@given(records=st.lists(nearly_plain(), min_size=1, max_size=4), now_ms=st.sampled_from([-1, NOW_MS, 1_600_000_000_000]))
def test_plain_events_are_read_in_columns_as_the_model_reads_them(records: list[Record], now_ms: int) -> None:
    batch = decode_events(records, record_ts_ms=[now_ms] * len(records), future_skew_ms=0)
    good: list[tuple[int, Event]] = []
    bad: list[tuple[int, str, str]] = []
    trimmed: Counter[str] = Counter()
    for position, (key, value) in enumerate(records):
        try:
            good.append((position, decode_event(value, key, record_ts_ms=now_ms, future_skew_ms=0, trimmed=trimmed)))
        except Poison as poison:
            bad.append((position, poison.kind, poison.reason))
    columns = [
        batch.index,
        batch.event_ids,
        batch.user_ids,
        batch.item_ids,
        batch.types,
        batch.event_ts_ms,
        batch.list_ids,
        batch.positions,
        batch.sessions,
        batch.contexts,
    ]
    assert list(zip(*columns, strict=True)) == [
        (at, e.event_id, e.user_id, e.item_id, e.type.code, e.event_ts_ms, e.list_id, e.position, e.session, e.context or None)
        for at, e in good
    ]
    assert [None if value != value else value for value in batch.values] == [event.value for _, event in good]
    assert all(type(value) is float for value in batch.values)
    assert batch.trimmed == trimmed
    assert [(position, poison.kind, poison.reason) for position, poison in batch.poisons] == bad


OPTIONAL = {
    Event: ("value", "list_id", "position", "session", "context"),
    Item: ("title", "categories", "text", "numeric_attributes", "categorical_attributes", "embeddings"),
    UserProfile: ("numeric_attributes", "categorical_attributes", "preferred_categories", "updated_ts_ms"),
}
ESSENTIAL: dict[Any, dict[str, Any]] = {
    Event: {"event_id": "e1", "user_id": "u", "item_id": "i", "type": "play", "event_ts_ms": 1_700_000_000_000},
    Item: {"item_id": "i", "available": False, "expires_ts_ms": 1_700_000_000_000},
    UserProfile: {"user_id": "u"},
}
DECODERS: dict[Any, Any] = {
    Event: partial(decode_event, record_ts_ms=NOW_MS, future_skew_ms=0), Item: decode_item, UserProfile: decode_profile
}  # fmt: skip
# what nearly fits, so that parts of it are kept
nearly = st.lists(anything | labels, max_size=40) | st.dictionaries(names | st.text(max_size=80), anything | numbers, max_size=40)


@given(
    model=st.sampled_from([Event, Item, UserProfile]),
    junk=st.lists(anything | nearly | st.sampled_from(ODD_VALUES), min_size=6, max_size=6),
)
def test_junk_in_optional_fields_never_costs_the_record(model: Any, junk: list[Any]) -> None:
    """C05, C06: required fields decode as written, and the kept optional fields are valid."""
    fields = {**dict(zip(OPTIONAL[model], junk, strict=False)), **ESSENTIAL[model]}
    trimmed: Counter[str] = Counter()
    record = DECODERS[model](
        json.dumps(fields).encode(), next(iter(fields[n] for n in ("user_id", "item_id") if n in fields)).encode(), trimmed=trimmed
    )
    assert {name: getattr(record, name) for name in ESSENTIAL[model]} == ESSENTIAL[model]
    assert trimmed.keys() <= set(OPTIONAL[model]) and set(trimmed.values()) <= {1}
    assert model.model_validate_json(encode(record)) == record
    given = {name for name in OPTIONAL[model] if fields.get(name) not in (None, [], {}, "")}
    lost = {name for name in given if getattr(record, name) in (None, (), {}, "")} - {n for n in given if _only_nulls(fields[n])}
    assert lost <= trimmed.keys()  # nothing vanishes uncounted


def _only_nulls(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    return all(part is None for part in parts)


@given(event=events)
def test_a_valid_event_reads_back_equal(event: Event) -> None:
    assert decode_event(encode(event), key_of(event), record_ts_ms=NOW_MS, future_skew_ms=0) == event


@given(item=items)
def test_a_valid_item_reads_back_equal(item: Item) -> None:
    assert decode_item(encode(item), key_of(item)) == item


@given(good=st.lists(events, max_size=5), bad=st.lists(st.binary(max_size=40), max_size=5), order=st.randoms(use_true_random=False))
def test_a_batch_with_poisons_yields_exactly_the_good_ones(good: list[Event], bad: list[bytes], order: Any) -> None:
    entries: list[tuple[Event | None, Record]] = [(event, (key_of(event), encode(event))) for event in good]
    entries += [(None, (b"u", value)) for value in bad]
    order.shuffle(entries)
    batch = decode_events([record for _, record in entries], record_ts_ms=[NOW_MS] * len(entries), future_skew_ms=0)
    kept = [(position, event) for position, (event, _) in enumerate(entries) if event is not None]
    assert batch.index == [position for position, _ in kept]
    columns = zip(
        batch.event_ids,
        batch.user_ids,
        batch.item_ids,
        batch.types,
        batch.values,
        batch.event_ts_ms,
        batch.list_ids,
        batch.positions,
        batch.sessions,
        batch.contexts,
        strict=True,
    )
    assert list(columns) == [
        (e.event_id, e.user_id, e.item_id, e.type.code, e.value, e.event_ts_ms, e.list_id, e.position, e.session, e.context or None)
        for _, e in kept
    ]  # fmt: skip
    assert len(batch.poisons) == len(bad)


def test_a_context_survives_beside_a_record_without_a_brace() -> None:
    event = Event(event_id="e", user_id="u", item_id="i", type=EventType.VIEW, event_ts_ms=100_000_000_000, context={"page": "home"})
    for records in ([(b"u", b""), (b"u", encode(event))], [(b"u", encode(event)), (b"u", b"1")]):
        batch = decode_events(records, record_ts_ms=[NOW_MS] * 2, future_skew_ms=0)
        assert batch.contexts == [{"page": "home"}] and len(batch.poisons) == 1
