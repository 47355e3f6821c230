"""The events topic made anew is noticed before a record of it counts."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from workers.kafka.admin import admin_client
from workers.kafka.topic_identity import REFILL_PER_S, TopicWatch, may_be_refilled
from workers.kafka.topics import provision, topic_ids
from workers.settings import Settings


def delete(settings: Settings) -> None:
    with admin_client(settings) as admin:
        admin.delete_topics([settings.topics.events])


async def test_a_topic_made_anew_has_another_id_and_a_deleted_one_has_none(settings: Settings) -> None:
    watch, events = TopicWatch(settings), settings.topics.events
    try:
        first = await watch.topic_id()
        assert first == (await asyncio.to_thread(topic_ids, settings))[events]
        await asyncio.to_thread(delete, settings)
        async with asyncio.timeout(30):
            while await watch.topic_id() is not None:  # noqa: ASYNC110 (Kafka deletes in the background)
                await asyncio.sleep(0.05)
        await asyncio.to_thread(provision, settings)
        assert await watch.topic_id() == (await asyncio.to_thread(topic_ids, settings))[events] != first
    finally:
        await watch.close()


@given(st.lists(st.integers(0, 10**9), min_size=1), st.floats(0, 60), st.integers(0, 59))
def test_a_partition_is_looked_at_again_before_a_new_topic_can_have_reached_it(
    next_offsets: list[int], since_s: float, made_after_s: int
) -> None:
    reached = int(max(0.0, since_s - made_after_s) * REFILL_PER_S)
    if any(next_offset <= reached for next_offset in next_offsets):
        assert may_be_refilled(next_offsets, since_s)
    assert not may_be_refilled([int(since_s * REFILL_PER_S) + 1], since_s)
