"""Keep the valid part of a record whose optional fields are partly wrong.

A fault in a field that neither state nor lists depend on costs at most that field: too long is cut, too many become the first few, and what
is of a wrong kind or out of range is dropped. Essential fields have no rule here, so a fault in one of them refuses the record.

The rules ask the field types of the models themselves what is valid; the models stay the only place that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, Final

from pydantic import TypeAdapter

from schemas import limits
from schemas.catalogue import Embedding, Item
from schemas.events import Event, EventType
from schemas.fields import CalendarMs, Id, Name, Number, Position, Scalar, TimestampMs, Value, Wire
from schemas.profiles import UserProfile
from schemas.times import looks_wrong


class Verdict(IntEnum):
    """Says how much of a field's value is kept. A field's verdict is the worst of its parts."""

    WHOLE = 0
    WITHOUT_NULLS = 1
    """all that was given"""
    CUT = 2
    """something was too long or too many"""
    DROPPED = 3
    """something was of a wrong kind or out of range"""


Rule = Callable[[Any], tuple[Any, Verdict]]
"""A value to what is kept of it, None for nothing, and the verdict. The value is not null."""


def trim(model: type[Wire], fields: Mapping[str, Any], *, drop: bool = True) -> tuple[dict[str, Any], list[str]]:
    """Return the fields with the optional ones trimmed, and the names of those of which something given is missing.

    With `drop` off only what is too long or too many is cut; a field that is wrong stays as it is, for the model to refuse.
    """
    kept, changed = dict(fields), []
    for name, rule in _rules(model, fields).items():
        value = fields.get(name)
        if value is None:
            continue
        rest, verdict = rule(value)
        if verdict is Verdict.WHOLE or (verdict is Verdict.DROPPED and not drop):
            continue
        if verdict > Verdict.WITHOUT_NULLS:
            changed.append(name)
        if rest is None:
            del kept[name]
        else:
            kept[name] = rest
    return kept, changed


def _valid(kind: Any) -> Callable[[Any], bool]:
    is_valid: Callable[[Any], bool] = TypeAdapter(kind).validator.isinstance_python
    return is_valid


def _only(kind: Any) -> Rule:
    """Keep a valid value, and nothing of any other."""
    is_valid = _valid(kind)
    return lambda value: (value, Verdict.WHOLE) if is_valid(value) else (None, Verdict.DROPPED)


def _text(max_chars: int, min_chars: int = 0) -> Rule:
    """Keep the first characters of a string."""

    def rule(value: Any) -> tuple[Any, Verdict]:
        if type(value) is not str or len(value) < min_chars:
            return None, Verdict.DROPPED
        kept = _unicode(value[:max_chars])
        return kept, Verdict.WHOLE if kept == value else Verdict.CUT

    return rule


def _unicode(text: str) -> str:
    """The text with U+FFFD in the place of lone surrogates, which a program that counts UTF-16 units leaves where it cuts."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _either(kind: Any, text: Rule) -> Rule:
    """Keep a string as `text` does, and any other valid value."""
    other = _only(kind)
    return lambda value: text(value) if type(value) is str else other(value)


def _array(rule: Rule, most: int) -> Rule:
    """Keep the first valid elements; null elements are not given."""

    def of_array(value: Any) -> tuple[Any, Verdict]:
        if not isinstance(value, list | tuple):
            return None, Verdict.DROPPED
        kept: list[Any] = []
        worst = Verdict.WHOLE
        for part in value:
            if part is None:
                worst = max(worst, Verdict.WITHOUT_NULLS)
                continue
            if len(kept) == most:
                return kept, max(worst, Verdict.CUT)
            rest, verdict = rule(part)
            worst = max(worst, verdict)
            if rest is not None:
                kept.append(rest)
        return kept, worst

    return of_array


def _object(rule: Rule, most: int) -> Rule:
    """Keep the first valid entries; those of value null are not given."""
    is_name = _valid(Name)

    def of_object(value: Any) -> tuple[Any, Verdict]:
        if not isinstance(value, Mapping):
            return None, Verdict.DROPPED
        kept: dict[str, Any] = {}
        worst = Verdict.WHOLE
        for name, part in value.items():
            if part is None:
                worst = max(worst, Verdict.WITHOUT_NULLS)
                continue
            if len(kept) == most:
                return kept, max(worst, Verdict.CUT)
            rest, verdict = rule(part) if is_name(name) else (None, Verdict.DROPPED)
            worst = max(worst, verdict)
            if rest is not None:
                kept[name] = rest
        return kept, worst

    return of_object


def _calendar(field: str) -> Rule:
    is_valid = _valid(CalendarMs)

    def rule(value: Any) -> tuple[Any, Verdict]:
        return (value, Verdict.WHOLE) if is_valid(value) and looks_wrong(field, value) is None else (None, Verdict.DROPPED)

    return rule


_LABEL: Final = _text(limits.LABEL_MAX_CHARS)
_CATEGORIES: Final = _array(_text(limits.LABEL_MAX_CHARS, min_chars=1), limits.MAX_CATEGORIES)
_NUMERIC: Final = _object(_only(Number), limits.MAX_NUMERIC_ATTRIBUTES)
_CATEGORICAL: Final = _object(_LABEL, limits.MAX_CATEGORICAL_ATTRIBUTES)

_EVENT: Final[Mapping[str, Rule]] = {
    "value": _only(Value),
    "list_id": _only(Id),
    "position": _only(Position),
    "session": _only(Id),
    "context": _object(_either(Scalar, _LABEL), limits.MAX_CONTEXT_ENTRIES),
}
_RATING: Final = {name: rule for name, rule in _EVENT.items() if name != "value"}
_ITEM: Final[Mapping[str, Rule]] = {
    "title": _text(limits.TITLE_MAX_CHARS),
    "categories": _CATEGORIES,
    "text": _text(limits.TEXT_MAX_CHARS),
    "numeric_attributes": _NUMERIC,
    "categorical_attributes": _CATEGORICAL,
    "embeddings": _object(_only(Embedding), limits.MAX_EMBEDDINGS),
}
_UNAVAILABLE_ITEM: Final = {**_ITEM, **{name: _calendar(name) for name in ("published_ts_ms", "expires_ts_ms")}}
_PROFILE: Final[Mapping[str, Rule]] = {
    "numeric_attributes": _NUMERIC,
    "categorical_attributes": _CATEGORICAL,
    "preferred_categories": _CATEGORIES,
    "updated_ts_ms": _only(TimestampMs),
}


def _rules(model: type[Wire], fields: Mapping[str, Any]) -> Mapping[str, Rule]:
    """The rules for a record: a rating's value is essential, and an item's times are, unless it is unavailable and so never listed."""
    if model is Event:
        return _RATING if fields.get("type") == EventType.RATING else _EVENT
    if model is Item:
        return _UNAVAILABLE_ITEM if fields.get("available") is False else _ITEM
    return _PROFILE if model is UserProfile else {}
