"""Items that can be recommended: the compacted topic `recsys.items`, keyed by item id. A null value (tombstone) removes the item."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from schemas import limits
from schemas.fields import (
    NULL_IS_NOT_GIVEN,
    CalendarMs,
    CategoricalAttributes,
    Categories,
    Coordinate,
    Flag,
    Id,
    Name,
    NumericAttributes,
    SchemaVersion,
    Wire,
)

Embedding = Annotated[tuple[Coordinate, ...], Field(min_length=1, max_length=limits.MAX_EMBEDDING_DIMENSIONS)]


class Item(Wire):
    """One item of the catalogue; a later record of the same id replaces the whole of it. The Kafka key is the item id.

    A fault in `title`, `categories`, `text`, an attribute or an embedding costs that part, never the item. The times of an available item
    must be right, since it would be listed too long or never.
    """

    schema_version: Annotated[SchemaVersion, NULL_IS_NOT_GIVEN] = 1
    """version 1 of this schema"""
    item_id: Id
    """the item's id, equal to the Kafka key; 1 to 128 bytes of UTF-8 without control characters"""
    title: Annotated[str, Field(strict=True, max_length=limits.TITLE_MAX_CHARS), NULL_IS_NOT_GIVEN] = ""
    """a title of at most 512 characters; a longer one is cut"""
    categories: Annotated[Categories, NULL_IS_NOT_GIVEN] = ()
    """at most 32 strings of 1 to 256 characters; of more the first 32 are kept, longer ones are cut"""
    text: Annotated[str, Field(strict=True, max_length=limits.TEXT_MAX_CHARS), NULL_IS_NOT_GIVEN] = ""
    """a description of at most 8,192 characters; a longer one is cut"""
    numeric_attributes: Annotated[NumericAttributes, NULL_IS_NOT_GIVEN] = Field(default_factory=dict)
    """at most 32 named finite numbers"""
    categorical_attributes: Annotated[CategoricalAttributes, NULL_IS_NOT_GIVEN] = Field(default_factory=dict)
    """at most 32 named strings of at most 256 characters"""
    embeddings: Annotated[dict[Name, Embedding], Field(max_length=limits.MAX_EMBEDDINGS), NULL_IS_NOT_GIVEN] = Field(default_factory=dict)
    """at most 4 named vectors (`text`, `image`, `audio`, …) of 1 to 3,072 finite numbers within ±1e6"""
    available: Annotated[Flag, NULL_IS_NOT_GIVEN] = True
    """true or false; an unavailable item is never recommended and keeps its history"""
    published_ts_ms: CalendarMs | None = None
    """when it came out, Unix time in whole milliseconds, negative before 1970; from 1969-11-14 to 1970-02-17 only midnights UTC are
    accepted, as other numbers of that size are seconds sent by mistake"""
    expires_ts_ms: CalendarMs | None = None
    """from when it must not be recommended, Unix time in whole milliseconds; from 1969-11-14 to 1978-01-11 it is refused, as such numbers
    (0 and −1 too) are seconds or placeholders"""
