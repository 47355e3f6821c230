"""What is known of a user beside events: the compacted topic `recsys.users`, keyed by user id.

A null value (tombstone) removes the profile.
"""

from __future__ import annotations

from pydantic import Field

from schemas.fields import CategoricalAttributes, Categories, Id, NumericAttributes, SchemaVersion, TimestampMs, Wire


class UserProfile(Wire):
    """Attributes of one user; a later record of the same id replaces the whole of it. The Kafka key is the user id."""

    schema_version: SchemaVersion = 1
    """version 1 of this schema"""
    user_id: Id
    """the user's id, equal to the Kafka key; 1 to 128 bytes of UTF-8 without control characters"""
    numeric_attributes: NumericAttributes = Field(default_factory=dict)
    """at most 32 named finite numbers"""
    categorical_attributes: CategoricalAttributes = Field(default_factory=dict)
    """at most 32 named strings of at most 256 characters"""
    preferred_categories: Categories = ()
    """at most 32 categories the user asked for, strings of 1 to 256 characters"""
    updated_ts_ms: TimestampMs | None = None
    """when the profile last changed, Unix time in whole milliseconds"""
