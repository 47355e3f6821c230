"""Names that conditions may use: properties of items and users, and functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Final

from recsys.rules.tree import Kind, Owner

ITEM: Final[Mapping[str, Kind]] = {
    "id": Kind.TEXT,
    "title": Kind.TEXT,
    "categories": Kind.TEXTS,
    "published": Kind.TIME,
    "expires": Kind.TIME,
    "age_days": Kind.NUMBER,
}
"""Properties of every item. All other names after `item.` are attributes."""
USER: Final[Mapping[str, Kind]] = {
    "id": Kind.TEXT,
    "categories": Kind.TEXTS,
    "history_size": Kind.NUMBER,
    "idle_days": Kind.NUMBER,
}
"""Properties of every user. All other names after `user.` are attributes of the profile."""
OF: Final[Mapping[Owner, Mapping[str, Kind]]] = {"item": ITEM, "user": USER}
FUNCTIONS: Final = ("has", "size", "string", "double", "timestamp")
METHODS: Final = ("startsWith", "endsWith", "contains", "lowerAscii", "size")
ELSEWHERE: Final[Mapping[str, str]] = {
    "matches": "write startsWith, endsWith or contains: a pattern could take longer than a list may",
    "exists": 'write "x" in item.categories || "y" in item.categories',
    "exists_one": 'write "x" in item.categories',
    "all": "write one comparison for each value, joined by &&",
    "map": "write the comparison itself",
    "filter": "write the comparison itself",
    "duration": "write days as a number: item.age_days < 7.0",
    "int": "write double(…): all numbers are doubles",
    "uint": "write double(…): all numbers are doubles",
    "upperAscii": "write lowerAscii() and a text in lower case",
}
"""Functions that CEL has and rules have not, with what to write instead."""
ALIKE: Final = 0.82
"""Similarity from which on an attribute's name is taken for a misspelt property."""
NOT_ATTRIBUTES: Final[Mapping[Owner, Mapping[str, str]]] = {
    "item": {"item_id": "id"},
    "user": {"user_id": "id", "preferred_categories": "categories"},
}
"""Fields of the records of items and profiles that are no attributes, and the properties that they are read by."""


def nearest(name: str, known: Iterable[str], least: float = 0.6) -> str | None:
    """Return the known name that is most like `name`, None where none is."""
    found = get_close_matches(name, list(known), 1, least)
    return found[0] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message on an unknown name: the nearest known one, and all."""
    names = list(known)
    near = nearest(name, names)
    return (f"did you mean {near}? " if near is not None else "") + f"Known: {', '.join(names)}"
