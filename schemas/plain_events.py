"""The usual event, read without a model: plain ASCII, flat, its essential fields in order. Whatever is unusual is left to
`schemas.events.Event`. Optional fields that are wrong are dropped, as `schemas.trimming` does.

Validating a model costs 4 µs an event, parsing alone 0.5; checks over whole columns run in C. What this accepts the model accepts with the
same values (a property test and the fuzzer hold both equal); what it does not accept says nothing: the model decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import nan
from operator import itemgetter
from typing import Any, Final

import orjson

from schemas import limits
from schemas.events import EVENT_TYPES, EventType

Context = Mapping[str, bool | int | float | str] | None
Columns = tuple[
    list[str], list[str], list[str], list[int], list[float], list[int], list[str | None], list[int | None], list[str | None], list[Context]
]
"""Event ids, user ids, item ids, type codes, values (NaN for none), times, list ids, positions, sessions and contexts (none here)."""

Trims = list[tuple[str, int]]
"""Optional fields of which what was given was dropped, and the position of the record."""

_CODES: Final = {kind.value: kind.code for kind in EVENT_TYPES}
_RATING: Final = EventType.RATING.code
_NONE: Final = type(None)
_REQUIRED: Final = ("event_id", "user_id", "item_id", "type", "event_ts_ms")
_OPTIONAL: Final = ("value", "list_id", "position", "session", "context")


def is_plain(value: bytes | None, max_bytes: int) -> bool:
    """Return whether a record may be read here: a small flat ASCII object without escapes, brackets or deletions."""
    return (
        value is not None
        and len(value) <= max_bytes
        and value.isascii()
        and b"\\" not in value
        and b"\x7f" not in value
        and b"[" not in value
        and value.count(b"{") == 1
    )


def plain_ones(values: Sequence[bytes | None], max_bytes: int) -> Sequence[int]:
    """Return positions of the records that `is_plain` accepts. A batch of such records only is recognised by one look at all of it."""
    if values and None not in values:
        joined = b"".join(values)  # type: ignore[arg-type]
        plain = joined.isascii() and b"\\" not in joined and b"\x7f" not in joined
        flat = plain and b"[" not in joined and joined.count(b"{") == len(values)
        if flat and max(map(len, values)) <= max_bytes:  # type: ignore[arg-type]
            return range(len(values))  # one that has no brace at all is no object; one that has two, for it, is not plain by its context
    return [position for position, value in enumerate(values) if is_plain(value, max_bytes)]


def read_plain(values: Sequence[bytes], keys: Sequence[bytes | None]) -> tuple[Sequence[int], Columns, Trims]:
    """Positions in `values` of the records that are good events, ascending, their columns, and what was dropped of them. All have passed
    `is_plain`."""
    documents, positions = _parsed(values)
    trims: Trims = []
    columns = _columns(documents, keys if len(positions) == len(keys) else [keys[position] for position in positions], trims)
    if columns is not None:
        return positions, columns, [(name, positions[at]) for name, at in trims]
    # Somewhere among them is one that is not plain: one by one, so that it stands alone.
    good: list[int] = []
    trims.clear()
    found: Columns = ([], [], [], [], [], [], [], [], [], [])
    for position, document in zip(positions, documents, strict=True):
        dropped: Trims = []
        alone = _columns([document], [keys[position]], dropped)
        if alone is not None:
            good.append(position)
            trims += [(name, position) for name, _ in dropped]
            for column, more in zip(found, alone, strict=True):
                column.extend(more)  # type: ignore[attr-defined]
    return good, found, trims


def _parsed(values: Sequence[bytes]) -> tuple[list[dict[str, Any]], Sequence[int]]:
    """The records that are JSON objects, and their positions."""
    try:
        documents = list(map(orjson.loads, values))
    except orjson.JSONDecodeError:
        documents = [_parsed_or_none(value) for value in values]
    if set(map(type, documents)) <= {dict}:
        return documents, range(len(documents))
    positions = [position for position, document in enumerate(documents) if type(document) is dict]
    return [documents[position] for position in positions], positions


def _parsed_or_none(value: bytes) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return None


def _columns(documents: Sequence[dict[str, Any]], keys: Sequence[bytes | None], trims: Trims) -> Columns | None:
    """The columns of these documents, or None if any of them is not a plain event. What is dropped is noted in `trims`."""
    if not documents:
        return ([], [], [], [], [], [], [], [], [], [])
    names = set().union(*set(map(tuple, documents)))
    try:
        event_ids, user_ids, item_ids, kinds, times = (list(map(itemgetter(name), documents)) for name in _REQUIRED)
        codes = list(map(_CODES.__getitem__, kinds))
    except (KeyError, TypeError):  # a field is missing, or the type is none, or nothing that can be looked up
        return None
    optional: list[list[Any]] = [
        [document.get(name) for document in documents] if name in names else [None] * len(documents)  # a list of its own: it may grow
        for name in _OPTIONAL
    ]
    values, list_ids, places, sessions, contexts = optional
    if "schema_version" in names and not _are_whole(_given([document.get("schema_version") for document in documents]), 1, 1):
        return None
    if not (_are_ids(event_ids) and _are_ids(user_ids) and _are_ids(item_ids) and _are_keys(keys, user_ids)):
        return None
    if not _are_whole(times, limits.TIMESTAMP_MIN_MS, limits.TIMESTAMP_MAX_MS):
        return None
    numbers = _numbers(values, codes)
    if numbers is None:
        kept = _without(values, _is_value, "value", trims)
        numbers = _numbers(kept, codes)  # a rating's value may not be missing
        if numbers is None:
            return None
    if "list_id" in names and (named := _given(list_ids)) and not _are_ids(named):
        list_ids = _without(list_ids, lambda list_id: _are_ids([list_id]), "list_id", trims)
    if "position" in names and not _are_whole(_given(places), 1, limits.MAX_POSITION):
        places = _without(places, lambda place: _are_whole([place], 1, limits.MAX_POSITION), "position", trims)
    if "session" in names and (named := _given(sessions)) and not _are_ids(named):
        sessions = _without(sessions, lambda session: _are_ids([session]), "session", trims)
    if "context" in names:
        if dict in map(type, contexts):  # a nested record, which a record without a brace beside it made up for
            return None
        contexts = _without(contexts, lambda _: False, "context", trims)  # a flat record has none that could be kept
    return event_ids, user_ids, item_ids, codes, numbers, times, list_ids, places, sessions, contexts


def _given(values: list[Any]) -> list[Any]:
    return [value for value in values if value is not None]


def _without(values: list[Any], is_valid: Callable[[Any], bool], name: str, trims: Trims) -> list[Any]:
    """The values with None for those that are not valid, which are noted."""
    wrong = {at for at, value in enumerate(values) if value is not None and not is_valid(value)}
    trims += [(name, at) for at in sorted(wrong)]
    return [None if at in wrong else value for at, value in enumerate(values)]


def _is_value(value: Any) -> bool:
    return type(value) in (int, float) and -limits.MAX_VALUE <= value <= limits.MAX_VALUE


def _are_ids(texts: list[Any]) -> bool:
    """Return whether all are strings of 1 to 128 characters.

    Those are printable ASCII: so is the record, and JSON has no control characters in strings."""
    if set(map(type, texts)) != {str}:
        return False
    lengths = set(map(len, texts))
    return min(lengths) >= 1 and max(lengths) <= limits.ID_MAX_BYTES


def _are_keys(keys: Sequence[bytes | None], user_ids: list[str]) -> bool:
    """Return whether each key is its record's user id, in which there is no zero."""
    return None not in keys and b"\0".join(keys) == "\0".join(user_ids).encode()  # type: ignore[arg-type]


def _are_whole(numbers: list[Any], least: int, most: int) -> bool:
    """Return whether all are integers (no booleans) within bounds."""
    return not numbers or (set(map(type, numbers)) == {int} and min(numbers) >= least and max(numbers) <= most)


def _numbers(values: list[Any], codes: list[int]) -> list[float] | None:
    """Values as floats, NaN for none; None if one is no finite number within bounds, or a rating has none or is out of its own."""
    kinds = set(map(type, values))
    if not kinds <= {float, int, _NONE}:
        return None
    given = [value for value in values if value is not None] if _NONE in kinds else values
    if given and not (min(given) >= -limits.MAX_RATING and max(given) <= limits.MAX_RATING):  # JSON has no NaN
        if not all(map(_is_value, given)):
            return None
        if any(code == _RATING and value is not None and abs(value) > limits.MAX_RATING for value, code in zip(values, codes, strict=True)):
            return None
    if _NONE not in kinds:
        return values if kinds == {float} else list(map(float, values))
    if _RATING in codes and any(value is None and code == _RATING for value, code in zip(values, codes, strict=True)):
        return None
    return [nan if value is None else float(value) for value in values]
