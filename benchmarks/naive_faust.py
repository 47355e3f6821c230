"""The baseline of `ingest`: one Faust agent that keeps the same state event by event with redis-py.

It is what a team writes first: pydantic per event, a list for the history, sorted sets for co-occurrence and popularity, a set for
duplicates; one pipeline of reads, one of writes. It has no watermark, so a crash counts events twice, and it makes no lists.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import faust
import redis.asyncio as redis

from recsys.engine import EngineConfig
from schemas.events import Event
from workers.kafka.connection import faust_arguments
from workers.settings import load_settings


def build() -> faust.App:
    """Return the naive agent on the events topic of the settings."""
    settings = load_settings()
    app = faust.App(
        os.environ["NAIVE_ID"],
        **faust_arguments(settings),
        store="memory://",
        topic_disable_leader=True,
        topic_allow_declare=False,
        web_enabled=False,
        consumer_auto_offset_reset="earliest",
    )
    topic = app.topic(settings.topics.events, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    store = redis.from_url(settings.redis.url.get_secret_value())
    pairs = EngineConfig().pair_weights
    length = settings.state.history_length

    @app.agent(topic, concurrency=1)  # type: ignore[untyped-decorator]
    async def learn(stream: Any) -> None:
        async for value in stream:
            event = Event.model_validate_json(value)
            history = f"naive:h:{event.user_id}"
            read = store.pipeline(transaction=False)
            read.lrange(history, 0, pairs.window - 1)
            read.sadd(f"naive:seen:{event.user_id}", event.event_id)
            earlier, is_new = await read.execute()
            if not is_new:
                continue
            write = store.pipeline(transaction=False)
            for distance, packed in enumerate(earlier):
                other = packed.decode().split("|", 1)[0]
                if other != event.item_id:
                    write.zincrby(f"naive:c:{other}", pairs.forward[distance] / 64, event.item_id)
                    write.zincrby(f"naive:c:{event.item_id}", pairs.backward[distance] / 64, other)
            write.lpush(history, f"{event.item_id}|{event.event_ts_ms}")
            write.ltrim(history, 0, length - 1)
            for window, bucket in (("all", 0), ("day", event.event_ts_ms // 86_400_000), ("hour", event.event_ts_ms // 3_600_000)):
                write.zincrby(f"naive:pop:{window}:{bucket}", 1, event.item_id)
            write.incr("naive:applied")
            await write.execute()

    return app


if __name__ == "__main__":
    application = build()
    worker = faust.Worker(application, loglevel="WARN", loop=application.loop, redirect_stdouts=False)
    sys.exit(worker.execute_from_commandline())
