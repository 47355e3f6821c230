"""Which model serves: the compacted topic `recsys.models`, keyed by model kind."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from schemas import limits
from schemas.fields import NULL_IS_NOT_GIVEN, Count, Kind, Name, Number, SchemaVersion, Sha256, TimestampMs, Version, Wire

Metrics = Annotated[dict[Name, Number], Field(max_length=limits.MAX_METRICS), NULL_IS_NOT_GIVEN]
Url = Annotated[str, Field(strict=True, min_length=1, max_length=limits.URL_MAX_CHARS)]


class ModelAction(StrEnum):
    """Decision about the version that an announcement names."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    REFUSED = "refused"


class ModelReference(Wire):
    """One stored version and how to check that it is the one meant."""

    version: Version
    """the version"""
    manifest_url: Url
    """the fsspec URL of its manifest"""
    manifest_sha256: Sha256
    """the SHA-256 of the manifest's bytes, 64 hexadecimal digits in lower case"""


class DataRange(Wire):
    """Range of events that a model was trained on."""

    first_event_ts_ms: TimestampMs
    """the event time of the oldest event, Unix time in whole milliseconds"""
    last_event_ts_ms: TimestampMs
    """the event time of the newest event, Unix time in whole milliseconds"""
    n_events: Count
    """how many events"""

    @model_validator(mode="after")
    def _runs_forward(self) -> Self:
        if self.last_event_ts_ms < self.first_event_ts_ms:
            raise PydanticCustomError("range_order", "the last event should not be before the first", {"field": "last_event_ts_ms"})
        return self


class ModelAnnouncement(Wire):
    """One decision about one version of one model kind. The Kafka key is the kind.

    The topic is compacted, so the newest record must say by itself what serves: read `serving`.
    """

    schema_version: SchemaVersion = 1
    """version 1 of this schema"""
    kind: Kind
    """the model kind, equal to the Kafka key; lower-case letters, digits and `_`"""
    version: Version
    """the version that was judged (promoted, refused) or is back in service (rolled_back)"""
    action: ModelAction
    """one of promoted, rolled_back, refused"""
    manifest_url: Url
    """the fsspec URL of that version's manifest"""
    manifest_sha256: Sha256
    """the SHA-256 of the manifest's bytes, 64 hexadecimal digits in lower case"""
    announced_ts_ms: TimestampMs
    """when it was announced, Unix time in whole milliseconds"""
    trained_ts_ms: TimestampMs
    """when the training of that version ended, Unix time in whole milliseconds"""
    trained_on: DataRange
    """the events it was trained on"""
    champion: ModelReference | None = None
    """the version that served before; null if there was none"""
    challenger_metrics: Metrics = Field(default_factory=dict)
    """figures of the version that this announcement names, on the newest time slice"""
    champion_metrics: Metrics = Field(default_factory=dict)
    """figures of the champion on the same slice"""
    reason: Annotated[str, Field(strict=True, max_length=limits.REASON_MAX_CHARS), NULL_IS_NOT_GIVEN] = ""
    """why, in one line for people"""

    @property
    def serving(self) -> ModelReference | None:
        """Return the version that serves after this announcement: the named one, or, when that was refused, the champion (None if none)."""
        if self.action is ModelAction.REFUSED:
            return self.champion
        return ModelReference(version=self.version, manifest_url=self.manifest_url, manifest_sha256=self.manifest_sha256)
