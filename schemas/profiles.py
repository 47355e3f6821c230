"""Profiles of users: the compacted topic `recsys.users`, keyed by user id.

A null value (tombstone) removes the profile.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from schemas.fields import NULL_IS_NOT_GIVEN, CategoricalAttributes, Categories, Id, NumericAttributes, SchemaVersion, TimestampMs, Wire


class UserProfile(Wire):
    """Attributes of one user; a later record of the same id replaces the whole of it. The Kafka key is the user id.

    A fault in any field but `user_id` costs that field, never the profile.
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
