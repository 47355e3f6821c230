"""Bytes to wire models and back. Whatever a record holds, only `Poison` comes out of a refused one.

A record is validated by itself: joined into one array, two broken records could mend each other. Size, nesting and key are looked at before
the parser runs, so that its work and memory are bounded by the cap on bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import nan
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from schemas import contracts, limits
from schemas.announcements import ModelAnnouncement
from schemas.catalogue import Item
from schemas.contracts import Contract, W
from schemas.dead_letters import DeadLetter
from schemas.errors import Poison, SchemaError
from schemas.events import Event
from schemas.fields import Wire
from schemas.lists import Recommendations
from schemas.plain_events import plain_ones, read_plain
from schemas.profiles import UserProfile
from schemas.reasons import poison_of

_CONTRACT_OF: Final[Mapping[type[Wire], Contract[Any]]] = {contract.model: contract for contract in contracts.CONTRACTS}
# The closing quote is optional: an unterminated string then ends the search at once instead of starting it again at each of its quotes.
_STRINGS: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_BRACKETS_ONLY: Final = bytes(set(range(256)) - set(b"[]{}"))
_CURLY_TO_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_COLUMNS: Final = ("index", "event_ids", "user_ids", "item_ids", "types", "values", "event_ts_ms", "list_ids", "positions")
_validate_event: Final = Event.__pydantic_validator__.validate_json  # what `model_validate_json` calls, without its keyword handling


@dataclass(slots=True)
class DecodedEvents:
    """N good events of a batch as columns, and the refused records.

    `index[i]` is the position of good event *i* in the input, ascending; every column has length N. `types` holds `EventType.code`s,
    `values` is NaN where an event has none, `list_ids` and `positions` are None where an event names no list. `poisons` holds (position in
    the input, why).
    """

    index: list[int] = field(default_factory=list)
    event_ids: list[str] = field(default_factory=list)
    user_ids: list[str] = field(default_factory=list)
    item_ids: list[str] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    event_ts_ms: list[int] = field(default_factory=list)
    list_ids: list[str | None] = field(default_factory=list)
    positions: list[int | None] = field(default_factory=list)
    poisons: list[tuple[int, Poison]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.index)


def decode_event(
    value: bytes | None, key: bytes | None, *, record_ts_ms: int, future_skew_ms: int, max_bytes: int = limits.EVENT_MAX_BYTES
) -> Event:
    """One event. Raises Poison if it, its key or its time (more than `future_skew_ms` after `record_ts_ms`) is refused.

    `record_ts_ms` is the timestamp of the Kafka record, −1 if it has none: then the time is not checked. No clock is read, so that the
    same record is refused today, in a replay and in a rebuild months later, or never.
    """
    return _event(value, key, record_ts_ms, future_skew_ms, max_bytes)


def _event(value: bytes | None, key: bytes | None, record_ts_ms: int, future_skew_ms: int, max_bytes: int) -> Event:
    if value is None:
        raise Poison("record", "record: got null; send an event, this topic knows no tombstones", "null_value")
    _check_bytes(value, max_bytes)
    if not key:
        raise Poison("key", "key: got nothing; send the user id as the Kafka key, in UTF-8", "empty_key")
    event = _validated(Event, _validate_event, value)
    if event.user_id.encode() != key:
        raise Poison("key", "key: differs from user_id; send the same user id as the Kafka key, in UTF-8", "key_mismatch")
    if 0 <= record_ts_ms < event.event_ts_ms - future_skew_ms:
        raise Poison(
            "event_ts_ms",
            f"event_ts_ms: got a time more than {future_skew_ms} ms ahead of the Kafka record's timestamp; "
            "send Unix time in milliseconds, and check the clock",
            "future_timestamp",
        )
    return event


def decode_events(
    records: Sequence[tuple[bytes | None, bytes | None]],
    *,
    record_ts_ms: Sequence[int],
    future_skew_ms: int,
    max_bytes: int = limits.EVENT_MAX_BYTES,
) -> DecodedEvents:
    """A batch of (key, value) records as columns; a refused record becomes a Poison and touches no other.

    `record_ts_ms[i]` is the timestamp of record *i*, as in `decode_event`. Raises ValueError if there are more or fewer than records.
    """
    if len(record_ts_ms) != len(records):
        raise ValueError(f"record_ts_ms holds {len(record_ts_ms)} times for {len(records)} records")
    keys, values = zip(*records, strict=True) if records else ((), ())
    plain = plain_ones(values, max_bytes)
    is_all = len(plain) == len(records)
    positions, columns = read_plain(
        values if is_all else [values[i] or b"" for i in plain],
        keys if is_all else [keys[i] for i in plain],
    )
    index = [plain[position] for position in positions]
    times = columns[5]
    if times and max(times) - future_skew_ms > min(record_ts_ms):  # else none is ahead
        in_time = [at for at, i in enumerate(index) if not 0 <= record_ts_ms[i] < times[at] - future_skew_ms]
        index = [index[at] for at in in_time]
        columns = tuple([column[at] for at in in_time] for column in columns)  # type: ignore[assignment]
    decoded = DecodedEvents(index, *columns)
    if len(index) < len(records):
        _decode_others(decoded, records, record_ts_ms, future_skew_ms, max_bytes)
    return decoded


def _decode_others(
    decoded: DecodedEvents,
    records: Sequence[tuple[bytes | None, bytes | None]],
    record_ts_ms: Sequence[int],
    future_skew_ms: int,
    max_bytes: int,
) -> None:
    """Validate the records that are not in `decoded` yet with the model, and put their columns where they belong."""
    done = set(decoded.index)
    for position, (key, value) in enumerate(records):
        if position in done:
            continue
        try:
            event = _event(value, key, record_ts_ms[position], future_skew_ms, max_bytes)
        except Poison as poison:
            # Without the traceback, whose frames would keep every refused record alive as long as the batch.
            decoded.poisons.append((position, poison.with_traceback(None)))
            continue
        decoded.index.append(position)
        decoded.event_ids.append(event.event_id)
        decoded.user_ids.append(event.user_id)
        decoded.item_ids.append(event.item_id)
        decoded.types.append(event.type.code)
        decoded.values.append(nan if event.value is None else event.value)
        decoded.event_ts_ms.append(event.event_ts_ms)
        decoded.list_ids.append(event.list_id)
        decoded.positions.append(event.position)
    order = sorted(range(len(decoded)), key=decoded.index.__getitem__)
    for name in _COLUMNS:
        column = getattr(decoded, name)
        setattr(decoded, name, [column[at] for at in order])


def decode_item(value: bytes | None, key: bytes | None, *, max_bytes: int = limits.ITEM_MAX_BYTES) -> Item | None:
    """An item, or None for a tombstone (`decode_key` says of which item). Raises Poison."""
    return _decode(contracts.ITEMS, value, key, max_bytes)


def decode_profile(value: bytes | None, key: bytes | None, *, max_bytes: int = limits.PROFILE_MAX_BYTES) -> UserProfile | None:
    """A profile, or None for a tombstone (`decode_key` says of which user). Raises Poison."""
    return _decode(contracts.PROFILES, value, key, max_bytes)


def decode_recommendations(
    value: bytes | None, key: bytes | None, *, max_bytes: int = limits.RECOMMENDATIONS_MAX_BYTES
) -> Recommendations | None:
    """A user's list, or None for a tombstone. Raises Poison."""
    return _decode(contracts.RECOMMENDATIONS, value, key, max_bytes)


def decode_announcement(
    value: bytes | None, key: bytes | None, *, max_bytes: int = limits.ANNOUNCEMENT_MAX_BYTES
) -> ModelAnnouncement | None:
    """A model announcement, or None for a tombstone (the kind was retired). Raises Poison."""
    return _decode(contracts.MODELS, value, key, max_bytes)


def decode_dead_letter(value: bytes | None, key: bytes | None, *, max_bytes: int = limits.DEAD_LETTER_MAX_BYTES) -> DeadLetter:
    """A dead letter. Raises Poison."""
    letter = _decode(contracts.DEAD_LETTERS, value, key, max_bytes)
    assert letter is not None  # this contract has no tombstone
    return letter


def decode_key(key: bytes | None) -> str:
    """The id in a Kafka key, for tombstones, which have nothing else. Raises Poison if it is not an id."""
    if not key:
        raise Poison("key", "key: got nothing; send the record's id as the Kafka key, in UTF-8", "empty_key")
    text = key.decode(errors="replace")
    if text.encode() != key or len(key) > limits.ID_MAX_BYTES or any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in text):
        raise Poison("key", "key: not an id; send 1 to 128 bytes of UTF-8 without control characters", "invalid_field")
    return text


def from_fields(model: type[W], fields: Mapping[str, Any]) -> W:
    """A wire model from a mapping that a person or a program wrote; unlike a reader it refuses unknown fields. Raises Poison."""
    return _validated(model, partial(model.model_validate, extra="forbid"), dict(fields))


def encode(record: Wire) -> bytes:
    """Compact JSON of a wire model; what is None in an input record is left out.

    Raises SchemaError if a string in it is not valid Unicode (a lone surrogate), which the models let pass when built in Python.
    """
    contract = _CONTRACT_OF.get(type(record))
    try:
        return record.model_dump_json(exclude_none=contract is not None and contract.direction == "input").encode()
    except (PydanticSerializationError, UnicodeEncodeError):
        raise SchemaError(f"{type(record).__name__}: a string is not valid Unicode; remove lone surrogates") from None


def key_of(record: Wire) -> bytes:
    """The Kafka key that belongs to a record: user id, item id, model kind, or a dead letter's source coordinates."""
    return _CONTRACT_OF[type(record)].key_of(record)


def _decode(contract: Contract[W], value: bytes | None, key: bytes | None, max_bytes: int) -> W | None:
    names = ":".join(contract.key_fields)
    if not key:
        raise Poison("key", f"key: got nothing; send {names} as the Kafka key, in UTF-8", "empty_key")
    if value is None:
        if contract.tombstone is None:
            raise Poison("record", "record: got null; this topic knows no tombstones", "null_value")
        decode_key(key)
        return None
    _check_bytes(value, max_bytes)
    record = _validated(contract.model, contract.model.model_validate_json, value)
    if contract.key_of(record) != key:
        raise Poison("key", f"key: differs from {names}; send {names} as the Kafka key, in UTF-8", "key_mismatch")
    return record


def _validated(model: type[W], validate: Callable[[Any], Any], record: object) -> W:
    try:
        return validate(record)  # type: ignore[no-any-return]
    except ValidationError as error:
        refusal = poison_of(model, error)
    # Raised out here, the Poison does not carry the ValidationError, which holds the record's values.
    raise refusal


def _check_bytes(value: bytes, max_bytes: int) -> None:
    """Refuse what is too large, too deep, or takes NaN for JSON. The usual record costs a length, two counts and two searches."""
    if len(value) > max_bytes:
        raise Poison("record", f"record: got {len(value)} bytes; send at most {max_bytes}", "too_large")
    if value.count(b"{") + value.count(b"[") > limits.MAX_DEPTH and _too_deep(value):
        raise Poison("record", f"record: nested deeper than {limits.MAX_DEPTH} levels; send a flatter one", "too_deep")
    # The parser lets them pass where it ignores the field.
    if (b"NaN" in value or b"Infinity" in value) and _has_non_finite_literal(value):
        raise Poison("record", "record: got NaN or Infinity, which JSON does not have; leave the field out", "not_json")


def _too_deep(value: bytes) -> bool:
    """Whether brackets outside strings nest deeper than MAX_DEPTH; unbalanced ones are left to the parser.

    Each pass removes the innermost pairs of all, in C: MAX_DEPTH passes over at most the record's bytes.
    """
    brackets = _STRINGS.sub(b"", value).translate(_CURLY_TO_SQUARE, _BRACKETS_ONLY)
    for _ in range(limits.MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")
    return b"[]" in brackets


def _has_non_finite_literal(value: bytes) -> bool:
    rest = _STRINGS.sub(b"", value)
    return b"NaN" in rest or b"Infinity" in rest
