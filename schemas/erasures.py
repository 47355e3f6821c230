"""Erasure of a user: a record of its own on the events topic, keyed by user id, in order with the user's events (ADR 41).

It costs events nothing: only records that are no event are looked at.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ValidationError
from pydantic_core import from_json

from schemas import limits
from schemas.errors import Poison
from schemas.fields import NULL_IS_NOT_GIVEN, Id, SchemaVersion, TimestampMs, Wire
from schemas.reasons import poison_of
from schemas.unreadable import Unreadable

MARK = b'"erase"'


class UserErasure(Wire):
    """Erases what earlier events of one user have left: history, counts of what was shown, lists. The Kafka key is the user id.

    What the user does later starts a new history. Sums over all users stay as they are.
    """

    schema_version: Annotated[SchemaVersion, NULL_IS_NOT_GIVEN] = 1
    """version 1 of this schema"""
    user_id: Id
    """the user's id, equal to the Kafka key; 1 to 128 bytes of UTF-8 without control characters"""
    type: Literal["erase"]
    """always `erase`"""
    event_ts_ms: TimestampMs
    """when the erasure was asked for, Unix time in whole milliseconds; only the place in the log decides what is erased"""


def erased_user(value: bytes | None, key: bytes | None) -> str | None:
    """Return the user whom a record of the events topic erases, None if it is no erasure. Raises Poison for one under another key, and for
    one that says `erase` and is wrong otherwise."""
    if value is None or isinstance(value, Unreadable) or len(value) > limits.ERASURE_MAX_BYTES or MARK not in value:
        return None
    try:
        record = UserErasure.model_validate_json(value)
    except ValidationError as error:
        if not _says_erase(value):
            return None  # read as an event
        poison = poison_of(UserErasure, error)
    else:
        if record.user_id.encode() != key:
            raise Poison("key", "key: differs from user_id; send the same user id as the Kafka key, in UTF-8", "key_mismatch")
        return record.user_id
    raise poison  # out here, it does not carry the ValidationError, which holds the record's values


def _says_erase(value: bytes) -> bool:
    try:
        found = from_json(value)
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("type") == "erase"
