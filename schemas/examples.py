"""One valid record of each topic, for the documents and the tests."""

from __future__ import annotations

from typing import Final

from schemas.announcements import DataRange, ModelAction, ModelAnnouncement, ModelReference
from schemas.catalogue import Item
from schemas.control import PublishedRule, PublishedRules
from schemas.dead_letters import DeadLetter, make_dead_letter
from schemas.erasures import UserErasure
from schemas.errors import Poison
from schemas.events import Event, EventType
from schemas.fields import Wire
from schemas.lists import Recommendations, RecommendedItem, Row, RowItem, Trigger
from schemas.profiles import UserProfile
from schemas.related import BoughtTogether, BoughtTogetherItem, Scope, SimilarItem, SimilarItems, Trending, TrendingItem

EVENT: Final = Event(
    event_id="7f9c24e5-0001",
    user_id="user-42",
    item_id="film-1198",
    type=EventType.RATING,
    value=4.5,
    event_ts_ms=1_767_225_600_000,
    list_id="user-42:1207",
    position=3,
    session="user-42:2026-01-01",
    context={"device": "tv", "autoplay": False},
)

ERASURE: Final = UserErasure(user_id="user-42", type="erase", event_ts_ms=1_767_225_700_000)

ITEM: Final = Item(
    item_id="film-1198",
    title="Raiders of the Lost Ark",
    categories=("Action", "Adventure"),
    text="An archaeologist looks for an ark before others find it.",
    numeric_attributes={"minutes": 115},
    categorical_attributes={"language": "en"},
    embeddings={"text": (0.12, -0.5, 0.33)},
    published_ts_ms=361_065_600_000,
)

PROFILE: Final = UserProfile(
    user_id="user-42",
    categorical_attributes={"country": "NO"},
    preferred_categories=("Adventure", "Comedy"),
    updated_ts_ms=1_767_225_500_000,
)

RECOMMENDATIONS: Final = Recommendations(
    list_id="user-42:1207",
    user_id="user-42",
    generated_ts_ms=1_767_225_600_018,
    trigger=Trigger(event_id="7f9c24e5-0001", partition=3, source_offset=1207),
    model_versions={"ials": "20260101T000000-1", "sasrec": "20260101T000000-2"},
    variant="default",
    items=(
        RecommendedItem(
            rank=1, item_id="film-1291", score=1.83, sources={"cooccurrence": 1.21, "sasrec": 0.62}, because=("film-1198",), propensity=1.0
        ),
        RecommendedItem(rank=2, item_id="film-260", score=1.4, sources={"ials": 1.4}),
    ),
)

PAGE: Final = RECOMMENDATIONS.model_copy(
    update={
        "schema_version": 2,
        "rows": (
            Row(
                name="because",
                kind="because",
                title="row.because",
                item_id="film-1198",
                items=(RowItem(item_id="film-1291", score=0.42), RowItem(item_id="film-2115", score=0.4)),
            ),
            Row(name="new", kind="new_in", title="row.new", category="Adventure", items=(RowItem(item_id="film-9000", score=0.97),)),
        ),
    }
)
"""A list with rows."""

ANNOUNCEMENT: Final = ModelAnnouncement(
    kind="ials",
    version="20260101T000000-1",
    action=ModelAction.PROMOTED,
    manifest_url="file:///var/lib/recsys/models/ials/20260101T000000-1/manifest.json",
    manifest_sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    announced_ts_ms=1_767_225_660_000,
    trained_ts_ms=1_767_225_650_000,
    trained_on=DataRange(first_event_ts_ms=1_735_689_600_000, last_event_ts_ms=1_767_225_600_000, n_events=560_000),
    champion=ModelReference(
        version="20251231T234500-1",
        manifest_url="file:///var/lib/recsys/models/ials/20251231T234500-1/manifest.json",
        manifest_sha256="60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752",
    ),
    challenger_metrics={"recall@10": 0.121},
    champion_metrics={"recall@10": 0.118},
    reason="recall@10 0.121 against 0.118 on the newest tenth of the events",
)

RULES: Final = PublishedRules(
    version=12,
    published_ts_ms=1_767_225_600_000,
    published_by="content team",
    note="spirits are off for January",
    rules=(
        PublishedRule(name="no spirits", when='"spirits" in item.categories', action="deny"),
        PublishedRule(name="editors' choice", when='item.id == "film-17"', action="pin", places=(1,)),
    ),
)

DEAD_LETTER: Final = make_dead_letter(
    Poison(
        "event_ts_ms",
        "event_ts_ms: got a string; input should be a valid integer; send when it happened, Unix time in whole milliseconds",
        "invalid_field",
    ),
    source_topic="recsys.events",
    source_partition=3,
    source_offset=1208,
    source_timestamp_ms=1_767_225_601_000,
    key=b"user-42",
    value=b'{"event_ts_ms":"yesterday"}',
    dead_letter_ts_ms=1_767_225_601_012,
)

SIMILAR: Final = SimilarItems(
    item_id="film-1198",
    generated_ts_ms=1_767_225_600_420,
    items=(
        SimilarItem(rank=1, item_id="film-1291", score=0.91, support=412.5),
        SimilarItem(rank=2, item_id="film-2115", score=0.62, support=230.25),
    ),
)

BOUGHT_TOGETHER: Final = BoughtTogether(
    item_id="camera-7",
    generated_ts_ms=1_767_225_600_420,
    users=200,
    items=(
        BoughtTogetherItem(rank=1, item_id="battery-7", score=310.2, support=80, confidence=0.4, lift=16.0),
        BoughtTogetherItem(rank=2, item_id="strap-2", score=41.7, support=24, confidence=0.12, lift=6.0),
    ),
)

TRENDING: Final = Trending(
    scope=Scope.CATEGORY,
    name="Adventure",
    generated_ts_ms=1_767_225_600_420,
    items=(TrendingItem(rank=1, item_id="film-1198", score=57.3, count=31.5, rise=4.2),),
)

EXAMPLES: Final[dict[type[Wire], Wire]] = {
    Event: EVENT,
    Item: ITEM,
    UserProfile: PROFILE,
    Recommendations: RECOMMENDATIONS,
    ModelAnnouncement: ANNOUNCEMENT,
    DeadLetter: DEAD_LETTER,
    PublishedRules: RULES,
    SimilarItems: SIMILAR,
    BoughtTogether: BOUGHT_TOGETHER,
    Trending: TRENDING,
    UserErasure: ERASURE,
}
