"""A stream worker on Apache Kafka and Redis by testcontainers: every user's last list reflects the user's last event."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from schemas import Recommendations, decode_recommendations
from workers.client import EventPublisher
from workers.kafka.connection import kafka_python_arguments
from workers.kafka.offsets import end_offsets
from workers.lists.reader import newer
from workers.local.embedded import WORKER_GRACE_S, Child
from workers.settings import Settings

pytestmark = [pytest.mark.containers]

ANSWER_S = 60.0
USERS = [f"u{n}" for n in range(20)]  # of several partitions
EVENTS_PER_USER = 8
CATALOGUE = 13


def records(settings: Settings, topic: str, more: Callable[[], bool]) -> Iterator[Any]:
    """Yield every record of a topic from its start while `more` is true; it is checked between two polls."""
    from kafka import KafkaConsumer, TopicPartition

    places = [TopicPartition(topic, partition) for _, partition in end_offsets(settings, [topic])]
    consumer = KafkaConsumer(**kafka_python_arguments(settings), group_id=None, enable_auto_commit=False)
    try:
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        while more():
            for polled in consumer.poll(timeout_ms=100).values():
                yield from polled
    finally:
        consumer.close()


def last_events(settings: Settings, n_events: int) -> dict[str, tuple[int, int]]:
    """Read all events; return partition and offset of each user's last event by user id."""
    deadline = time.monotonic() + ANSWER_S
    read = list(islice(records(settings, settings.topics.events, lambda: time.monotonic() < deadline), n_events))
    assert len(read) == n_events
    return {record.key.decode(): (record.partition, record.offset) for record in read}  # one partition a user, so in order


def last_lists(settings: Settings, expected: dict[str, tuple[int, int]], worker: Child) -> dict[str, Recommendations]:
    """Read lists until each user's is up to date or the time is over; return the newest by user id. Raises: Poison for any other record."""
    newest: dict[str, Recommendations] = {}
    deadline = time.monotonic() + ANSWER_S

    def more() -> bool:
        is_late = any(user not in newest or newest[user].trigger.source_offset < at for user, (_, at) in expected.items())
        return is_late and worker.running and time.monotonic() < deadline

    for record in records(settings, settings.topics.recommendations, more):
        made = decode_recommendations(record.value, record.key)
        assert made is not None, "no list was removed"
        if made.user_id not in newest or newer(made, newest[made.user_id]):
            newest[made.user_id] = made
    return newest


def test_every_user_s_last_list_is_up_to_date_with_the_last_event(settings: Settings, worker_env: dict[str, str], tmp_path: Path) -> None:
    command: list[str | Path] = [sys.executable, "-m", "workers.cli", "worker", "stream", "--data-folder", tmp_path / "faust"]
    worker = Child.start("stream", command, tmp_path / "stream.log", worker_env)
    try:
        with EventPublisher(settings) as publisher:
            for turn in range(EVENTS_PER_USER):
                for n, user in enumerate(USERS):
                    publisher.publish(user_id=user, item_id=f"i{(3 * turn + n) % CATALOGUE}", type="play")
        expected = last_events(settings, len(USERS) * EVENTS_PER_USER)
        assert set(expected) == set(USERS) and len({partition for partition, _ in expected.values()}) > 1
        newest = last_lists(settings, expected, worker)
        reached = {user: (made.trigger.partition, made.trigger.source_offset) for user, made in newest.items()}
        assert set(reached) == set(expected), worker.last_lines(20)
        for user, (partition, source_offset) in expected.items():  # a list that had to wait is of all that its partition has applied
            assert reached[user][0] == partition and reached[user][1] >= source_offset, worker.last_lines(20)
        assert all(made.items for made in newest.values())
        assert worker.stop(WORKER_GRACE_S) == 0, worker.last_lines(20)
        assert "Traceback" not in worker.log.read_text("utf-8")
    finally:
        worker.kill()
