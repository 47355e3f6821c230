"""The wire: what travels on each topic, how it is read, and why a record is refused.

It knows neither Kafka nor Redis, clock nor environment.
"""

from schemas.announcements import DataRange, ModelAction, ModelAnnouncement, ModelReference
from schemas.catalogue import Item
from schemas.contracts import CONTRACTS, Contract
from schemas.control import PublishedRule, PublishedRules
from schemas.dead_letters import DeadLetter, make_dead_letter
from schemas.decoding import (
    DecodedEvents,
    check_times,
    decode_announcement,
    decode_dead_letter,
    decode_event,
    decode_events,
    decode_item,
    decode_key,
    decode_profile,
    decode_recommendations,
    decode_rules,
    encode,
    from_fields,
    key_of,
)
from schemas.errors import Poison, SchemaError
from schemas.events import EVENT_TYPES, Event, EventType
from schemas.lists import Recommendations, RecommendedItem, Row, RowItem, Trigger
from schemas.profiles import UserProfile

__all__ = [
    "CONTRACTS",
    "EVENT_TYPES",
    "Contract",
    "DataRange",
    "DeadLetter",
    "DecodedEvents",
    "Event",
    "EventType",
    "Item",
    "ModelAction",
    "ModelAnnouncement",
    "ModelReference",
    "Poison",
    "PublishedRule",
    "PublishedRules",
    "Recommendations",
    "RecommendedItem",
    "Row",
    "RowItem",
    "SchemaError",
    "Trigger",
    "UserProfile",
    "check_times",
    "decode_announcement",
    "decode_dead_letter",
    "decode_event",
    "decode_events",
    "decode_item",
    "decode_key",
    "decode_profile",
    "decode_recommendations",
    "decode_rules",
    "encode",
    "from_fields",
    "key_of",
    "make_dead_letter",
]
