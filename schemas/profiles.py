"""Profiles of users: the compacted topic `recsys.users`, keyed by user id.

A null value (tombstone) removes the profile. A record that names another id in `merged_into` ends its own id: what both have done counts
for the other one, and the ended id has no list.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from schemas.fields import NULL_IS_NOT_GIVEN, CategoricalAttributes, Categories, Id, NumericAttributes, SchemaVersion, TimestampMs, Wire


class UserProfile(Wire):
    """Attributes of one user; a later record of the same id replaces the whole of it. The Kafka key is the user id.

    A fault in any field but `user_id` and `merged_into` costs that field, never the profile.
    """

    schema_version: Annotated[SchemaVersion, NULL_IS_NOT_GIVEN] = 1
    """version 1 of this schema"""
    user_id: Id
    """the user's id, equal to the Kafka key; 1 to 128 bytes of UTF-8 without control characters"""
    numeric_attributes: Annotated[NumericAttributes, NULL_IS_NOT_GIVEN] = Field(default_factory=dict)
    """at most 32 named finite numbers"""
    categorical_attributes: Annotated[CategoricalAttributes, NULL_IS_NOT_GIVEN] = Field(default_factory=dict)
    """at most 32 named strings of at most 256 characters"""
    preferred_categories: Annotated[Categories, NULL_IS_NOT_GIVEN] = ()
    """at most 32 categories the user asked for, strings of 1 to 256 characters"""
    updated_ts_ms: TimestampMs | None = None
    """when the profile last changed, Unix time in whole milliseconds"""
    merged_into: Id | None = None
    """the id that goes on if this one has ended: that of an account, after an anonymous visitor has logged in; not `user_id` itself"""

    @field_validator("merged_into")
    @classmethod
    def _is_another(cls, merged_into: str | None, info: ValidationInfo) -> str | None:
        if merged_into is not None and merged_into == info.data.get("user_id"):
            raise PydanticCustomError("merged_into_itself", "Id should be another one than user_id")
        return merged_into
