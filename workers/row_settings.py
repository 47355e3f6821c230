"""Settings of the rows of a page; there are none by default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from schemas.limits import LABEL_MAX_CHARS, MAX_ROW_ITEMS, MAX_ROWS, NAME_MAX_CHARS
from workers.section import Section

_VISIBLE = r"^[^\u0000-\u001f\u007f-\u009f]+$"


class RowSettings(Section):
    """One row of a page (docs/homepage.md)."""

    kind: Literal["for_you", "because", "popular_now", "new_in", "again", "category"]
    """What the row shows."""
    size: Annotated[int, Field(ge=1, le=MAX_ROW_ITEMS)] = 10
    """Items of the row at most."""
    least: Annotated[int, Field(ge=1, le=MAX_ROW_ITEMS)] = 3
    """With fewer items than this the row is left out."""
    name: Annotated[str, Field(max_length=NAME_MAX_CHARS, pattern=_VISIBLE)] | None = None
    """Name of the row, which no other row has; its kind if it is not given."""
    title: Annotated[str, Field(max_length=LABEL_MAX_CHARS, pattern=_VISIBLE)] | None = None
    """Title, or the key of one in your texts; its name if it is not given. It is written into the list as it is."""
    category: Annotated[str, Field(min_length=1, max_length=LABEL_MAX_CHARS)] | None = None
    """The category of a row `category`, or of `new_in`, which without one is about the user's favourite."""

    @model_validator(mode="after")
    def _fits(self) -> RowSettings:
        """Refuse what would be ignored, or would leave the row out of every page."""
        if self.least > self.size:
            raise ValueError(f"least ({self.least}) must not be above size ({self.size}), else no page shows the row: lower least")
        if self.kind == "category" and self.category is None:
            raise ValueError("category: a row of this kind needs one: name a category of your items")
        if self.category is not None and self.kind not in ("category", "new_in"):
            raise ValueError(f"category: a row {self.kind} is about none: remove it, or choose the kind category or new_in")
        return self

    @property
    def shown_name(self) -> str:
        """Return the name under which a page has the row."""
        return self.kind if self.name is None else self.name


def _distinct(rows: Sequence[RowSettings]) -> Sequence[RowSettings]:
    names = [row.shown_name for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{names.count(name)} rows have the name {name!r}: give each a name of its own")
    return rows


PageRows = Annotated[tuple[RowSettings, ...], Field(max_length=MAX_ROWS), AfterValidator(_distinct)]
"""Rows with names that differ, not too many."""
