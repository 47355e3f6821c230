"""Turns data into text that a terminal, a log file or a message shows as what it is.

Ids and titles come from anybody. A control character could move the cursor, a bidi control reorder a line, and a zero-width character
make two ids look alike. Each such character is written as an escape, the one that Python uses: `\\x1b`, `\\u202e`, `\\U000e0041`.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from typing import Any

# Unicode's default ignorables that `str.isprintable` lets through (letters, marks and variation selectors that draw nothing), and the
# blank braille pattern. The rest of that property is of the categories Cc, Cf and Cn, which are never printable.
_INVISIBLE = "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef"
_SUSPECT = re.compile(r"[^ -~]|\\")  # anything but plain ASCII; most texts have none and return at once
_DRAWS_NOTHING = re.compile(f"[{_INVISIBLE}]")
_LOOKS_LIKE_AN_ESCAPE = re.compile(r"x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}")


def visible(value: object) -> str:
    """Return a value as one line of text in which every character can be seen.

    Escapes what is not printable (control, format, private and unassigned characters, surrogates, every separator but the plain space),
    what draws nothing, and a combining mark that begins the text, which would join what stands before it. Backslashes are doubled only
    where they stand before an escape or what looks like one, so the original can always be read back.
    """
    text = str(value)
    if _SUSPECT.search(text) is None:
        return text
    parts: list[str] = []
    backslashes = 0
    for at, character in enumerate(text):
        if character == "\\":
            backslashes += 1
            continue
        hidden = not character.isprintable() or _DRAWS_NOTHING.match(character) is not None
        escaped = hidden or (at == 0 and unicodedata.category(character).startswith("M"))
        if backslashes:
            doubled = escaped or _LOOKS_LIKE_AN_ESCAPE.match(text, at) is not None
            parts.append("\\" * (backslashes * (2 if doubled else 1)))
            backslashes = 0
        parts.append(_escape(character) if escaped else character)
    parts.append("\\" * backslashes)
    return "".join(parts)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON in printable ASCII, whatever its strings hold; NaN and infinities become null."""
    return json.dumps(_finite(value), ensure_ascii=True, allow_nan=False, default=str, indent=indent).replace("\x7f", "\\u007f")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(content) for key, content in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(content) for content in value]
    return value
