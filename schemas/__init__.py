"""The wire: what travels on each topic, how it is read, and why a record is refused.

It knows neither Kafka nor Redis, clock nor environment. A name is imported from its module when it is first used: validators take a while
to build, and a program that only asks for the limits needs none.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from schemas.erasures import UserErasure
    from schemas.errors import Poison, SchemaError
    from schemas.events import EVENT_TYPES, Event, EventType
    from schemas.lists import Recommendations, RecommendedItem, Row, RowItem, Trigger
    from schemas.profiles import UserProfile

_MODULES = {
    "announcements": ("DataRange", "ModelAction", "ModelAnnouncement", "ModelReference"),
    "catalogue": ("Item",),
    "contracts": ("CONTRACTS", "Contract"),
    "control": ("PublishedRule", "PublishedRules"),
    "dead_letters": ("DeadLetter", "make_dead_letter"),
    "decoding": (
        "DecodedEvents",
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
    ),
    "erasures": ("UserErasure",),
    "errors": ("Poison", "SchemaError"),
    "events": ("EVENT_TYPES", "Event", "EventType"),
    "lists": ("Recommendations", "RecommendedItem", "Row", "RowItem", "Trigger"),
    "profiles": ("UserProfile",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"schemas.{_HOME[name]}"), name)
    globals()[name] = found
    return found


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
    "UserErasure",
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
