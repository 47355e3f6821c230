"""Cells to values of fields: the same reading of the same value in CSV, TSV, JSON lines and Parquet. All raise BadRow."""

from __future__ import annotations

import datetime as dt
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, get_args
from uuid import UUID

import orjson

from workers.producer.rows import BadRow, Unreadable

EXACT_FLOAT = 2**53
NULL_NAMES = frozenset({"null", "none", "nan", "nil", "na", "n/a", "#n/a", "<na>", "undefined", "\\n", "(null)", "<null>", "nat"})
"""What programs write for a missing value, in lower case."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_WHOLE = re.compile(r"([+-]?\d{1,30})(\.0*)?", re.ASCII)
_FLOAT_ID = re.compile(r"([+-]?\d+)\.0+", re.ASCII)
EXPONENT_ID = re.compile(r"[+-]?\d+(\.\d+)?[eE][+-]?\d+", re.ASCII)
EDGES = "".join(char for char in map(chr, range(0x3001)) if char.isspace()) + "\u200b\u2060\ufeff"
"""Characters that are cut off the ends of an id: every white space, and those of no width."""
FLAGS = {"true": True, "1": True, "yes": True, "t": True, "y": True, "false": False, "0": False, "no": False, "f": False, "n": False}
DecimalSign = Literal["point", "comma"]
DECIMAL_SIGNS: tuple[str, ...] = get_args(DecimalSign)
_GROUPED = {"point": re.compile(r"[+-]?\d{1,3}(?:[,' ]\d{3})+(?:\.\d+)?", re.ASCII),
            "comma": re.compile(r"[+-]?(?:\d{1,3}(?:[.' ]\d{3})+|\d+)(?:,\d+)?", re.ASCII)}  # fmt: skip
_CURRENCY_CODE = re.compile(r"[A-Z]{3}(?=\W|\d)|(?<=\W|\d)[A-Z]{3}$", re.ASCII)
LISTS = ("categories", "preferred_categories")
"""Fields of several values, which several columns may give."""
VALUE_SEPARATOR, LEVEL_SEPARATOR = "|", ">"


@dataclass(frozen=True)
class CellRules:
    """Options for cells: `decimal` sign of numbers, column ▸ separator of `values` and of `levels`."""

    decimal: DecimalSign | None = None
    values: Mapping[str, str] = field(default_factory=dict)
    levels: Mapping[str, str] = field(default_factory=dict)


class Several(list[Any]):
    """The cells that several columns or rows give for one field."""


def is_missing(value: Any) -> bool:
    """Return whether a cell holds nothing: null, blank text, or NaN (pandas' null)."""
    if value is None or (isinstance(value, str) and not value.strip(EDGES)):
        return True
    if isinstance(value, Decimal):
        return value.is_nan()
    return isinstance(value, float) and math.isnan(value)


def is_null(value: Any) -> bool:
    """Return whether an entry of an object, where blank text is a value, holds nothing."""
    return value is None or (isinstance(value, float | Decimal) and value != value)


def identity(value: Any) -> str:
    """Return an id as text: 17, 17.0, "17" and "17.0" are all "17"; digits are never lost."""
    if isinstance(value, bytes):
        value = decoded(value)
    if isinstance(value, str):
        text_id = value.strip(EDGES)
        found = _FLOAT_ID.fullmatch(text_id)
        return text_id if found is None else _unsigned_zero(found[1])
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise BadRow(f"a {_kind(value)}, not an id; write text or a whole number")
    if isinstance(value, int):
        return _digits(value)
    if not math.isfinite(value) or value != int(value):
        raise BadRow("a number with a fraction, not an id; write text or a whole number")
    if isinstance(value, float) and abs(value) > EXACT_FLOAT:
        raise BadRow("a floating-point number beyond 2^53, which has lost digits; write text or an integer column")
    return _digits(int(value))


def _unsigned_zero(digits: str) -> str:
    return digits if digits.strip("+-0") else digits.lstrip("+-")


def _digits(value: int) -> str:
    if abs(value) >= 10**128:
        raise BadRow("a number of more than 128 digits, not an id")
    return str(value)


def decoded(value: bytes) -> str:
    """Return a binary string's text."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BadRow("binary that is not UTF-8 text") from None


def number(value: Any, decimal: DecimalSign | None = None) -> Any:
    """Return a number, also from its text: plain, with a currency, and as `decimal` says with groups of thousands."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, str):
        return _number_of_text(value.strip(EDGES), decimal)
    return value


def _number_of_text(written: str, decimal: DecimalSign | None) -> float:
    if decimal != "comma" and _NUMBER.fullmatch(written):
        return float(written)
    bare = "".join(" " if char in EDGES else char for char in written if unicodedata.category(char) != "Sc").replace("\u2019", "'")
    bare = _CURRENCY_CODE.sub("", bare).strip()
    if decimal is not None and _GROUPED[decimal].fullmatch(bare):
        thousands, sign = (",", ".") if decimal == "point" else (".", ",")
        return float(bare.replace(thousands, "").replace("'", "").replace(" ", "").replace(sign, "."))
    if decimal != "comma" and _NUMBER.fullmatch(bare):
        return float(bare)
    has_comma = decimal is None and "," in bare and any(char.isdigit() for char in bare)
    remedy = "; pass --decimal comma for 1.299,50 or --decimal point for 1,299.50" if has_comma else ""
    raise BadRow(f"not a number{remedy}")


def whole(value: Any) -> Any:
    """Return a whole number, also from 3.0 and from text."""
    if isinstance(value, str):
        found = _WHOLE.fullmatch(value.strip())
        if found is None:
            raise BadRow("not a whole number")
        return int(found[1])
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        return int(value)
    return value


def flag(value: Any) -> Any:
    """Return true or false, also from 1, 0, and words."""
    if isinstance(value, str):
        known = FLAGS.get(value.strip().lower())
        if known is None:
            raise BadRow("neither true nor false")
        return known
    return bool(value) if type(value) in (int, float) and value in (0, 1) else value


def text(value: Any) -> Any:
    """Return text, also of a number (a film called 1984)."""
    if isinstance(value, bytes):
        return decoded(value)
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) in (int, float, Decimal):
        return str(value)
    return value


def prose(value: Any) -> Any:
    """Return text, also of a list of paragraphs."""
    value = text(value)
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return "\n".join(value)
    return value


def kind_of_event(value: Any) -> Any:
    """Return the name of an event type without spaces around it."""
    value = text(value)
    return value.strip() if isinstance(value, str) else value


def strings(value: Any, separator: str = VALUE_SEPARATOR, level_separator: str = LEVEL_SEPARATOR) -> Any:
    """Return a list of strings, also from `a|b|c`, from a JSON array as text and from paths: `Home > Kitchen` is Home and Kitchen."""
    if isinstance(value, Several):
        found = [part for cell in value for part in _list_or_none(strings(cell, separator, level_separator))]
        return list(dict.fromkeys(found))
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            try:
                parsed = orjson.loads(value)
            except orjson.JSONDecodeError:
                parsed = None
            if isinstance(parsed, list):
                return strings(parsed, separator, level_separator)
        parts = re.split(rf"(?<!\\){re.escape(separator)}", value)
        value = [part.replace(f"\\{separator}", separator) for part in parts if part.strip()]
    if isinstance(value, list | tuple):
        parts = [text(part) for part in value if not is_missing(part)]
        return list(dict.fromkeys(level for part in parts for level in levels(part, level_separator)))
    return value


def _list_or_none(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BadRow(f"a {_kind(value)}, not text or a list")
    return value


def levels(path: Any, separator: str = LEVEL_SEPARATOR) -> list[Any]:
    """Return the levels of a category path; a text with an empty level (`> 5 years`) or with HTML is one category."""
    if not isinstance(path, str):
        return [path]
    parts = [part.strip() for part in path.split(separator)]
    whole = not all(parts) or (separator == LEVEL_SEPARATOR and "<" in path)
    return [path.strip()] if whole else parts


def vector(value: Any) -> Any:
    """Return a list of numbers, also from a JSON array as text."""
    if isinstance(value, str):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            raise BadRow("not a JSON array of numbers") from None
    return list(value) if isinstance(value, tuple) else value


def scalar(value: Any) -> Any:
    """Return a value of a context: text, a number or true and false."""
    if isinstance(value, bytes):
        return decoded(value)
    return value.isoformat() if isinstance(value, dt.date | dt.time) else float(value) if isinstance(value, Decimal) else value


def nested(value: Any) -> Any:
    """Return an object, also from JSON text and from a Parquet struct or map, whose entries without value are left out."""
    if isinstance(value, bytes):
        value = decoded(value)
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise BadRow("not JSON") from None
    if isinstance(value, list) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        value = dict(value)
    if isinstance(value, dict):
        return {text(name): _entry(entry) for name, entry in value.items() if not is_null(entry)}
    return value


def exactly(name: str, value: Any) -> Any:
    """Return the value of a field as an export of this project has it: objects are JSON text."""
    return nested(value) if name in ENTRY_CONVERTERS and isinstance(value, str) else value


def _entry(value: Any) -> Any:
    if isinstance(value, bytes):
        return decoded(value)
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value


def _kind(value: Any) -> str:
    if isinstance(value, Unreadable):
        return value.reason
    names = {"bool": "boolean", "dict": "JSON object", "list": "list", "tuple": "list", "datetime": "time", "date": "date"}
    return names.get(type(value).__name__, type(value).__name__)


IDS = ("event_id", "user_id", "item_id", "list_id", "session")
CONVERTERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(IDS, identity),
    "type": kind_of_event, "position": whole, "schema_version": whole, "context": nested,
    "title": text, "text": prose, "available": flag,
    "numeric_attributes": nested, "categorical_attributes": nested, "embeddings": nested,
}  # fmt: skip
ENTRY_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "numeric_attributes": number, "categorical_attributes": text, "context": scalar, "embeddings": vector,
}  # fmt: skip
"""Object ▸ how one entry of it is read from a column of its own."""


def converted(name: str, column: str, value: Any, rules: CellRules) -> Any:
    """Return the value of a field, or of an entry of an object where `name` is `object.entry`. Raises BadRow."""
    if isinstance(value, bytes):
        value = decoded(value)
    parent = name.partition(".")[0]
    if name == "value" or (parent == "numeric_attributes" and parent != name):
        return number(value, rules.decimal)
    if name in LISTS:
        return strings(value, rules.values.get(column, VALUE_SEPARATOR), rules.levels.get(column, LEVEL_SEPARATOR))
    converter = ENTRY_CONVERTERS[parent] if parent != name else CONVERTERS.get(name)
    return value if converter is None else converter(value)
