"""Refused records: the topic `recsys.dlq`, keyed by source coordinates (`topic:partition:offset`), so a replay repeats a key."""

from __future__ import annotations

import base64
import hashlib
from typing import Annotated

from pydantic import Field

from schemas import limits
from schemas.errors import Poison
from schemas.fields import Count, Kind, Label, Offset, Partition, SchemaVersion, Sha256, TimestampMs, Wire
from schemas.unreadable import Unreadable

_BASE64_MAX_CHARS = (limits.DEAD_LETTER_MAX_PAYLOAD_BYTES + 2) // 3 * 4


class DeadLetter(Wire):
    """One record that was refused: why, where it lies, and how to recognise it. Without `payload_base64` it holds no personal data."""

    schema_version: SchemaVersion = 1
    """version 1 of this schema"""
    reason: Annotated[str, Field(strict=True, min_length=1, max_length=limits.REASON_MAX_CHARS)]
    """one line: the field, the kind of value found there, the remedy"""
    field: Label
    """the field at fault; `record` for the whole value, `key` for the Kafka key"""
    kind: Kind
    """a short code to count by: not_json, too_large, invalid_field, …"""
    source_topic: Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9._-]{1,249}$")]
    """the topic the record lies in"""
    source_partition: Partition
    """the partition the record lies in"""
    source_offset: Offset
    """the Kafka offset of the record"""
    source_last_offset: Offset | None = None
    """the last offset of a batch of records that could not be unpacked, of which `source_offset` is the first; null for one record"""
    source_timestamp_ms: Annotated[int, Field(strict=True, ge=-1, le=limits.MAX_OFFSET)]
    """the Kafka timestamp of the record, as the producer or the broker set it; −1 if there is none"""
    key_sha256: Sha256 | None
    """the SHA-256 of the record's key, so that one user's dead letters can be found; null if there is no key"""
    payload_sha256: Sha256 | None
    """the SHA-256 of the record's value; null if there is no value"""
    payload_bytes: Count
    """the size of the record's value in bytes"""
    payload_base64: Annotated[str, Field(strict=True, max_length=_BASE64_MAX_CHARS, pattern=r"^[A-Za-z0-9+/]*={0,2}$")] | None = None
    """the record's value, only where the settings ask for it and it is small enough"""
    dead_letter_ts_ms: TimestampMs
    """when it was refused, Unix time in whole milliseconds"""


def make_dead_letter(
    poison: Poison,
    *,
    source_topic: str,
    source_partition: int,
    source_offset: int,
    source_timestamp_ms: int | None,
    key: bytes | None,
    value: bytes | None,
    dead_letter_ts_ms: int,
    with_payload: bool = False,
) -> DeadLetter:
    """The dead letter of a record, or of a batch that could not be unpacked (its value is `Unreadable`, its offset the batch's last).

    `with_payload` keeps the raw value (personal data) if it is at most 512 KiB.
    """
    payload, last_offset = None, None
    digest = None if value is None else hashlib.sha256(value).hexdigest()
    n_bytes = 0 if value is None else len(value)
    if isinstance(value, Unreadable):
        digest, n_bytes = value.payload_sha256, value.payload_bytes
        if value.first_offset is not None:
            source_offset, last_offset = value.first_offset, source_offset
    elif with_payload and value is not None and len(value) <= limits.DEAD_LETTER_MAX_PAYLOAD_BYTES:
        payload = base64.b64encode(value).decode("ascii")
    return DeadLetter(
        reason=poison.reason[: limits.REASON_MAX_CHARS],
        field=poison.field[: limits.LABEL_MAX_CHARS],
        kind=poison.kind,
        source_topic=source_topic,
        source_partition=source_partition,
        source_offset=source_offset,
        source_last_offset=last_offset,
        source_timestamp_ms=-1 if source_timestamp_ms is None or source_timestamp_ms < 0 else source_timestamp_ms,
        key_sha256=None if key is None else hashlib.sha256(key).hexdigest(),
        payload_sha256=digest,
        payload_bytes=n_bytes,
        payload_base64=payload,
        dead_letter_ts_ms=dead_letter_ts_ms,
    )
