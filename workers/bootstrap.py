"""The one place that opens a store on the settings' Redis."""

from __future__ import annotations

from workers.redis.store import RedisStore
from workers.settings import Settings
from workers.state.port import StateStore


def open_store(settings: Settings, *, pinned: int | None = None) -> StateStore:
    """Return a store on the settings' Redis; nothing is connected before `await store.open(layout_of(settings))`.

    A `pinned` one is for a generation that is not served: every `open` without a generation opens that one.
    """
    return RedisStore(settings.redis, pinned=pinned)
