"""The checks that a record passes before it is sent: valid, not in the future, small enough for Kafka."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeVar

from schemas import Event, Item, Poison, UserErasure, UserProfile, check_times, encode, from_fields
from workers.runtime.trimmed import TrimmedFields

MAX_RECORD_BYTES = 1_048_576
Record = Event | Item | UserProfile | UserErasure
R = TypeVar("R", Event, Item, UserProfile)


def check_not_ahead(event: Event, future_skew_s: int) -> None:
    """Raise Poison for an event that workers would refuse as too far in the future, measured against this machine's clock."""
    if event.event_ts_ms > time.time_ns() // 1_000_000 + future_skew_s * 1_000:
        raise Poison(
            "event_ts_ms",
            f"event_ts_ms: got a time more than {future_skew_s} s ahead of this machine's clock; send Unix time in milliseconds (UTC, not "
            "local time), and check the clock",
            "future_timestamp",
        )


def checked_event(event: Event | Mapping[str, Any], future_skew_s: int, trimmed: TrimmedFields) -> Event:
    """Return a valid event that is not in the future. Raises Poison."""
    event = event if isinstance(event, Event) else _checked(Event, event, trimmed)
    check_not_ahead(event, future_skew_s)
    return event


def checked_item(item: Item | Mapping[str, Any], trimmed: TrimmedFields) -> Item:
    """Return a valid item. Raises Poison."""
    item = item if isinstance(item, Item) else _checked(Item, item, trimmed)
    check_times(item)
    return item


def checked_profile(profile: UserProfile | Mapping[str, Any], trimmed: TrimmedFields) -> UserProfile:
    """Return a valid profile. Raises Poison."""
    return profile if isinstance(profile, UserProfile) else _checked(UserProfile, profile, trimmed)


def checked_merge(ended_id: str, account_id: str, trimmed: TrimmedFields) -> UserProfile:
    """Return the record that says that an id goes on as another one. Raises Poison."""
    fields = {"user_id": ended_id, "merged_into": account_id, "updated_ts_ms": time.time_ns() // 1_000_000}
    return checked_profile(fields, trimmed)


def value_of(record: Record) -> bytes:
    """Return a record as the value of a Kafka record. Raises Poison when it is too large, SchemaError when it is not valid Unicode."""
    value = encode(record)
    if len(value) > MAX_RECORD_BYTES - 1_024:
        raise Poison("record", "record: too large for a Kafka record; shorten its text or leave out embeddings", "too_large")
    return value


def _checked(model: type[R], fields: Mapping[str, Any], trimmed: TrimmedFields) -> R:
    shortened: Counter[str] = Counter()
    record = from_fields(model, fields, shortened=shortened)
    if shortened:
        trimmed.add({Event: "event", Item: "item"}.get(model, "profile"), shortened)
    return record


class DryRun:
    """Checks records as `EventPublisher` does and sends nothing; no broker is needed."""

    def __init__(self, future_skew_s: int) -> None:
        self._future_skew_s = future_skew_s
        self.trimmed = TrimmedFields()

    def publish(self, event: Event | Mapping[str, Any], /) -> Event:
        """Check one event. Raises Poison or SchemaError."""
        record = checked_event(event, self._future_skew_s, self.trimmed)
        value_of(record)
        return record

    def publish_item(self, item: Item | Mapping[str, Any]) -> Item:
        """Check one item. Raises Poison or SchemaError."""
        record = checked_item(item, self.trimmed)
        value_of(record)
        return record

    def publish_profile(self, profile: UserProfile | Mapping[str, Any]) -> UserProfile:
        """Check one profile. Raises Poison or SchemaError."""
        record = checked_profile(profile, self.trimmed)
        value_of(record)
        return record

    def merge_users(self, ended_id: str, account_id: str) -> UserProfile:
        """Check a merge. Raises Poison or SchemaError."""
        return checked_merge(ended_id, account_id, self.trimmed)

    def flush(self, timeout_s: float | None = None) -> None:
        """Do nothing: nothing is on its way."""

    def close(self, timeout_s: float | None = None) -> None:
        """Do nothing: nothing is open."""

    @property
    def n_unacknowledged(self) -> int:
        """Return 0."""
        return 0

    def __enter__(self) -> DryRun:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""
