"""Lists of items: three compacted topics, of similar items, of what is bought together, and of what rises.

A null value (tombstone) says that there is no such list any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from schemas import limits
from schemas.fields import Count, Id, Label, Number, SchemaVersion, TimestampMs, Wire

Rank = Annotated[int, Field(strict=True, ge=1, le=limits.MAX_RELATED_ITEMS)]
Measure = Annotated[float, Field(strict=True, ge=0, le=limits.MAX_NUMBER, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]


class Scope(StrEnum):
    """Whose events a trending list is about."""

    CATEGORY = "category"
    SEGMENT = "segment"


class SimilarItem(Wire):
    """One place of a list of similar items."""

    rank: Rank
    """the place, 1 is the first"""
    item_id: Id
    """the item's id"""
    score: Number
    """between 0 and 1; comparable within one list only"""
    support: Measure
    """how much users chose it with the item of the key: events of weight 1, halved with each half-life; 0 where content alone says so"""


class BoughtTogetherItem(Wire):
    """One place of a list of what is bought together."""

    rank: Rank
    """the place, 1 is the first"""
    item_id: Id
    """the item's id"""
    score: Number
    """the log-likelihood ratio, which orders the list"""
    support: Count
    """users who have chosen both items"""
    confidence: Share
    """share of the users of the item of the key who have chosen this one too"""
    lift: Measure
    """how many times as often both are chosen as if they had nothing to do with each other"""


class TrendingItem(Wire):
    """One place of a list of what rises."""

    rank: Rank
    """the place, 1 is the first"""
    item_id: Id
    """the item's id"""
    score: Number
    """how surely it rises, a log-likelihood ratio, which orders the list"""
    count: Measure
    """how often it was chosen lately: events of weight 1, halved with each short half-life"""
    rise: Measure
    """how many times as often as its share of all events before would have it"""


class SimilarItems(Wire):
    """Items that are similar to one item. The Kafka key is that item's id."""

    schema_version: SchemaVersion = 1
    """version 1 of this schema"""
    item_id: Id
    """the item's id, equal to the Kafka key"""
    generated_ts_ms: TimestampMs
    """when the list was made, Unix time in whole milliseconds"""
    items: Annotated[tuple[SimilarItem, ...], Field(max_length=limits.MAX_RELATED_ITEMS)]
    """at most 100 places, in order of rank from 1, no item twice"""

    @model_validator(mode="after")
    def _is_a_list(self) -> Self:
        _check_places(self.items)
        return self


class BoughtTogether(Wire):
    """Items that the same users chose as one item. The Kafka key is that item's id."""

    schema_version: SchemaVersion = 1
    """version 1 of this schema"""
    item_id: Id
    """the item's id, equal to the Kafka key"""
    generated_ts_ms: TimestampMs
    """when the list was made, Unix time in whole milliseconds"""
    users: Count
    """users who have chosen the item"""
    items: Annotated[tuple[BoughtTogetherItem, ...], Field(max_length=limits.MAX_RELATED_ITEMS)]
    """at most 100 places, in order of rank from 1, no item twice"""

    @model_validator(mode="after")
    def _is_a_list(self) -> Self:
        _check_places(self.items)
        return self


class Trending(Wire):
    """Items that rise in one category. The Kafka key is scope and name, such as `category:Comedy`."""

    schema_version: SchemaVersion = 1
    """version 1 of this schema"""
    scope: Scope
    """`category`; later also `segment`"""
    name: Annotated[Label, Field(min_length=1)]
    """the category"""
    generated_ts_ms: TimestampMs
    """when the list was made, Unix time in whole milliseconds"""
    items: Annotated[tuple[TrendingItem, ...], Field(max_length=limits.MAX_RELATED_ITEMS)]
    """at most 100 places, in order of rank from 1, no item twice"""

    @model_validator(mode="after")
    def _is_a_list(self) -> Self:
        _check_places(self.items)
        return self


def _check_places(items: Sequence[SimilarItem | BoughtTogetherItem | TrendingItem]) -> None:
    if [item.rank for item in items] != list(range(1, len(items) + 1)):
        raise PydanticCustomError("rank_order", "ranks should count up from 1", {"field": "items"})
    if len({item.item_id for item in items}) != len(items):
        raise PydanticCustomError("item_twice", "an item should occur once", {"field": "items"})
