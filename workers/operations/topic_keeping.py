"""Copies the embedded broker's topics to a journal while it runs, and back into an empty broker."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas import Poison, decode_recommendations
from workers.errors import Fatal, Transient
from workers.kafka.clients import async_producer
from workers.kafka.connection import aiokafka_arguments
from workers.kafka.offsets import end_offsets
from workers.kafka.records import Place, RangeReader, Record
from workers.lists.reader import newer
from workers.operations.topic_journal import KeptRecord, TopicJournal
from workers.settings import Settings

FETCH_WAIT_MS = 50
"""How long the broker may hold a fetch: about what a kill can cost of the newest records."""
POLL_MS = 250
SYNC_EVERY_S = 1.0
"""How often the disk is waited for: what a power cut can cost."""
DRAIN_TIMEOUT_S = 10.0
BATCH_BYTES = 1_000_000
RETRY_S, LONGEST_RETRY_S = 1.0, 60.0


class TopicKeeper:
    """Follows every partition in a thread of its own and appends what comes to the journal."""

    def __init__(
        self, settings: Settings, journal: TopicJournal, places: Iterable[Place], say: Callable[[str], None] = lambda line: None
    ) -> None:
        self._settings, self._journal, self._say = settings, journal, say
        self._places = list(places)
        self._stop = threading.Event()
        self._ends: dict[Place, int] | None = None
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="topic-keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, *, drain: bool) -> None:
        """End; with `drain` only when everything that the topics hold now is in the journal, or after `DRAIN_TIMEOUT_S`."""
        if drain and self._thread.is_alive():
            try:
                topics = sorted({topic for topic, _ in self._places})
                self._ends = end_offsets(self._settings, topics)
            except (Transient, Fatal):
                self._stop.set()
        else:
            self._stop.set()
        self._thread.join(DRAIN_TIMEOUT_S)
        self._stop.set()
        self._thread.join(DRAIN_TIMEOUT_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._follow())
        except BaseException as error:  # of a thread: its owner looks at `failure`
            self.failure = error

    async def _follow(self) -> None:
        # whole records, as the broker holds them: without the bounds of workers.kafka.bounded_reading
        arguments = aiokafka_arguments(self._settings) | {"fetch_max_wait_ms": FETCH_WAIT_MS, "auto_offset_reset": "none"}
        ends = self._journal.ends
        starts = {place: ends.get(place, 0) for place in self._places}
        async with RangeReader(self._settings, starts, arguments=arguments) as reader:
            synced_s = time.monotonic()
            while not self._stop.is_set() and not self._drained():
                for place, records in (await reader.poll(POLL_MS)).items():
                    await self._append(place, records)
                if time.monotonic() - synced_s >= SYNC_EVERY_S:
                    await asyncio.to_thread(self._journal.sync)
                    synced_s = time.monotonic()

    def _drained(self) -> bool:
        kept = self._journal.ends
        return self._ends is not None and all(kept.get(place, 0) >= end for place, end in self._ends.items())

    async def _append(self, place: Place, records: list[Record]) -> None:
        kept = [KeptRecord(r.source_offset, r.source_timestamp_ms, r.key, r.value, tuple(r.headers)) for r in records]
        retry_s = RETRY_S
        while True:
            try:
                await asyncio.to_thread(self._journal.append, place, kept)
                return
            except OSError as error:
                if self._stop.is_set():
                    raise
                self._say(f"the records of {place[0]} cannot be kept now ({error.strerror}): trying again in {retry_s:.0f} s")
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, LONGEST_RETRY_S)


class OtherPartitions(Fatal):
    """The kept topics have other numbers of partitions than the settings say."""


async def restore(settings: Settings, journal: TopicJournal, partitions: Mapping[str, int]) -> int:
    """Produce everything that the journal holds to empty topics; return the number of records.

    `partitions` says how many partitions each topic has. Raises OtherPartitions when the journal has others, Fatal when an offset comes out
    different, Transient when the broker takes no records.
    """
    ends = journal.ends
    for topic, partition in ends:
        if partition >= partitions.get(topic, 0):
            count = 1 + max(p for name, p in ends if name == topic)
            raise OtherPartitions(
                f"the folder keeps topic {topic} with {count} partitions, the settings give it {partitions.get(topic, 0)}: "
                "set topics.partitions and the topics' names as they were, or use another folder"
            )
    producer = async_producer(settings, max_batch_size=BATCH_BYTES)
    try:
        await producer.start()
        try:
            for place in ends:
                await _produce(producer, journal, place)
        finally:
            await producer.stop()
    except KafkaError as error:
        raise Transient(f"the broker does not take the kept records back ({type(error).__name__})") from error
    return sum(ends.values())


async def _produce(producer: AIOKafkaProducer, journal: TopicJournal, place: Place) -> None:
    for first, batch in _batches(producer, journal, place):
        sent = await (await producer.send_batch(batch, place[0], partition=place[1]))
        if sent.offset != first:
            raise Fatal(f"topic {place[0]} is not empty: the kept records would get other offsets")


def _batches(producer: AIOKafkaProducer, journal: TopicJournal, place: Place) -> Iterator[tuple[int, Any]]:
    batch, first = producer.create_batch(), 0
    for record in journal.read(place):
        given: dict[str, Any] = {
            "key": record.key,
            "value": record.value,
            "timestamp": record.timestamp_ms,
            "headers": list(record.headers),
        }
        if batch.append(**given) is None:
            batch.close()
            yield first, batch
            batch, first = producer.create_batch(), record.offset
            batch.append(**given)
    if batch.record_count():
        batch.close()
        yield first, batch


def newer_list(one: KeptRecord, other: KeptRecord) -> KeptRecord:
    """Return the record of the newer of two lists of one user; a removal, or what is no list, gives way only to what came after it."""
    try:
        made = decode_recommendations(one.value, one.key)
        after = decode_recommendations(other.value, other.key)
    except Poison:
        return other
    return one if made is not None and after is not None and not newer(after, made) else other
