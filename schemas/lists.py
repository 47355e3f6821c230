"""Recommended lists: the compacted topic `recsys.recommendations`, keyed by user id.

A null value (tombstone) removes a user's list.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, computed_field, model_validator
from pydantic_core import PydanticCustomError

from schemas import limits
from schemas.fields import NULL_IS_NOT_GIVEN, Id, Kind, Name, Number, Offset, Partition, SchemaVersion, TimestampMs, Version, Wire


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


class Recommendations(Wire):
    """The newest list of one user. The Kafka key is the user id."""

    schema_version: SchemaVersion = 1
    """version 1 of this schema"""
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
