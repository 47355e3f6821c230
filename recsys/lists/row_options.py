"""Configuration of the rows of a page. Without rows nothing is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from recsys.catalogue.labels import CATEGORY

RowKind = Literal["for_you", "because", "popular_now", "new_in", "again", "category"]
OF_CATEGORIES = frozenset(("new_in", "category"))
"""Kinds of rows that are about a category."""


@dataclass(frozen=True, slots=True)
class RowSpec:
    """One row of a page: its `kind`, how many items it shows, the `least` number without which it is left out, and the `category` that it
    is about; without one, `new_in` is about the user's favourite. `name` and `title` are for readers."""

    kind: RowKind
    size: int
    least: int = 1
    category: str | None = None
    name: str = ""
    title: str = ""


def label_fields(rows: Sequence[RowSpec]) -> frozenset[str]:
    """Return the fields of items whose exact values the rows read."""
    return frozenset((CATEGORY,)) if any(row.kind in OF_CATEGORIES for row in rows) else frozenset()
