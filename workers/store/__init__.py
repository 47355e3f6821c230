"""The state store: `open_store(settings)` connects to Redis, `StateStore` says what it does, `layout_of(settings)` what is fixed in it."""

from __future__ import annotations

from recsys.deltas import RowId
from workers.settings import Settings
from workers.store.memory import MemoryStore
from workers.store.port import (
    LAYOUT_VERSION,
    ApplyStatus,
    CommitResult,
    Compaction,
    GroupDeltas,
    GroupResult,
    ItemRecord,
    Layout,
    ProfileRecord,
    Range,
    RowAddress,
    RowTail,
    ServerIdentity,
    StateStore,
    StoredItem,
    TailKind,
    UserCommit,
    Watermark,
)
from workers.store.redis_store import RedisStore

__all__ = [
    "LAYOUT_VERSION",
    "ApplyStatus",
    "CommitResult",
    "Compaction",
    "GroupDeltas",
    "GroupResult",
    "ItemRecord",
    "Layout",
    "MemoryStore",
    "ProfileRecord",
    "Range",
    "RedisStore",
    "RowAddress",
    "RowId",
    "RowTail",
    "ServerIdentity",
    "StateStore",
    "StoredItem",
    "TailKind",
    "UserCommit",
    "Watermark",
    "layout_of",
    "open_store",
]


def layout_of(settings: Settings) -> Layout:
    """The layout that the settings ask for; an epoch is one half-life, in whole seconds."""
    state = settings.state
    return Layout(settings.topics.partitions, state.item_groups, round(state.half_life_days * 86_400), state.duplicate_chunk)


def open_store(settings: Settings, *, pinned: int | None = None) -> StateStore:
    """A store on the settings' Redis; nothing is connected before `await store.open(layout_of(settings))`.

    A `pinned` one is for a generation that is not served: every `open` without a generation opens that one.
    """
    return RedisStore(settings.redis, pinned=pinned)
