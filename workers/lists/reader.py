"""Reading published lists: the newest one of a user, and all as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from schemas import Poison, Recommendations, decode_recommendations
from workers.errors import Fatal
from workers.kafka.admin import kafka_errors
from workers.kafka.connection import check_reachable, kafka_python_consumer_arguments
from workers.kafka.offsets import end_offsets, start_offsets
from workers.kafka.partitioner import partition_for
from workers.kafka.rights import on_topics
from workers.settings import Settings

FIRST_LOOK_RECORDS = 2_000  # the newest list is usually near the end; each further look goes eight times as far back
POLL_MS = 200


def _consumer(settings: Settings) -> Any:
    from kafka import KafkaConsumer

    check_reachable(settings.kafka)
    return KafkaConsumer(
        **kafka_python_consumer_arguments(settings),
        fetch_max_wait_ms=settings.kafka.fetch_max_wait_ms,
        max_poll_records=2_000,
    )


def newer(one: Recommendations, other: Recommendations) -> bool:
    """Whether `one` is the newer of two lists of one user, as `Trigger` defines it: a zombie's late list is older than it looks."""
    return (one.trigger.source_offset, one.generated_ts_ms) >= (other.trigger.source_offset, other.generated_ts_ms)


def newest_list(settings: Settings, user_id: str) -> Recommendations | None:
    """The newest list of a user, or None if there is none or it was removed. Reads only the user's partition, from its end backwards.

    Raises Transient when no broker answers, Fatal when the topic is missing or has another number of partitions than the settings say.
    """
    topic = settings.topics.recommendations
    ends = end_offsets(settings, [topic])
    if len(ends) != settings.topics.partitions:
        raise Fatal(f"topic {topic} has {len(ends)} partitions, topics.partitions is {settings.topics.partitions}: correct the setting")
    partition = partition_for(user_id.encode(), settings.topics.partitions)
    start, end = start_offsets(settings, [topic])[(topic, partition)], ends[(topic, partition)]
    key = user_id.encode()
    with kafka_errors(settings, *on_topics("Read", topic)):
        consumer = _consumer(settings)
        try:
            look, upper = FIRST_LOOK_RECORDS, end
            while upper > start:
                lower = max(start, upper - look)
                found, best = _newest_between(consumer, topic, partition, lower, upper, key)
                if found:
                    return best
                upper, look = lower, look * 8
            return None
        finally:
            consumer.close()


def _newest_between(consumer: Any, topic: str, partition: int, lower: int, upper: int, key: bytes) -> tuple[bool, Recommendations | None]:
    """Whether the key occurs in offsets [lower, upper), and its newest list there (None after a tombstone)."""
    from kafka import TopicPartition

    place = TopicPartition(topic, partition)
    consumer.assign([place])
    consumer.seek(place, lower)
    found, best = False, None
    while consumer.position(place) < upper:
        for record in consumer.poll(timeout_ms=POLL_MS).get(place, []):
            if record.key != key or record.offset >= upper:
                continue
            found = True
            try:
                made = decode_recommendations(record.value, record.key)
            except Poison:
                continue  # not written by this project; an older list of the user is still one
            if made is None:
                best = None
            elif best is None or newer(made, best):
                best = made
    return found, best


def follow_lists(
    settings: Settings, *, from_start: bool = False, stop: Callable[[], bool] = lambda: False
) -> Iterator[tuple[str, Recommendations | None]]:
    """(user id, list or None for a removal) as they are published; from now on, or from the oldest. Ends when `stop` says so."""
    from kafka import TopicPartition

    topic = settings.topics.recommendations
    edges = start_offsets(settings, [topic]) if from_start else end_offsets(settings, [topic])
    with kafka_errors(settings, *on_topics("Read", topic)):
        consumer = _consumer(settings)
        try:
            consumer.assign([TopicPartition(topic, partition) for _, partition in edges])
            for (_, partition), edge in edges.items():
                consumer.seek(TopicPartition(topic, partition), edge)
            while not stop():
                for records in consumer.poll(timeout_ms=POLL_MS).values():
                    for record in records:
                        try:
                            yield (record.key or b"").decode("utf-8", "replace"), decode_recommendations(record.value, record.key)
                        except Poison:
                            continue
        finally:
            consumer.close()
