"""Interactions of users: the topic `recsys.events`, keyed by user id."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from schemas import limits
from schemas.fields import NULL_IS_NOT_GIVEN, Id, Name, Position, Scalar, SchemaVersion, TimestampMs, Value, Wire


class EventType(StrEnum):
    """Kind of interaction of a user with an item. `code` numbers the types densely, in this order; new types go to the end."""

    code: int

    def __new__(cls, value: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.code = len(cls.__members__)
        return member

    IMPRESSION = "impression"
    VIEW = "view"
    PLAY = "play"
    CLICK = "click"
    LIKE = "like"
    RATING = "rating"
    ADD_TO_CART = "add_to_cart"
    PURCHASE = "purchase"
    SHARE = "share"
    DISLIKE = "dislike"
    HIDE = "hide"


EVENT_TYPES: Final[tuple[EventType, ...]] = tuple(EventType)
"""`EVENT_TYPES[code]` is the type of that code."""


def event_type_name(code: int) -> str:
    """Return the name of an event type, or `type <code>` for one that a newer version wrote."""
    return EVENT_TYPES[code].value if 0 <= code < len(EVENT_TYPES) else f"type {code}"



class Event(Wire):
    """One thing a user did with an item. The Kafka key is the user id.

    A fault in `value` (of other types than rating), `list_id`, `position`, `session` or `context` costs that field, never the event.
    """

    schema_version: Annotated[SchemaVersion, NULL_IS_NOT_GIVEN] = 1
    """version 1 of this schema"""
    event_id: Id
    """the producer's own id of this event, the same when it is sent again; 1 to 128 bytes of UTF-8 without control characters"""
    user_id: Id
    """the user's id, equal to the Kafka key; 1 to 128 bytes of UTF-8 without control characters"""
    item_id: Id
    """the item's id; 1 to 128 bytes of UTF-8 without control characters"""
    type: EventType
    """one of the event types of the schema"""
    value: Value | None = None
    """a finite number: the rating, seconds played, price; a rating must have one, within ±1,000,000"""
    event_ts_ms: TimestampMs
    """when it happened, Unix time in whole milliseconds, from 1973-03-03 to 2100"""
    list_id: Id | None = None
    """the `list_id` of the recommendations it happened on, if any"""
    position: Position | None = None
    """the item's position on that list, 1 to 10,000; 1 is the first"""
    session: Id | None = None
    """the visit it happened in, if any: the same text on all events of one visit; 1 to 128 bytes of UTF-8 without control characters"""
    context: Annotated[dict[Name, Scalar], Field(max_length=limits.MAX_CONTEXT_ENTRIES), NULL_IS_NOT_GIVEN] = Field(default_factory=dict)
    """at most 32 named booleans, finite numbers or strings of at most 256 characters;
    longer strings are cut, of more entries the first are kept"""

    @model_validator(mode="after")
    def _rating_has_value(self) -> Self:
        if self.value is None and self.type is EventType.RATING:
            raise PydanticCustomError("missing", "a rating needs a value", {"field": "value"})
        if self.type is EventType.RATING and self.value is not None and abs(self.value) > limits.MAX_RATING:
            raise PydanticCustomError("rating_range", "a rating should be within ±1,000,000", {"field": "value"})
        return self
