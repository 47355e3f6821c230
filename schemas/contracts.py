"""The topics in one table: model, address, key, direction and cap of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar

from schemas import limits
from schemas.announcements import ModelAnnouncement
from schemas.catalogue import Item
from schemas.control import PublishedRules
from schemas.dead_letters import DeadLetter
from schemas.erasures import UserErasure
from schemas.events import Event
from schemas.fields import Wire
from schemas.lists import Recommendations
from schemas.profiles import UserProfile
from schemas.related import BoughtTogether, SimilarItems, Trending

W = TypeVar("W", bound=Wire)


@dataclass(frozen=True, slots=True)
class Contract(Generic[W]):
    """Describes the records of one topic.

    `direction`: `input` is written by users' systems and read here, `output` is written here and read by others (and here again).
    `key_fields` joined by `:` are the Kafka key. `tombstone` says what a null value means, None where it is refused. `max_bytes` caps
    a value. `channel` names the contract on whose topic these records lie too, empty where they have a topic of their own.
    """

    name: str
    model: type[W]
    address: str
    title: str
    direction: Literal["input", "output"]
    key_fields: tuple[str, ...]
    max_bytes: int
    compacted: bool
    tombstone: str | None
    channel: str = ""

    def key_of(self, record: W) -> bytes:
        """The Kafka key of a record."""
        return ":".join(str(getattr(record, field)) for field in self.key_fields).encode()


EVENTS: Final = Contract(
    "Event", Event, "recsys.events", "What users do", "input", ("user_id",), limits.EVENT_MAX_BYTES, compacted=False, tombstone=None
)
ITEMS: Final = Contract(
    "Item",
    Item,
    "recsys.items",
    "The catalogue",
    "input",
    ("item_id",),
    limits.ITEM_MAX_BYTES,
    compacted=True,
    tombstone="removes the item",
)
PROFILES: Final = Contract(
    "UserProfile", UserProfile, "recsys.users", "User profiles", "input", ("user_id",), limits.PROFILE_MAX_BYTES, compacted=True,
    tombstone="removes the profile",
)  # fmt: skip
RECOMMENDATIONS: Final = Contract(
    "Recommendations", Recommendations, "recsys.recommendations", "The newest list of each user", "output", ("user_id",),
    limits.RECOMMENDATIONS_MAX_BYTES, compacted=True, tombstone="removes the user's list",
)  # fmt: skip
MODELS: Final = Contract(
    "ModelAnnouncement", ModelAnnouncement, "recsys.models", "Which model version serves", "output", ("kind",),
    limits.ANNOUNCEMENT_MAX_BYTES, compacted=True,
    tombstone="retires the model kind, if the model store has retired it (`recsys models retire`)",
)  # fmt: skip
DEAD_LETTERS: Final = Contract(
    "DeadLetter", DeadLetter, "recsys.dlq", "Records that could not be read", "output",
    ("source_topic", "source_partition", "source_offset"), limits.DEAD_LETTER_MAX_BYTES, compacted=False, tombstone=None,
)  # fmt: skip

CONTROL: Final = Contract(
    "PublishedRules", PublishedRules, "recsys.control", "Rules that workers follow", "input", ("kind",), limits.CONTROL_MAX_BYTES,
    compacted=True, tombstone="removes the rules; those of the settings stay",
)  # fmt: skip
SIMILAR: Final = Contract(
    "SimilarItems", SimilarItems, "recsys.similar", "Similar items of each item", "output", ("item_id",), limits.RELATED_MAX_BYTES,
    compacted=True, tombstone="removes the list",
)  # fmt: skip
BOUGHT_TOGETHER: Final = Contract(
    "BoughtTogether", BoughtTogether, "recsys.bought-together", "What is bought together with each item", "output", ("item_id",),
    limits.RELATED_MAX_BYTES, compacted=True, tombstone="removes the list",
)  # fmt: skip
TRENDING: Final = Contract(
    "Trending", Trending, "recsys.trending", "What rises in each category", "output", ("scope", "name"), limits.RELATED_MAX_BYTES,
    compacted=True, tombstone="removes the list",
)  # fmt: skip

ERASURES: Final = Contract(
    "UserErasure", UserErasure, "recsys.events", "Users to be erased", "input", ("user_id",), limits.ERASURE_MAX_BYTES, compacted=False,
    tombstone=None, channel="Event",
)  # fmt: skip

CONTRACTS: Final[tuple[Contract[Any], ...]] = (
    EVENTS, ITEMS, PROFILES, RECOMMENDATIONS, MODELS, DEAD_LETTERS, CONTROL, SIMILAR, BOUGHT_TOGETHER, TRENDING, ERASURES
)  # fmt: skip
