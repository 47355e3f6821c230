"""Records of Kafka topics, and reading a range of offsets without a consumer group.

`RangeReader` reads with aiokafka (services, rebuild, verify), `BlockingRangeReader` with kafka-python (commands). Both seek, poll and count
alike: an offset without a record, because compaction removed it, a transaction was aborted, or a marker lies there, counts as read. Nothing
is committed, and no worker loses a partition to a reader.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import repeat
from operator import attrgetter
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from workers.errors import Transient
from workers.kafka.admin import kafka_errors
from workers.kafka.clients import async_consumer, bare_consumer, blocking_consumer
from workers.kafka.connection import check_reachable, uninterrupted
from workers.kafka.named import rows_of
from workers.kafka.rights import Right, Role, explain
from workers.settings import Settings

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer

POLL_MS = 200
SILENCE_S = 60.0
"""A partition that should have more records and gives none for so long is an error."""
PARTITION_FETCH_BYTES = 4 * 1024 * 1024
JUMP_RECORDS = 2_000
"""Reading over a gap up to this long is cheaper than another fetch."""

Place = tuple[str, int]
"""Topic and partition."""

_FIELDS = attrgetter("offset", "key", "value", "timestamp", "headers")


class Record(NamedTuple):
    """One record of a topic; `value` None is a tombstone, `source_timestamp_ms` is Kafka's time, −1 if there is none."""

    topic: str
    partition: int
    source_offset: int
    key: bytes | None
    value: bytes | None
    source_timestamp_ms: int = -1
    headers: Sequence[tuple[str, bytes | None]] = ()


def records_of(place: Place, fetched: Sequence[Any]) -> list[Record]:
    """Return the records of one partition that a client fetched, by columns: a call for each would take three times as long."""
    if not fetched:
        return []
    topic, partition = place
    n = len(fetched)
    source_offsets, keys, values, stamps, headers = zip(*map(_FIELDS, fetched), strict=True)
    times_ms = [-1 if at is None else at for at in stamps] if None in stamps else stamps
    return rows_of(Record, repeat(topic, n), repeat(partition, n), source_offsets, keys, values, times_ms, headers)


class _Progress:
    """Counts how far each partition has been read. `next_offsets` says where the reader is."""

    def __init__(self, starts: Mapping[Place, int], silence_s: float) -> None:
        self.next_offsets = dict(starts)
        self._silence_s = silence_s
        self._moved_s = time.monotonic()

    def expect(self) -> None:
        """From now on records are expected: silence counts from here."""
        self._moved_s = time.monotonic()

    def left(self, ends: Mapping[Place, int]) -> int:
        """Return the number of offsets before these ends that are not read yet."""
        return sum(max(0, end - self.next_offsets[place]) for place, end in ends.items() if place in self.next_offsets)

    def check_silence(self, ends: Mapping[Place, int]) -> None:
        """Raise Transient when there should be more records and none has come for too long."""
        if self.left(ends) and time.monotonic() - self._moved_s > self._silence_s:
            silent = sorted(f"{topic}/{p}" for (topic, p), end in ends.items() if end > self.next_offsets[topic, p])
            raise Transient(f"no records of {', '.join(silent[:5])} for {self._silence_s:.0f} s: look into the broker's log")


class RangeReader(_Progress):
    """Reads partitions from given offsets on, with aiokafka.

    Use: `async with RangeReader(settings, starts, max_records=…) as reader`. A missing right is named for `role`. `arguments` of the
    consumer replace the usual ones: committed records, read within the bounds of `workers.kafka.bounded_reading`.
    Raises: Transient when Kafka is away.
    """

    def __init__(
        self,
        settings: Settings,
        starts: Mapping[Place, int],
        *,
        max_records: int | None = None,
        role: Role = "operator",
        silence_s: float = SILENCE_S,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(starts, silence_s)
        self._settings, self._max_records, self._role, self._arguments = settings, max_records, role, arguments
        self._consumer: AIOKafkaConsumer | None = None

    async def __aenter__(self) -> Self:
        from aiokafka import TopicPartition
        from aiokafka.errors import KafkaError

        if self._arguments is None:
            consumer = async_consumer(self._settings, auto_offset_reset="earliest", max_partition_fetch_bytes=PARTITION_FETCH_BYTES)
        else:
            consumer = bare_consumer(**self._arguments)
        try:
            await uninterrupted(consumer.start())
        except KafkaError as error:
            await uninterrupted(consumer.stop())
            servers, name = self._settings.kafka.bootstrap_servers, type(error).__name__
            if "Authorization" in name:
                raise Transient(explain(error, self._settings, self._role)) from None
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

    def lag(self) -> int:
        """Return how many offsets before the ends that the brokers have said last are not read yet."""
        from aiokafka import TopicPartition

        assert self._consumer is not None, "entered"
        ends = {place: self._consumer.highwater(TopicPartition(*place)) for place in self.next_offsets}
        return self.left({place: end for place, end in ends.items() if end is not None})

    def seek(self, place: Place, next_offset: int) -> None:
        """Continue a partition there."""
        from aiokafka import TopicPartition

        assert self._consumer is not None, "entered"
        self._consumer.seek(TopicPartition(*place), next_offset)
        self.next_offsets[place] = next_offset

    async def poll(self, timeout_ms: int = POLL_MS) -> dict[Place, list[Record]]:
        """Return the records that came within the timeout, by partition."""
        from aiokafka import TopicPartition
        from aiokafka.errors import KafkaError

        assert self._consumer is not None, "entered"
        try:
            polled: Mapping[Any, list[Any]] = await self._consumer.getmany(timeout_ms=timeout_ms, max_records=self._max_records)
            found = {(at.topic, at.partition): records_of((at.topic, at.partition), some) for at, some in polled.items() if some}
            for place, records in found.items():
                self.next_offsets[place] = records[-1].source_offset + 1
            if found:
                self.expect()
            else:  # a log may end in what is no record: markers of transactions, or what compaction took away
                for place, known in self.next_offsets.items():
                    self.next_offsets[place] = max(known, await self._consumer.position(TopicPartition(*place)))
            return found
        except KafkaError as error:
            if "Authorization" in type(error).__name__:
                raise Transient(explain(error, self._settings, self._role)) from None
            servers = self._settings.kafka.bootstrap_servers
            raise Transient(f"reading from Kafka at {servers} failed ({type(error).__name__}): look into the broker's log") from None

    async def until(self, ends: Mapping[Place, int]) -> AsyncIterator[dict[Place, list[Record]]]:
        """Yield polls that brought something, until every partition is read to its end; the last ones may reach beyond it."""
        self.expect()
        while self.left(ends):
            found = await self.poll()
            if found:
                yield found
            self.check_silence(ends)


class BlockingRangeReader(_Progress):
    """Reads partitions with kafka-python, in the calling thread: one range after another, or several partitions as records come.

    Use: `with BlockingRangeReader(settings, needs=on_topics("Read", topic)) as reader`; a missing right among `needs` is named.
    Batches that cannot be read are passed over (`workers.kafka.bounded_kafka_python.passed_over`).
    Raises: Transient when Kafka is away, also for errors of kafka-python in the body of the `with`.
    """

    def __init__(self, settings: Settings, *, needs: Sequence[Right] = (), max_records: int = 2_000) -> None:
        super().__init__({}, settings.kafka.request_timeout_ms / 1000)
        self._settings, self._needs, self._max_records = settings, needs, max_records
        self._open = ExitStack()
        self._consumer: Any = None

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            opening.enter_context(kafka_errors(self._settings, *self._needs))
            check_reachable(self._settings.kafka)
            self._consumer = blocking_consumer(
                self._settings,
                auto_offset_reset="earliest",  # an offset that retention takes away while we read: the next record says that it is gone
                fetch_max_wait_ms=self._settings.kafka.fetch_max_wait_ms,
                max_poll_records=self._max_records,
            )
            opening.callback(self._consumer.close)
            self._open = opening.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.__exit__(kind, error, trace)

    def start_at(self, starts: Mapping[Place, int]) -> None:
        """Read these partitions, and no others, from these offsets on."""
        from kafka import TopicPartition

        self._consumer.assign([TopicPartition(*place) for place in starts])
        for place, next_offset in starts.items():
            self._consumer.seek(TopicPartition(*place), next_offset)
        self.next_offsets = dict(starts)
        self.expect()

    def poll(self, timeout_ms: int = POLL_MS) -> dict[Place, list[Record]]:
        """Return the records that came within the timeout, by partition."""
        from kafka import TopicPartition

        polled: Mapping[Any, list[Any]] = self._consumer.poll(timeout_ms=timeout_ms)
        found = {(at.topic, at.partition): records_of((at.topic, at.partition), some) for at, some in polled.items() if some}
        for place, known in self.next_offsets.items():
            reached = found[place][-1].source_offset + 1 if place in found else known
            self.next_offsets[place] = max(reached, self._consumer.position(TopicPartition(*place)))
        if found:
            self.expect()
        return found

    def between(self, place: Place, lower: int, upper: int) -> Iterator[Record]:
        """Yield the records of one partition with offsets in [lower, upper). Raises Transient when none come for the request timeout."""
        self.start_at({place: lower})
        ends = {place: upper}
        while self.left(ends):
            for record in self.poll().get(place, ()):
                if record.source_offset >= upper:
                    return
                yield record
            self.check_silence(ends)

    def at(self, place: Place, source_offsets: Sequence[int]) -> Iterator[tuple[int, Record | None]]:
        """Yield (offset, record, or None where there is none any more) of ascending offsets, in one pass that jumps over wide gaps."""
        for run in runs(source_offsets):
            waiting = deque(run)
            for record in self.between(place, run[0], run[-1] + 1):
                while waiting and waiting[0] < record.source_offset:
                    yield waiting.popleft(), None
                if waiting and waiting[0] == record.source_offset:
                    yield waiting.popleft(), record
            for source_offset in waiting:
                yield source_offset, None


def runs(source_offsets: Iterable[int], jump: int = JUMP_RECORDS) -> list[list[int]]:
    """Return ascending offsets in runs without a gap wider than `jump`.

    >>> runs([1, 4, 90, 95], jump=10)
    [[1, 4], [90, 95]]
    """
    cut: list[list[int]] = []
    for source_offset in source_offsets:
        if cut and source_offset - cut[-1][-1] <= jump:
            cut[-1].append(source_offset)
        else:
            cut.append([source_offset])
    return cut
