"""Texts of the pages in each language, from one file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

LANGUAGES: Mapping[str, str] = {"en": "English", "de": "Deutsch", "zh": "中文"}
"""Language ▸ its own name; the first one is for everybody else."""
_ACCEPTED = re.compile(r"\s*([A-Za-z]{1,8})(?:-[A-Za-z0-9-]*)?\s*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?))?\s*")


@cache
def catalogue() -> dict[str, dict[str, str]]:
    """Return key ▸ language ▸ text."""
    found: dict[str, dict[str, str]] = json.loads((files(__package__) / "texts.json").read_text("utf-8"))
    return found


def text(key: str, language: str, **values: object) -> str:
    """Return a text with its values put in: text too, never markup."""
    found = catalogue()[key][language]
    return found.format(**values) if values else found


def language_of(chosen: str, accepted: str) -> str:
    """Return the language of a page: the one that was chosen, or the first of `Accept-Language` that there is."""
    if chosen in LANGUAGES:
        return chosen
    wanted: list[tuple[float, str]] = []
    for part in accepted[:1_000].split(","):
        match = _ACCEPTED.fullmatch(part)
        if match is not None and match[1].lower() in LANGUAGES:
            wanted.append((-float(match[2] or 1.0), match[1].lower()))
    return min(wanted, key=lambda one: one[0])[1] if wanted else next(iter(LANGUAGES))
