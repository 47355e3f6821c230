"""Follows the recommendations topic from its start with one consumer, for tests that wait for lists."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from workers.kafka.connection import kafka_python_arguments
from workers.settings import Settings

DEADLINE_S = 180.0


class NewestLists:
    """The newest record of each key that was read so far, None for one that was removed."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self.of: dict[str, dict[str, Any] | None] = {}

    def until(self, condition: Callable[[dict[str, dict[str, Any] | None]], bool], what: str) -> None:
        """Read on until the condition holds."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition(self.of):
            assert time.monotonic() < deadline, f"{what}: not within {DEADLINE_S:.0f} s; there are {self.of}"
            for records in self._consumer.poll(timeout_ms=200).values():
                self.of |= {record.key.decode(): None if record.value is None else json.loads(record.value) for record in records}

    def until_there(self, expected: dict[str, bool], what: str) -> None:
        """Read on until these keys and no others were seen, and have a list or none."""
        self.until(lambda found: {key: record is not None for key, record in found.items()} == expected, what)


@contextmanager
def newest_lists(settings: Settings) -> Iterator[NewestLists]:
    """Follow the topic of these settings."""
    consumer = KafkaConsumer(**kafka_python_arguments(settings), group_id=None, enable_auto_commit=False)
    try:
        consumer.assign([TopicPartition(settings.topics.recommendations, p) for p in range(settings.topics.partitions)])
        consumer.seek_to_beginning()
        yield NewestLists(consumer)
    finally:
        consumer.close()
