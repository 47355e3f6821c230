"""What a producer may put into a topic of `recsys up` is kept and restored as it was (P9)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from workers.errors import Fatal
from workers.kafka.connection import aiokafka_arguments, aiokafka_producer_arguments
from workers.kafka.offsets import end_offsets
from workers.kafka.topics import provision
from workers.local.embedded import EmbeddedStack
from workers.operations.topic_journal import KeptRecord, TopicJournal
from workers.operations.topic_keeping import TopicKeeper, restore
from workers.settings import Settings

RECORDS = [
    {"key": b"u1", "value": b"{}", "timestamp": 1_764_000_000_000},
    {"key": b"u1", "value": None, "timestamp": 0},
    {"key": None, "value": b"no key", "timestamp": 4_070_908_800_000},
    {"key": b"", "value": b"", "timestamp": 1},
    {"key": b"\x00\xff", "value": b"\xff\xfe not text", "timestamp": 2, "headers": [("h", b"1"), ("h", None), ("é", b"")]},
    {"key": b"large", "value": b"y" * 3_000_000, "timestamp": 3},
    *({"key": b"u%d" % n, "value": b"z" * 300, "timestamp": n} for n in range(10_000)),
]


async def publish(settings: Settings, topic: str, partition: int) -> None:
    producer = AIOKafkaProducer(**aiokafka_producer_arguments(settings), max_batch_size=500_000)
    await producer.start()
    try:
        left = [{"headers": [], **record} for record in RECORDS]
        while left:
            batch = producer.create_batch()
            while left and batch.append(**left[0]) is not None:
                left.pop(0)
            batch.close()
            await (await producer.send_batch(batch, topic, partition=partition))
    finally:
        await producer.stop()


async def read(settings: Settings, topic: str) -> list[tuple[int, KeptRecord]]:
    ends = {TopicPartition(*place): end for place, end in end_offsets(settings, [topic]).items()}
    consumer = AIOKafkaConsumer(**aiokafka_arguments(settings), enable_auto_commit=False)
    await consumer.start()
    found = []
    try:
        consumer.assign(list(ends))
        for place in ends:
            consumer.seek(place, 0)
        while len(found) < sum(ends.values()):
            for place, records in (await consumer.getmany(timeout_ms=500)).items():
                found += [(place.partition, KeptRecord(r.offset, r.timestamp, r.key, r.value, tuple(r.headers))) for r in records]
    finally:
        await consumer.stop()
    return sorted(found, key=lambda entry: (entry[0], entry[1].offset))


async def test_what_is_in_the_topics_of_one_broker_is_in_those_of_the_next_with_the_same_offsets(tmp_path: Path) -> None:
    journal = TopicJournal(tmp_path / "topics")
    journal.open()
    with EmbeddedStack(tmp_path / "one") as stack:
        settings = stack.settings()
        partitions = {state.spec.name: state.partitions or 0 for state in provision(settings)}
        keeper = TopicKeeper(settings, journal, [(name, p) for name, count in partitions.items() for p in range(count)])
        keeper.start()
        events, letters = settings.topics.events, settings.topics.dead_letters
        for topic, partition in ((events, 0), (events, 5), (letters, 0)):
            await publish(settings, topic, partition)
        before = {topic: await read(settings, topic) for topic in (events, letters)}
        keeper.stop(drain=True)
        assert keeper.failure is None
        journal.close()
    again = TopicJournal(tmp_path / "topics")
    again.open()
    with EmbeddedStack(tmp_path / "two") as stack:
        settings = stack.settings()
        provision(settings)
        started_s = time.monotonic()
        assert await restore(settings, again, partitions) == 3 * len(RECORDS)
        assert time.monotonic() - started_s < 30
        assert {topic: await read(settings, topic) for topic in (events, letters)} == before
        with pytest.raises(Fatal, match="is not empty"):
            await restore(settings, again, partitions)
        with pytest.raises(Fatal, match=r"with 6 partitions, the settings give it 3: set topics\.partitions"):
            await restore(settings, again, {events: 3, letters: 1})
