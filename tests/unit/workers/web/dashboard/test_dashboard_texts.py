"""Texts: each key in each language, each key that pages use, and the language of a browser."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from workers.web.dashboard import texts

PACKAGE = Path(texts.__file__).parent
TEMPLATES = sorted((PACKAGE / "templates").glob("*.html"))


def fields_of(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_each_key_has_a_text_in_each_language_with_the_same_fields() -> None:
    for key, by_language in texts.catalogue().items():
        assert set(by_language) == set(texts.LANGUAGES), key
        assert all(text.strip() for text in by_language.values()), key
        assert len({frozenset(fields_of(text)) for text in by_language.values()}) == 1, key


def used_keys() -> tuple[set[str], set[str]]:
    """Return the keys that templates name, and the beginnings of those that they put together."""
    whole: set[str] = set()
    begun: set[str] = set()
    for path in TEMPLATES:
        for quote, key, joined in re.findall(r"""\bt\((['"])([a-z0-9_]+)\1(\s*~)?""", path.read_text("utf-8")):
            del quote
            (begun if joined else whole).add(key)
    return whole, begun


def test_pages_use_keys_that_exist_and_no_text_is_unused() -> None:
    whole, begun = used_keys()
    known = set(texts.catalogue())
    assert whole <= known, whole - known
    assert all(any(key.startswith(beginning) for key in known) for beginning in begun)
    python = "".join(path.read_text("utf-8") for path in PACKAGE.glob("*.py"))
    unused = {key for key in known - whole if not key.startswith(tuple(begun)) and f'"{key}"' not in python}
    assert not unused


@pytest.mark.parametrize(
    ("chosen", "accepted", "language"),
    [
        ("", "", "en"),
        ("de", "zh", "de"),
        ("xx", "zh-CN,en;q=0.8", "zh"),
        ("", "fr, de;q=0.3, en;q=0.9", "en"),
        ("", "de-AT, en;q=0.9", "de"),
        ("", "*;q=0.1, q=,;;", "en"),
    ],
)
def test_the_switch_counts_before_what_the_browser_accepts(chosen: str, accepted: str, language: str) -> None:
    assert texts.language_of(chosen, accepted) == language


def test_templates_have_no_script_style_or_handler_of_their_own() -> None:
    for path in TEMPLATES:
        text = path.read_text("utf-8")
        assert not re.search(r"\son[a-z]+\s*=\s*[\"']|\sstyle\s*=|<style|javascript:|\|\s*safe\b|Markup", text), path.name
        assert all('src="/static/' in tag for tag in re.findall(r"<script[^>]*>", text)), path.name
        assert not re.search(r"""(src|href)=["'](https?:)?//""", text), path.name
