"""What an outside producer may do to us: librdkafka on a real Apache Kafka, one worker for all tests (C02, C24, C26, S1, S2).

The table "What a producer may do" in docs/reliability.md names these tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from recsys.state.user_table import unpack_row
from schemas import DeadLetter
from schemas.unreadable import Unreadable
from tests.conftest import TestStack, fresh_sections
from tests.integration.test_stream import workers
from workers.bootstrap import open_store
from workers.client import EventPublisher
from workers.errors import Fatal
from workers.kafka.offsets import group_lag, readable_ends
from workers.kafka.partitioner import partition_for
from workers.kafka.records import RangeReader
from workers.kafka.topics import provision
from workers.local.embedded import Child, environment
from workers.operations.dead_letters import Choice, newest_letters, scan
from workers.operations.doctor import examine
from workers.operations.rebuild import rebuild
from workers.operations.redrive import Outcome, redrive
from workers.settings import Settings, load_settings
from workers.state.layout import layout_of

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

DEADLINE_S = 180.0
NOW_MS = time.time_ns() // 1_000_000
YEAR_2099_MS = 4_070_908_800_000
IN_1970_MS = 1
"""librdkafka takes 0 for "now"."""


@dataclass
class Line:
    """Topics with one stream worker, and an outside producer's view of them."""

    settings: Settings
    worker: Child

    def producer(self, **options: Any) -> Producer:
        chosen = {"bootstrap.servers": self.settings.kafka.bootstrap_servers, "partitioner": "murmur2_random", "linger.ms": 20}
        return Producer(chosen | {name.replace("_", "."): value for name, value in options.items()})

    def send(self, user_id: str, *item_ids: str, producer: Producer | None = None, **options: Any) -> None:
        """Send one play for each item, and wait for the broker."""
        made = self.producer() if producer is None else producer
        for item_id in item_ids:
            made.produce(self.settings.topics.events, event(user_id, item_id), key=user_id.encode(), **options)
        if producer is None:
            assert made.flush(30) == 0

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert self.worker.running, self.worker.log.read_text()[-2_000:]
            assert time.monotonic() < deadline, f"{what}: not within {DEADLINE_S:.0f} s"
            time.sleep(0.05)

    def applied(self) -> None:
        """Wait until the group has nothing left to read: markers of transactions and aborted records do not count."""
        stream, topic = self.settings.stream.group_id, self.settings.topics.events
        self.until(lambda: not any(group_lag(self.settings, stream, topic).values()), "the lag ends")

    def history(self, user_id: str) -> list[str]:
        """The user's items, oldest first."""
        return asyncio.run(self._history(user_id))

    async def _history(self, user_id: str) -> list[str]:
        store = open_store(self.settings)
        try:
            await store.open(layout_of(self.settings))
            (row,) = await store.read_users(partition_for(user_id.encode(), self.settings.topics.partitions), [user_id])
            names = await store.item_names()
            return [] if row is None else [names[number] for number in unpack_row(row).items.tolist()]
        finally:
            await store.close()

    def until_history(self, user_id: str, *item_ids: str) -> None:
        self.until(lambda: self.history(user_id) == list(item_ids), f"history of {user_id}")

    def letters(self, key: str | None = None, topic: str | None = None) -> list[DeadLetter]:
        """Dead letters of a record key, or all of them."""
        digest = None if key is None else hashlib.sha256(key.encode()).hexdigest()
        return [letter for letter in scan(self.settings, Choice(topic=topic)) if key is None or letter.key_sha256 == digest]

    @contextlib.contextmanager
    def topic_config(self, topic: str, name: str, value: str) -> Iterator[None]:
        """A setting of a topic, for a while."""
        admin = AdminClient({"bootstrap.servers": self.settings.kafka.bootstrap_servers})

        def alter(operation: AlterConfigOpType) -> None:
            entry = ConfigEntry(name, value, incremental_operation=operation)
            for done in admin.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])]).values():
                done.result(30)

        alter(AlterConfigOpType.SET)
        try:
            yield
        finally:
            alter(AlterConfigOpType.DELETE)


def event(user_id: str, item_id: str, **fields: Any) -> bytes:
    usual = {"event_id": uuid.uuid4().hex, "user_id": user_id, "item_id": item_id, "type": "play", "event_ts_ms": NOW_MS}
    return orjson.dumps(usual | fields)


@pytest.fixture(scope="module")
def line(stack: TestStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    if stack.kafka is None:
        pytest.skip("needs Apache Kafka: KAFKA_HOME=… make test-kafka")
    sections = fresh_sections(stack, tmp_path_factory.mktemp("producers"))
    settings = load_settings(**sections)
    provision(settings)
    outside = {k: v for k, v in os.environ.items() if not k.startswith("RECSYS_")}
    with workers(stack, {**outside, "RECSYS_CONFIG": os.devnull, **environment(sections)}) as (worker,):
        yield Line(settings, worker)


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_codec_is_read(line: Line, codec: str) -> None:
    """C02."""
    producer = line.producer(compression_type=codec)
    line.send(f"codec-{codec}", *(f"i{n}" for n in range(50)), producer=producer)
    assert producer.flush(30) == 0
    line.until_history(f"codec-{codec}", *(f"i{n}" for n in range(50)))


def test_a_topic_that_compresses_by_itself_is_read_by_every_client(line: Line) -> None:
    """C02: `compression.type=zstd` on the topic, and our own publisher."""
    with line.topic_config(line.settings.topics.events, "compression.type", "zstd"):
        with EventPublisher(line.settings) as publisher:
            publisher.publish(user_id="zstd-topic", item_id="i1", type="play")
        line.until_history("zstd-topic", "i1")


def test_aborted_transactions_do_not_count_and_markers_are_no_lag(line: Line) -> None:
    """C24: interleaved with other producers, in one partition."""
    user = "transactions"
    one, other = (line.producer(transactional_id=uuid.uuid4().hex) for _ in range(2))
    plain = line.producer()
    for producer in (one, other):
        producer.init_transactions(30)
        producer.begin_transaction()
    for n in range(3):
        for name, producer in (("aborted", one), ("committed", other), ("plain", plain)):
            line.send(user, f"{name}-{n}", producer=producer)
            assert producer.flush(30) == 0
    one.abort_transaction(30)
    other.commit_transaction(30)
    line.applied()
    line.until_history(user, *(f"{name}-{n}" for n in range(3) for name in ("committed", "plain")))
    found = asyncio.run(rebuild(line.settings, wait_s=20.0, n_users=50))
    assert found.taken_over, "markers at the end of the log are nothing that workers still have to apply"
    line.until_history(user, *(f"{name}-{n}" for n in range(3) for name in ("committed", "plain")))


def test_an_open_transaction_is_waited_for_and_named_and_loses_nothing(line: Line) -> None:
    user, topic = "open-transaction", line.settings.topics.events
    place = (topic, partition_for(user.encode(), line.settings.topics.partitions))
    producer = line.producer(transactional_id=uuid.uuid4().hex)
    producer.init_transactions(30)
    producer.begin_transaction()
    line.send(user, "first", producer=producer)
    assert producer.flush(30) == 0
    line.send(user, "second")
    stable, end = readable_ends(line.settings, [topic])[place]
    assert end - stable == 2
    line.applied()
    assert line.history(user) == []
    (finding,) = [finding for finding in examine(line.settings) if finding.name == "transactions"]
    assert finding.state == "warning" and f"partition {place[1]}" in finding.text and "2 records wait" in finding.text
    producer.commit_transaction(30)
    line.until_history(user, "first", "second")


def test_headers_are_no_part_of_an_event(line: Line) -> None:
    many: Sequence[tuple[str, bytes | None]] = [(f"h{n}", None if n % 2 else b"\xff\x00" * 50) for n in range(200)]
    line.send("headers", "i1", headers=many)
    line.until_history("headers", "i1")


def test_null_keys_and_tombstones_are_dead_letters_that_say_so(line: Line) -> None:
    producer, topic = line.producer(), line.settings.topics.events
    producer.produce(topic, event("no-key", "i1"))
    producer.produce(topic, None, key=b"tombstone")
    line.send("no-key", "i2", producer=producer)
    assert producer.flush(30) == 0
    line.until_history("no-key", "i2")
    line.until(lambda: any(letter.kind == "empty_key" and "Kafka key" in letter.reason for letter in line.letters()), "the letter")
    line.until(lambda: [letter.kind for letter in line.letters("tombstone")] == ["null_value"], "the tombstone's letter")


def test_a_record_of_a_megabyte_is_a_dead_letter_and_its_neighbours_count(line: Line) -> None:
    producer = line.producer(message_max_bytes=1_000_000)
    large = event("megabyte", "large", context={"text": "A" * 999_000})
    line.send("megabyte", "i1", producer=producer)
    producer.produce(line.settings.topics.events, large, key=b"megabyte")
    line.send("megabyte", "i2", producer=producer)
    assert producer.flush(30) == 0
    line.until_history("megabyte", "i1", "i2")
    line.until(lambda: [letter.kind for letter in line.letters("megabyte")] == ["too_large"], "the letter")
    (letter,) = line.letters("megabyte")
    assert (letter.payload_bytes, letter.payload_sha256) == (len(large), hashlib.sha256(large).hexdigest())


@pytest.mark.parametrize("role", ["events", "items"])
@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_a_batch_that_expands_beyond_the_budget_is_one_dead_letter_and_what_follows_counts(line: Line, role: str, codec: str) -> None:
    """S1, and S2: the same on a reference topic; the other topics go on."""
    topic, key = getattr(line.settings.topics, role), f"bomb-{role}-{codec}"
    partition = partition_for(key.encode(), line.settings.topics.partitions)
    before = len(line.letters(topic=topic))
    size = {"linger_ms": 5_000, "batch_size": 1_500_000_000, "queue_buffering_max_kbytes": 2_000_000, "message_max_bytes": 100_000_000}
    producer = line.producer(compression_type=codec, enable_idempotence=False, **size)
    for _ in range(12):
        producer.produce(topic, b"A" * 7_000_000, key=key.encode(), partition=partition)
    assert producer.flush(60) == 0
    line.until(lambda: len(line.letters(topic=topic)) > before, "the bomb's letter")
    newest = newest_letters(line.settings, Choice(topic=topic), 12)
    assert newest[0].kind in ("batch_too_large", "too_large")
    line.send(key, "after")
    line.until_history(key, "after")


def test_a_batch_of_sixteen_thousand_events_counts_to_the_last(line: Line) -> None:
    producer = line.producer(compression_type="zstd", batch_num_messages=16_000, linger_ms=2_000, batch_size=8_000_000)
    line.send("sixteen", *(f"i{n}" for n in range(16_000)), producer=producer)
    assert producer.flush(60) == 0
    line.until(lambda: line.history("sixteen")[-1:] == ["i15999"], "the last event")
    assert not line.letters("sixteen")
    assert line.history("sixteen") == [f"i{n}" for n in range(16_000 - line.settings.state.history_length, 16_000)]


def test_record_times_of_1970_and_2099_move_no_event_time(line: Line) -> None:
    producer, topic = line.producer(), line.settings.topics.events
    for stamp, item_id in ((IN_1970_MS, "i1970"), (YEAR_2099_MS, "i2099")):  # the topic has the broker's clock
        producer.produce(topic, event("times", item_id), key=b"times", timestamp=stamp)
        assert producer.flush(30) == 0
    line.until_history("times", "i1970", "i2099")
    producer.produce(topic, event("future", "i1", event_ts_ms=YEAR_2099_MS), key=b"future")
    producer.produce(topic, event("epoch", "i1", event_ts_ms=0), key=b"epoch")
    assert producer.flush(30) == 0
    line.until(lambda: [letter.kind for letter in line.letters("future")] == ["future_timestamp"], "2099")
    line.until(lambda: len(line.letters("epoch")) == 1, "1970")


def test_where_producers_stamp_records_1970_is_a_dead_letter_and_2099_is_refused_by_the_broker(line: Line) -> None:
    topic, refused = line.settings.topics.events, []
    with line.topic_config(topic, "message.timestamp.type", "CreateTime"):
        producer = line.producer()
        producer.produce(topic, event("stamped", "i0"), key=b"stamped", timestamp=IN_1970_MS)
        producer.flush(30)
        producer.produce(topic, event("stamped", "i9"), key=b"stamped", timestamp=YEAR_2099_MS, on_delivery=lambda e, m: refused.append(e))
        producer.flush(30)  # the broker refuses the batch
        producer.produce(topic, event("stamped-well", "i1"), key=b"stamped-well")
        producer.flush(30)
    line.until_history("stamped-well", "i1")
    assert refused[0] is not None and refused[0].code() == KafkaError.INVALID_TIMESTAMP
    line.until(lambda: len(line.letters("stamped")) == 1, "the letter")
    assert [letter.kind for letter in line.letters("stamped")] == ["future_timestamp"]


def test_another_partitioner_is_noticed_and_redriving_brings_every_event_to_its_user(line: Line) -> None:
    """C26: librdkafka's default."""
    users = [f"crc-{n}" for n in range(40)]
    producer = line.producer(partitioner="consistent_random")
    for user in users:
        line.send(user, "i1", producer=producer)
    assert producer.flush(30) == 0
    line.applied()
    refused = {user for user in users if line.letters(user)}
    assert 10 < len(refused) < 40
    for user in users:
        line.until_history(user, *([] if user in refused else ["i1"]))
    letters = [letter for user in refused for letter in line.letters(user)]
    assert {letter.kind for letter in letters} == {"wrong_partition"} and "murmur2_random" in letters[0].reason
    (finding,) = [finding for finding in examine(line.settings) if finding.name == "partitioner"]
    assert finding.state == "wrong" and "partitioner=murmur2_random" in finding.remedy
    assert {verdict.outcome for verdict in redrive(line.settings, letters)} == {Outcome.REDRIVEN}
    for user in users:
        line.until_history(user, "i1")


def flip_in_log(stack: TestStack, topic: str, needle: bytes) -> None:
    """Damage one byte of a record on the broker's disk."""
    assert stack.kafka is not None
    (segment,) = [path for path in Path(stack.kafka.folder).glob(f"log/{topic}-*/*.log") if needle in path.read_bytes()]
    with segment.open("r+b") as file:
        file.seek(segment.read_bytes().index(needle))
        file.write(b"?")


async def test_damage_on_the_broker_s_disk_stops_events_and_costs_items_one_batch(stack: TestStack, tmp_path: Path) -> None:
    if stack.kafka is None:
        pytest.skip("needs Apache Kafka: KAFKA_HOME=… make test-kafka")
    settings = load_settings(**fresh_sections(stack, tmp_path))
    await asyncio.to_thread(provision, settings)
    topics = settings.topics
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    for topic in (topics.items, topics.events):
        for value in (b"first", b"flip-me", b"third"):
            producer.produce(topic, value, key=b"k", partition=0)
            producer.flush(30)
        await asyncio.to_thread(flip_in_log, stack, topic, b"flip-me")
    found = []
    async with RangeReader(settings, {(topics.items, 0): 0}, max_records=10) as reader:
        async for polled in reader.until({(topics.items, 0): 3}):
            found += polled[topics.items, 0]
    assert [record.source_offset for record in found] == [0, 1, 2] and isinstance(found[1].value, Unreadable)
    assert found[1].value.poison.kind == "damaged_batch"
    async with RangeReader(settings, {(topics.events, 0): 0}, max_records=10) as reader:
        with pytest.raises(Fatal, match=rf"topic {topics.events}, partition 0, batch at offset 1 .*checksum"):
            async for _ in reader.until({(topics.events, 0): 3}):
                pass
