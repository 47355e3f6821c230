"""Data is shown as text in which every character can be seen (C03, S4)."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.runtime.text import json_text, visible

ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.text(st.sampled_from("\\xuU0123456789abcdef\x1b\u202e\u200b é日"))


def read_back(shown: str) -> str:
    """The text that `visible` was given."""
    read, at = [], 0
    for match in re.finditer(r"(\\+)(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})", shown):
        read.append(shown[at : match.start()])
        slashes, code = match[1], match[2]
        read.append("\\" * (len(slashes) // 2) + (chr(int(code[1:], 16)) if len(slashes) % 2 else code))
        at = match.end()
    return "".join(read) + shown[at:]


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("Blue Train [remastered]", "Blue Train [remastered]"),
        ("sku[red]9 :smile: [/live]", "sku[red]9 :smile: [/live]"),
        ("[link=http://example.invalid]x[/link]", "[link=http://example.invalid]x[/link]"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]8;;http://example.invalid\x07x\x9c", r"\x1b]8;;http://example.invalid\x07x\x9c"),
        ("a\x00b\x7fc\x85d\re\nf\tg", r"a\x00b\x7fc\x85d\x0de\x0af\x09g"),
        ("admin\u202egnp.exe\u2066", r"admin\u202egnp.exe\u2066"),
        ("u\u200b1\u200d\ufeff\u00ad", r"u\u200b1\u200d\ufeff\xad"),
        ("a\u00a0b\u2028c\u3164d\u2800e", r"a\xa0b\u2028c\u3164d\u2800e"),
        ("tag\U000e0041\U000e0100", r"tag\U000e0041\U000e0100"),
        ("lone\ud800", r"lone\ud800"),
        ("\u0301x e\u0301", "\\u0301x e\u0301"),
        ("上原ひろみ 🎹", "上原ひろみ 🎹"),
        (r"C:\users\x", r"C:\users\x"),
        (r"not \x1b", r"not \\x1b"),
    ],
)
def test_what_cannot_be_seen_is_escaped_and_the_rest_stays(given_text: str, shown: str) -> None:
    assert visible(given_text) == shown
    assert read_back(shown) == given_text


@given(ANY_TEXT)
def test_every_text_can_be_read_back_from_what_is_shown(text: str) -> None:
    shown = visible(text)
    assert read_back(shown) == text
    assert shown.isprintable()
    assert not any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in shown)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT, lambda inner: st.dictionaries(ANY_TEXT, inner)))
def test_json_is_printable_ascii_and_valid_whatever_it_holds(value: object) -> None:
    text = json_text(value)
    assert text.isascii() and text.isprintable()

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(text, parse_constant=refuse)
