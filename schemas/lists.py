"""Recommended lists: the compacted topic `recsys.recommendations`, keyed by user id.

A null value (tombstone) removes a user's list.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, computed_field, model_validator
from pydantic_core import PydanticCustomError

from schemas import limits
from schemas.fields import (
    NULL_IS_NOT_GIVEN,
    Id,
    Kind,
    Label,
    ListVersion,
    Name,
    Number,
    Offset,
    Partition,
    TimestampMs,
    Version,
    Wire,
)
from schemas.reason_kinds import ReasonKind


class Trigger(Wire):
    """Position in the log that a list is up to date with: everything up to `source_offset` of one events partition.

    Of two lists of one user the one with the larger `source_offset` is the newer; with equal ones the later `generated_ts_ms`.
    """

    event_id: Id | None = None
    """the id of the user's newest event in it; null when no event made this list (a new model, a new catalogue)"""
    partition: Partition
    """the events partition of the user"""
    source_offset: Offset
    """the Kafka offset of the newest event in it"""


class RecommendedItem(Wire):
    """One place of a list, with why it is there."""

    rank: Annotated[int, Field(strict=True, ge=1, le=limits.MAX_LIST_ITEMS)]
    """the place, 1 is the first"""
    item_id: Id
    """the item's id"""
    score: Number
    """the blended score; comparable within one list only"""
    sources: Annotated[dict[Name, Number], Field(max_length=limits.MAX_SOURCES), NULL_IS_NOT_GIVEN] = Field(default_factory=dict)
    """what each candidate source contributed to the score"""
    because: Annotated[tuple[Id, ...], Field(max_length=limits.MAX_BECAUSE), NULL_IS_NOT_GIVEN] = ()
    """at most 10 ids of the user's own items that this one follows from, the strongest first"""
    propensity: Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False), NULL_IS_NOT_GIVEN] = 1.0
    """the probability with which the policy put this item at this place; 1 where nothing is drawn"""
    reason: Annotated[ReasonKind | None, Field(exclude_if=lambda kind: kind is None)] = None
    """the kind of reason that carried this item: because (it follows from the items in `because`), bought_together (so do people who bought
    the first of these), people_like_you (a model of users alike), again (the user's own habit), profile (a category the user named),
    new_in, popular_now; left out in lists without reasons, and where nothing speaks for the item"""
    reason_category: Annotated[Label | None, Field(exclude_if=lambda named: named is None)] = None
    """the category that the reason speaks of, of the kinds new_in and profile; of the kind because the value that this item and the first
    of `because` share, such as `director: Michael Mann`, where a model ranks it for that; left out where there is none"""
    rules: Annotated[tuple[Name, ...], Field(max_length=limits.MAX_RULES, exclude_if=lambda named: not named), NULL_IS_NOT_GIVEN] = ()
    """at most 8 names of the rules that raised, lowered or pinned this item, in the order of the settings; left out where none did"""


class RowItem(Wire):
    """One place of a row."""

    item_id: Id
    """the item's id"""
    score: Number
    """what the row is ordered by; comparable within one row only"""


class Row(Wire):
    """One row of a page."""

    name: Name
    """the row's name in the settings, which no other row of the page has"""
    kind: Kind
    """what the row shows: `for_you`, `because`, `popular_now`, `new_in`, `again` or `category`; there may be more later"""
    title: Label
    """the title, or the key of one, as the settings give it: text to show, never markup"""
    item_id: Annotated[Id | None, Field(exclude_if=lambda given: given is None)] = None
    """the user's own item that the row follows from; only where there is one"""
    category: Annotated[Label | None, Field(exclude_if=lambda given: given is None)] = None
    """the category that the row is about; only where there is one"""
    items: Annotated[tuple[RowItem, ...], Field(min_length=1, max_length=limits.MAX_ROW_ITEMS)]
    """1 to 50 items, the first one first, none of which another row of the page has"""


class Recommendations(Wire):
    """The newest list of one user. The Kafka key is the user id."""

    schema_version: ListVersion = 1
    """version of this schema: 2 if the list has rows, else 1"""
    list_id: Id
    """the id that events on this list carry back"""
    user_id: Id
    """the user's id, equal to the Kafka key"""
    generated_ts_ms: TimestampMs
    """when the list was made, Unix time in whole milliseconds"""
    trigger: Trigger
    """what the list is up to date with"""
    model_versions: Annotated[dict[Kind, Version], Field(max_length=limits.MAX_MODELS), NULL_IS_NOT_GIVEN] = Field(default_factory=dict)
    """model kind to the version that took part; empty before the first training"""
    variant: Version
    """the name of the list's configuration"""
    items: Annotated[tuple[RecommendedItem, ...], Field(max_length=limits.MAX_LIST_ITEMS)]
    """at most 200 places, in order of rank from 1, no item twice"""
    rows: Annotated[tuple[Row, ...], Field(max_length=limits.MAX_ROWS, exclude_if=lambda given: not given), NULL_IS_NOT_GIVEN] = ()
    """at most 16 rows of a page, the first one first; only in version 2"""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def model_version(self) -> str:
        """`model_versions` in one string, kinds in alphabetical order: `ials=3,sasrec=7`; `none` if empty."""
        return ",".join(f"{kind}={version}" for kind, version in sorted(self.model_versions.items())) or "none"

    @model_validator(mode="after")
    def _ranks_count_up(self) -> Self:
        if [item.rank for item in self.items] != list(range(1, len(self.items) + 1)):
            raise PydanticCustomError("rank_order", "ranks should count up from 1", {"field": "items"})
        if len({item.item_id for item in self.items}) != len(self.items):
            raise PydanticCustomError("item_twice", "an item should occur once", {"field": "items"})
        return self

    @model_validator(mode="after")
    def _page_shows_an_item_once(self) -> Self:
        if self.rows and self.schema_version < 2:
            raise PydanticCustomError("rows_in_version_1", "a list with rows should have schema version 2", {"field": "rows"})
        listed = [item.item_id for row in self.rows for item in row.items]
        if len(set(listed)) != len(listed):
            raise PydanticCustomError("item_twice", "an item should occur in one row", {"field": "rows"})
        if len({row.name for row in self.rows}) != len(self.rows):
            raise PydanticCustomError("row_twice", "rows should have names of their own", {"field": "rows"})
        return self
