"""Rows of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import orjson

from workers.producer.lines import Line, Lines
from workers.producer.rows import MAX_LINE_BYTES, BadRow, RawText, Row, Unreadable

TOO_LONG = f"record: more than {MAX_LINE_BYTES} bytes in one line; shorten it"
EXACT_FLOAT = 2.0**53


def json_rows(lines: Lines) -> Iterator[Row]:
    """Yield one row a line that is not blank. Raises DamagedFile."""
    while (line := lines.next()) is not None:
        if line.content is None:
            yield Row(line.number, None, TOO_LONG)
        elif line.content.strip():
            yield _row(line)


def _row(line: Line) -> Row:
    assert line.content is not None
    try:
        return Row(line.number, columns_of(line.content))
    except BadRow as error:
        return Row(line.number, None, str(error), raw=RawText(text_of(line.content)))


def text_of(content: bytes) -> str:
    """Return a line without its end; U+FFFD stands for what is not UTF-8."""
    return content.decode(errors="replace").removesuffix("\n").removesuffix("\r")


def columns_of(raw: bytes) -> dict[str, Any]:
    """Return the fields of one JSON object; whole numbers of any size are exact. Raises BadRow."""
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        found = _with_nan(raw)
    if not isinstance(found, dict):
        raise BadRow(f"record: a JSON {_name(found)}; write one JSON object a line")
    if any(type(value) is float and abs(value) >= EXACT_FLOAT for value in found.values()):
        found |= _exact_numbers(raw, found)
    return found


def _exact_numbers(raw: bytes, found: dict[str, Any]) -> dict[str, Any]:
    """Read the large numbers again: orjson rounds whole numbers of more than 64 bits."""
    try:
        exact = json.loads(raw)
    except (ValueError, RecursionError):
        large = [name for name, value in found.items() if type(value) is float and abs(value) >= EXACT_FLOAT]
        return {name: Unreadable("a number that cannot be read exactly; write it as text in quotes") for name in large}
    return {name: value for name, value in exact.items() if type(value) is int}


def _with_nan(raw: bytes) -> Any:
    """Return JSON with NaN in it, which Python and pandas write for a missing value. Raises BadRow for what is no JSON even so."""
    if b"NaN" not in raw:
        raise BadRow(_what_is_wrong(raw))
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise BadRow(_what_is_wrong(raw)) from None


def _what_is_wrong(raw: bytes) -> str:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return "record: not UTF-8; convert the file or pass --encoding"
    return "record: not JSON; write one JSON object a line"


def _name(value: object) -> str:
    return {"list": "array", "str": "string", "NoneType": "null", "bool": "boolean"}.get(type(value).__name__, "number")
