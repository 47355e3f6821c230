"""Bytes to wire models and back. Whatever a record holds, only `Poison` comes out of a refused one.

A record is validated by itself: joined into one array, two broken records could mend each other. Size, nesting and key are looked at before
the parser runs, so that its work and memory are bounded by the cap on bytes. Records of input topics that the model refuses are validated
once more without what is wrong in their optional fields (`schemas.trimming`).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import nan
from operator import itemgetter
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, from_json

from schemas import contracts, limits
from schemas.announcements import ModelAnnouncement
from schemas.catalogue import Item
from schemas.contracts import Contract, W
from schemas.control import RULES_KEY, PublishedRules
from schemas.dead_letters import DeadLetter
from schemas.erasures import erased_user
from schemas.errors import Poison, SchemaError
from schemas.events import Event
from schemas.fields import Wire
from schemas.lists import Recommendations
from schemas.plain_events import Context, plain_ones, read_plain
from schemas.profiles import UserProfile
from schemas.reasons import poison_of
from schemas.times import looks_wrong
from schemas.trimming import trim
from schemas.unreadable import Unreadable

_CONTRACT_OF: Final[Mapping[type[Wire], Contract[Any]]] = {contract.model: contract for contract in contracts.CONTRACTS}
# The closing quote is optional: an unterminated string then ends the search at once instead of starting it again at each of its quotes.
_STRINGS: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_BRACKETS_ONLY: Final = bytes(set(range(256)) - set(b"[]{}"))
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_CURLY_TO_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
EVENT_COLUMNS: Final = (
    "event_ids", "user_ids", "item_ids", "types", "values", "event_ts_ms", "list_ids", "positions", "sessions", "contexts"
)  # fmt: skip
"""The columns of `DecodedEvents` that hold one field of the event each."""
_COLUMNS: Final = ("index", *EVENT_COLUMNS)
_validate_event: Final = Event.__pydantic_validator__.validate_json  # what `model_validate_json` calls, without its keyword handling


@dataclass(slots=True)
class DecodedEvents:
    """N good events of a batch as columns, and the refused records.

    `index[i]` is the position of good event *i* in the input, ascending; every column has length N. `types` holds `EventType.code`s,
    `values` is NaN and `list_ids`, `positions`, `sessions` and `contexts` are None where an event has none. `poisons` holds (position in
    the input, why), `erasures` (position, user id) of records that erase a user (ADR 41); `trimmed` counts for each optional field the
    good events of which something in it was dropped or cut.
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
    sessions: list[str | None] = field(default_factory=list)
    contexts: list[Context] = field(default_factory=list)
    poisons: list[tuple[int, Poison]] = field(default_factory=list)
    trimmed: Counter[str] = field(default_factory=Counter)
    erasures: list[tuple[int, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.index)

    def refuse(self, refused: Sequence[tuple[int, Poison]]) -> None:
        """Take good events out again, each (position among the good ones, why)."""
        gone = {at for at, _ in refused}
        self.poisons += [(self.index[at], poison) for at, poison in refused]
        self.poisons.sort(key=itemgetter(0))
        kept = [at for at in range(len(self.index)) if at not in gone]
        for name in _COLUMNS:
            column = getattr(self, name)
            setattr(self, name, [column[at] for at in kept])


def decode_event(
    value: bytes | None,
    key: bytes | None,
    *,
    record_ts_ms: int,
    future_skew_ms: int,
    max_bytes: int = limits.EVENT_MAX_BYTES,
    trimmed: Counter[str] | None = None,
) -> Event:
    """One event. Raises Poison if it, its key or its time (more than `future_skew_ms` after `record_ts_ms`) is refused.

    `record_ts_ms` is the timestamp of the Kafka record, −1 if it has none: then the time is not checked. No clock is read, so that the
    same record is refused today, in a replay and in a rebuild months later, or never. `trimmed` counts optional fields of which something
    was dropped or cut.
    """
    return _event(value, key, record_ts_ms, future_skew_ms, max_bytes, Counter() if trimmed is None else trimmed)


def _event(value: bytes | None, key: bytes | None, record_ts_ms: int, future_skew_ms: int, max_bytes: int, trimmed: Counter[str]) -> Event:
    if isinstance(value, Unreadable):
        raise value.poison
    if value is None:
        raise Poison("record", "record: got null; send an event, this topic knows no tombstones", "null_value")
    _check_bytes(value, max_bytes)
    if not key:
        raise Poison("key", "key: got nothing; send the user id as the Kafka key, in UTF-8", "empty_key")
    event, changed = _validated_trimmed(Event, _validate_event, value)
    if event.user_id.encode() != key:
        raise Poison("key", "key: differs from user_id; send the same user id as the Kafka key, in UTF-8", "key_mismatch")
    if 0 <= record_ts_ms < event.event_ts_ms - future_skew_ms:
        raise Poison(
            "event_ts_ms",
            f"event_ts_ms: got a time more than {future_skew_ms} ms ahead of the Kafka record's timestamp; "
            "send Unix time in milliseconds, and check the clock",
            "future_timestamp",
        )
    if changed:
        trimmed.update(changed)
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
    positions, columns, trims = read_plain(
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
    if trims:
        good = set(index)
        decoded.trimmed.update(name for name, position in trims if plain[position] in good)
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
            if (erased := erased_user(value, key)) is not None:
                decoded.erasures.append((position, erased))
                continue
            event = _event(value, key, record_ts_ms[position], future_skew_ms, max_bytes, decoded.trimmed)
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
        decoded.sessions.append(event.session)
        decoded.contexts.append(event.context or None)
    order = sorted(range(len(decoded)), key=decoded.index.__getitem__)
    for name in _COLUMNS:
        column = getattr(decoded, name)
        setattr(decoded, name, [column[at] for at in order])


def decode_item(
    value: bytes | None, key: bytes | None, *, max_bytes: int = limits.ITEM_MAX_BYTES, trimmed: Counter[str] | None = None
) -> Item | None:
    """An item, or None for a tombstone (`decode_key` says of which item). Raises Poison. `trimmed` is counted up as in `decode_event`."""
    return _decode(contracts.ITEMS, value, key, max_bytes, trimmed)


def decode_profile(
    value: bytes | None, key: bytes | None, *, max_bytes: int = limits.PROFILE_MAX_BYTES, trimmed: Counter[str] | None = None
) -> UserProfile | None:
    """A profile, or None for a tombstone (`decode_key` says of which user). Raises Poison. `trimmed` is counted up as in `decode_event`."""
    return _decode(contracts.PROFILES, value, key, max_bytes, trimmed)


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


def decode_rules(value: bytes | None, key: bytes | None, *, max_bytes: int = limits.CONTROL_MAX_BYTES) -> PublishedRules | None:
    """A set of rules, or None for a tombstone (no rules but those of the settings). Nothing in it is trimmed. Raises Poison."""
    if key != RULES_KEY:
        raise Poison("key", "key: not `rules`; send a set of rules with the Kafka key `rules`, by `recsys rules publish`", "key_mismatch")
    if isinstance(value, Unreadable):
        raise value.poison
    if value is None:
        return None
    _check_bytes(value, max_bytes)
    return _validated(PublishedRules, PublishedRules.model_validate_json, value)


def decode_dead_letter(value: bytes | None, key: bytes | None, *, max_bytes: int = limits.DEAD_LETTER_MAX_BYTES) -> DeadLetter:
    """A dead letter. Raises Poison."""
    letter = _decode(contracts.DEAD_LETTERS, value, key, max_bytes)
    assert letter is not None  # this contract has no tombstone
    return letter


def decode_related(model: type[W], value: bytes | None, key: bytes | None, *, max_bytes: int = limits.RELATED_MAX_BYTES) -> W | None:
    """A list of items of this model (`SimilarItems`, `BoughtTogether`, `Trending`), or None for a tombstone. Raises Poison."""
    return _decode(_CONTRACT_OF[model], value, key, max_bytes)


def decode_key(key: bytes | None) -> str:
    """The id in a Kafka key, for tombstones, which have nothing else. Raises Poison if it is not an id."""
    if not key:
        raise Poison("key", "key: got nothing; send the record's id as the Kafka key, in UTF-8", "empty_key")
    text = key.decode(errors="replace")
    if text.encode() != key or len(key) > limits.ID_MAX_BYTES or any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in text):
        raise Poison("key", "key: not an id; send 1 to 128 bytes of UTF-8 without control characters", "invalid_field")
    return text


def from_fields(model: type[W], fields: Mapping[str, Any], *, shortened: Counter[str] | None = None) -> W:
    """A wire model from a mapping that a person or a program wrote; unlike a reader it refuses what is unknown or wrong. Raises Poison.

    With `shortened`, text that is too long is cut and of too many parts the first are kept, as a reader does, and the fields are counted.
    """
    cut: list[str] = []
    if shortened is not None:
        fields, cut = trim(model, fields, drop=False)
    record = _validated(model, partial(model.model_validate, extra="forbid"), dict(fields))
    check_times(record)
    if shortened is not None:
        shortened.update(cut)
    return record


def check_times(record: Wire) -> None:
    """Raise Poison if an item's times look like seconds. The model takes them, as items stored before must stay readable."""
    if isinstance(record, Item):
        for name in ("published_ts_ms", "expires_ts_ms"):
            value = getattr(record, name)
            if value is not None and (wrong := looks_wrong(name, value)) is not None:
                raise Poison(name, f"{name}: {wrong}", "invalid_field")


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


def _decode(contract: Contract[W], value: bytes | None, key: bytes | None, max_bytes: int, trimmed: Counter[str] | None = None) -> W | None:
    names = ":".join(contract.key_fields)
    if isinstance(value, Unreadable):
        raise value.poison
    if not key:
        raise Poison("key", f"key: got nothing; send {names} as the Kafka key, in UTF-8", "empty_key")
    if value is None:
        if contract.tombstone is None:
            raise Poison("record", "record: got null; this topic knows no tombstones", "null_value")
        decode_key(key)
        return None
    _check_bytes(value, max_bytes)
    record, changed = _validated_trimmed(contract.model, contract.model.model_validate_json, value)
    if contract.key_of(record) != key:
        raise Poison("key", f"key: differs from {names}; send {names} as the Kafka key, in UTF-8", "key_mismatch")
    if trimmed is not None:
        trimmed.update(changed)
    return record


def _validated(model: type[W], validate: Callable[[Any], Any], record: object) -> W:
    try:
        return validate(record)  # type: ignore[no-any-return]
    except ValidationError as error:
        refusal = poison_of(model, error)
    # Raised out here, the Poison does not carry the ValidationError, which holds the record's values.
    raise refusal


def _validated_trimmed(model: type[W], validate: Callable[[bytes], Any], value: bytes) -> tuple[W, list[str]]:
    """The record, and its optional fields of which something was dropped or cut. A record in order costs no more than its validation."""
    try:
        record: W = validate(value)
    except ValidationError:
        fields = _json_object(value)
    else:
        try:
            check_times(record)
        except Poison:
            fields = _json_object(value)
        else:
            return record, []
    if fields is None:
        return _validated(model, validate, value), []
    kept, changed = trim(model, fields)
    record = _validated(model, model.model_validate, kept)
    check_times(record)
    return record, changed


def _json_object(value: bytes) -> dict[str, Any] | None:
    """The members of a JSON object, in which NaN, Infinity and lone surrogates may stand; None if it is no object."""
    try:
        parsed = from_json(value)
    except ValueError:
        if not _SURROGATE.search(value):
            return None
        try:
            parsed = json.loads(value.decode())
        except (ValueError, RecursionError):
            return None
    return parsed if type(parsed) is dict else None


def _check_bytes(value: bytes, max_bytes: int) -> None:
    """Refuse what is too large or too deep. The usual record costs a length and two counts."""
    if len(value) > max_bytes:
        raise Poison("record", f"record: got {len(value)} bytes; send at most {max_bytes}", "too_large")
    if value.count(b"{") + value.count(b"[") > limits.MAX_DEPTH and _too_deep(value):
        raise Poison("record", f"record: nested deeper than {limits.MAX_DEPTH} levels; send a flatter one", "too_deep")


def _too_deep(value: bytes) -> bool:
    """Return whether brackets outside strings nest deeper than MAX_DEPTH; unbalanced ones are left to the parser.

    Each pass removes the innermost pairs of all, in C: MAX_DEPTH passes over at most the record's bytes.
    """
    brackets = _STRINGS.sub(b"", value).translate(_CURLY_TO_SQUARE, _BRACKETS_ONLY)
    for _ in range(limits.MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")
    return b"[]" in brackets
