"""Opens stores and connections to Redis for applications; `workers.kafka.clients` makes the Kafka clients."""

from __future__ import annotations

import redis

from workers.redis.connection import Link
from workers.redis.functions import load_library
from workers.redis.store import RedisStore
from workers.settings import Settings
from workers.state.port import StateStore


def open_store(settings: Settings, *, pinned: int | None = None) -> StateStore:
    """Return a store on the settings' Redis; nothing is connected before `await store.open(layout_of(settings))`.

    A `pinned` one is for a generation that is not served: every `open` without a generation opens that one.
    """
    return RedisStore(settings.redis, pinned=pinned)


def open_link(settings: Settings) -> Link:
    """Return connections to the settings' Redis for commands that are no part of the state; nothing is connected yet."""
    return Link(settings.redis, load_library())


def local_redis(url: str) -> redis.Redis:
    """Return redis-py's blocking client for a Redis of this machine that the caller started."""
    return redis.Redis.from_url(url)
