"""What there is to recommend: the compacted topic `recsys.items`, keyed by item id. A null value (tombstone) removes the item."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from schemas import limits
from schemas.fields import CalendarMs, CategoricalAttributes, Categories, Coordinate, Flag, Id, Name, NumericAttributes, SchemaVersion, Wire

Embedding = Annotated[tuple[Coordinate, ...], Field(min_length=1, max_length=limits.MAX_EMBEDDING_DIMENSIONS)]


class Item(Wire):
    """One item of the catalogue; a later record of the same id replaces the whole of it. The Kafka key is the item id."""

    schema_version: SchemaVersion = 1
    """version 1 of this schema"""
    item_id: Id
    """the item's id, equal to the Kafka key; 1 to 128 bytes of UTF-8 without control characters"""
    title: Annotated[str, Field(strict=True, max_length=limits.TITLE_MAX_CHARS)] = ""
    """a title of at most 512 characters"""
    categories: Categories = ()
    """at most 32 strings of 1 to 256 characters"""
    text: Annotated[str, Field(strict=True, max_length=limits.TEXT_MAX_CHARS)] = ""
    """a description of at most 8,192 characters"""
    numeric_attributes: NumericAttributes = Field(default_factory=dict)
    """at most 32 named finite numbers"""
    categorical_attributes: CategoricalAttributes = Field(default_factory=dict)
    """at most 32 named strings of at most 256 characters"""
    embeddings: Annotated[dict[Name, Embedding], Field(max_length=limits.MAX_EMBEDDINGS)] = Field(default_factory=dict)
    """at most 4 named vectors (`text`, `image`, `audio`, …) of 1 to 1,024 finite numbers within ±1e6"""
    available: Flag = True
    """true or false; an unavailable item is never recommended and keeps its history"""
    published_ts_ms: CalendarMs | None = None
    """when it came out, Unix time in whole milliseconds; negative before 1970"""
    expires_ts_ms: CalendarMs | None = None
    """from when it must not be recommended, Unix time in whole milliseconds"""
