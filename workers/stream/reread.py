"""Reading topics again from their start, without a consumer group: to rebuild the state, to check it, and for a Redis that lost it all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from workers.errors import Transient
from workers.kafka.connection import aiokafka_consumer_arguments, check_reachable, uninterrupted
from workers.kafka.offsets import end_offsets_async, start_offsets_async
from workers.kafka.rights import explain
from workers.settings import Settings
from workers.stream.micro_batch import SourceRecord
from workers.stream.reference_topics import Intake, TopicRecord

POLL_MS = 200
SILENCE_S = 60.0
"""A partition that should have more records and gives none for so long is an error."""
PARTITION_FETCH_BYTES = 4 * 1024 * 1024
RECORDS_AT_ONCE = 1_000
"""Records of the low-rate topics, some kB each, that are applied together."""

Place = tuple[str, int]
"""Topic and partition."""


class LogReader:
    """Partitions from given offsets on. `next_offsets` says where it is; records behind the gaps that compaction left count as read.

    Use: `async with LogReader(settings, starts, max_records=…) as reader`. Raises Transient when Kafka is away.
    """

    def __init__(self, settings: Settings, starts: Mapping[Place, int], *, max_records: int) -> None:
        self._settings, self._max_records = settings, max_records
        self.next_offsets = dict(starts)
        self._consumer: AIOKafkaConsumer | None = None
        self._moved_s = time.monotonic()

    async def __aenter__(self) -> LogReader:
        # no group: nothing is committed, and no worker loses a partition to this
        consumer = AIOKafkaConsumer(
            **aiokafka_consumer_arguments(self._settings),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
        )
        try:
            await uninterrupted(consumer.start())
        except KafkaError as error:
            await uninterrupted(consumer.stop())
            servers, name = self._settings.kafka.bootstrap_servers, type(error).__name__
            if "Authorization" in name:
                raise Transient(explain(error, self._settings, "operator")) from None
            await asyncio.to_thread(check_reachable, self._settings.kafka)  # a clearer line, if it is the connection
            raise Transient(f"no Kafka broker answers at {servers} ({name}): start one or set kafka.bootstrap_servers") from None
        except BaseException:  # cancelled while it connects
            await uninterrupted(consumer.stop())
            raise
        self._consumer = consumer
        consumer.assign([TopicPartition(*place) for place in self.next_offsets])
        for place, next_offset in self.next_offsets.items():
            consumer.seek(TopicPartition(*place), next_offset)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._consumer is not None:
            await uninterrupted(self._consumer.stop())

    def seek(self, place: Place, next_offset: int) -> None:
        """Go on there."""
        assert self._consumer is not None, "entered"
        self._consumer.seek(TopicPartition(*place), next_offset)
        self.next_offsets[place] = next_offset

    def expect(self) -> None:
        """From now on records are expected: silence counts from here."""
        self._moved_s = time.monotonic()

    def left(self, ends: Mapping[Place, int]) -> int:
        """How many offsets are before these ends and not read yet."""
        return sum(max(0, end - self.next_offsets[place]) for place, end in ends.items() if place in self.next_offsets)

    async def poll(self) -> dict[Place, list[ConsumerRecord]]:
        """What has come within a fifth of a second, by partition."""
        assert self._consumer is not None, "entered"
        try:
            polled: Mapping[Any, list[ConsumerRecord]] = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=self._max_records)
            found = {(at.topic, at.partition): records for at, records in polled.items() if records}
            for place, records in found.items():
                self.next_offsets[place] = records[-1].offset + 1
            if found:
                self.expect()
            else:  # a log may end in what is no record: markers of transactions, or what compaction took away
                for place, known in self.next_offsets.items():
                    self.next_offsets[place] = max(known, await self._consumer.position(TopicPartition(*place)))
            return found
        except KafkaError as error:
            if "Authorization" in type(error).__name__:
                raise Transient(explain(error, self._settings, "operator")) from None
            servers = self._settings.kafka.bootstrap_servers
            raise Transient(f"reading from Kafka at {servers} failed ({type(error).__name__}): look into the broker's log") from None

    async def until(self, ends: Mapping[Place, int]) -> AsyncIterator[dict[Place, list[ConsumerRecord]]]:
        """Polls that brought something, until every partition is read to its end; the last ones may reach beyond it."""
        self.expect()
        while self.left(ends):
            found = await self.poll()
            if found:
                yield found
            self.check_silence(ends)

    def check_silence(self, ends: Mapping[Place, int]) -> None:
        """Raise Transient when there should be more records and none has come for a minute."""
        if self.left(ends) and time.monotonic() - self._moved_s > SILENCE_S:
            silent = sorted(f"{topic}/{p}" for (topic, p), end in ends.items() if end > self.next_offsets[topic, p])
            raise Transient(f"no records of {', '.join(silent[:5])} for {SILENCE_S:.0f} s: look into the broker's log")


async def unapplied(settings: Settings, starts: Mapping[Place, int], ends: Mapping[Place, int]) -> dict[Place, int]:
    """Return how many offsets lie between the first record at or after each start and its end: 0 where only gaps lie between.

    A watermark is the offset of a record. What follows the last one, markers of transactions and aborted records, is never applied.
    """
    left = dict.fromkeys(starts, 0)
    waiting = {place: start for place, start in starts.items() if start < ends.get(place, 0)}
    if not waiting:
        return left
    async with LogReader(settings, waiting, max_records=len(waiting)) as reader:
        reader.expect()
        while any(reader.next_offsets[place] < ends[place] for place in waiting if not left[place]):
            for place, records in (await reader.poll()).items():
                if not left[place] and records[0].offset < ends[place]:
                    left[place] = ends[place] - records[0].offset
            reader.check_silence({place: ends[place] for place in waiting if not left[place]})
    return left


def source_record(record: ConsumerRecord) -> SourceRecord:
    """A record of the events topic as the pipeline takes it."""
    return SourceRecord(record.offset, record.key, record.value, -1 if record.timestamp is None else record.timestamp)


def topic_record(record: ConsumerRecord) -> TopicRecord:
    """A record of a low-rate topic as the intake takes it."""
    timestamp_ms = -1 if record.timestamp is None else record.timestamp
    return TopicRecord(record.topic, record.partition, record.offset, record.key, record.value, timestamp_ms)


@dataclass(frozen=True, slots=True)
class ReadCompacted:
    """How many records of each role were applied, and the offsets at which reading stopped."""

    counts: dict[str, int]
    next_offsets: dict[Place, int]


async def reread_compacted(settings: Settings, intake: Intake) -> dict[str, int]:
    """Apply items, users and models from the start of their topics; how many records of each. As `read_compacted`."""
    return (await read_compacted(settings, intake)).counts


async def read_compacted(settings: Settings, intake: Intake, since: Mapping[Place, int] = MappingProxyType({})) -> ReadCompacted:
    """Apply items, users and models from these offsets on, or from the start of their topics, to where they end now.

    First lists and dead letters are not published: whoever read the records for the first time did that. May be repeated.
    Raises: Transient, Fatal when a topic is missing.
    """
    topics = settings.topics
    roles = {topics.items: "items", topics.users: "users", topics.models: "models"}
    starts = await start_offsets_async(settings, list(roles))
    ends = await end_offsets_async(settings, list(roles))
    counts = dict.fromkeys(roles.values(), 0)
    starts = {place: min(max(start, since.get(place, 0)), ends[place]) for place, start in starts.items()}
    if all(ends[place] <= start for place, start in starts.items()):
        # nothing to read; a consumer that is stopped as soon as it has started is cancelled inside aiokafka
        return ReadCompacted(counts, dict(ends))
    async with LogReader(settings, starts, max_records=RECORDS_AT_ONCE) as reader:
        async for found in reader.until(ends):
            by_role: dict[str, list[TopicRecord]] = {}
            for (topic, _), records in found.items():
                by_role.setdefault(roles[topic], []).extend(map(topic_record, records))
            for role, records_of_role in by_role.items():
                counts[role] += len(records_of_role)
                if role == "items":
                    await intake.items(records_of_role)
                elif role == "users":
                    await intake.users(records_of_role, first_lists=False)
                else:
                    await intake.announcements(records_of_role)
        return ReadCompacted(counts, dict(reader.next_offsets))
