"""Dead letters: finding them, and reading the records that they are about.

A letter holds hashes and coordinates; the record itself lies in its source topic for as long as retention and compaction leave it there.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from schemas import DeadLetter, Poison, decode_dead_letter
from workers.errors import SettingsError, Transient
from workers.kafka.admin import admin_client, kafka_errors
from workers.kafka.connection import check_reachable, kafka_python_consumer_arguments
from workers.kafka.offsets import end_offsets, start_offsets
from workers.kafka.rights import on_topics
from workers.settings import Settings

POLL_MS = 200
FIRST_LOOK_RECORDS = 2_000  # the newest letters are asked for most; each further look goes four times as far back
MAX_LOOK_RECORDS = 50_000  # one look is held in memory
JUMP_RECORDS = 2_000  # reading over a gap up to this long is cheaper than another fetch


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a record lies. Written `topic:partition:offset`, which is also the key of its dead letter."""

    topic: str
    partition: int
    source_offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.source_offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """A place from `topic:partition:offset`. Raises SettingsError."""
        parts = text.rsplit(":", 2)
        if len(parts) != 3 or not parts[0] or not all(part.isascii() and part.isdigit() for part in parts[1:]):
            raise SettingsError("PLACE: give topic:partition:offset, as `recsys dlq list` prints it")
        return cls(parts[0], int(parts[1]), int(parts[2]))

    @classmethod
    def of(cls, letter: DeadLetter) -> Self:
        """The place that a letter names."""
        return cls(letter.source_topic, letter.source_partition, letter.source_offset)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters are meant; None takes all. `since_ms` is Unix time, compared with when a record was refused."""

    kind: str | None = None
    topic: str | None = None
    since_ms: int | None = None
    places: frozenset[Place] | None = None

    def takes(self, letter: DeadLetter) -> bool:
        """Whether a letter is meant."""
        return (
            (self.kind is None or letter.kind == self.kind)
            and (self.topic is None or letter.source_topic == self.topic)
            and (self.since_ms is None or letter.dead_letter_ts_ms >= self.since_ms)
            and (self.places is None or Place.of(letter) in self.places)
        )


# -- finding letters -----------------------------------------------------------------------------------------------------------------------


def newest_letters(settings: Settings, choice: Choice, limit: int) -> list[DeadLetter]:
    """At most `limit` of the chosen dead letters, newest first, without payloads. Raises as `scan`."""
    found = sorted(scan(settings, choice, limit), key=lambda letter: letter.dead_letter_ts_ms, reverse=True)
    return found[:limit]


def count_letters(settings: Settings, choice: Choice) -> Counter[tuple[str, str]]:
    """(kind, source topic) ▸ chosen dead letters. A replay repeats letters: of one kind, a place counts once. Raises as `scan`."""
    places = {(letter.kind, letter.source_topic, letter.source_partition, letter.source_offset) for letter in scan(settings, choice)}
    return Counter((kind, topic) for kind, topic, _, _ in places)


def scan(settings: Settings, choice: Choice, per_partition: int | None = None, *, with_payload: bool = False) -> Iterator[DeadLetter]:
    """The chosen dead letters, from the end of the topic backwards in ever longer looks (within a look: as they lie).

    Ends in each partition after `per_partition` letters, and where all of a look was refused before `choice.since_ms`. Payloads, where the
    settings put them into letters, are left out unless asked for. Records that are no dead letters were not written by this project and are
    passed over. Raises Transient, Fatal when the topic is missing.
    """
    from kafka import TopicPartition

    topic = settings.topics.dead_letters
    starts, ends = start_offsets(settings, [topic]), end_offsets(settings, [topic])
    with kafka_errors(settings, *on_topics("Read", settings.topics.dead_letters)), connected_consumer(settings) as consumer:
        for (_, partition), end in ends.items():
            left = per_partition
            for lower, upper in looks(starts[topic, partition], end):
                taken: deque[DeadLetter] = deque(maxlen=left)
                newest_ms = 0
                for record in records_between(settings, consumer, TopicPartition(topic, partition), lower, upper):
                    try:
                        letter = decode_dead_letter(record.value, record.key)
                    except Poison:
                        continue
                    newest_ms = max(newest_ms, letter.dead_letter_ts_ms)
                    if choice.takes(letter):
                        taken.append(letter if with_payload else letter.model_copy(update={"payload_base64": None}))
                yield from taken
                if left is not None:
                    left -= len(taken)
                if left == 0 or (newest_ms and choice.since_ms is not None and newest_ms < choice.since_ms):
                    break


def looks(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Offset ranges [lower, upper) that cover [start, end) from the end backwards.

    >>> list(looks(0, 3_000))
    [(1000, 3000), (0, 1000)]
    """
    length, upper = FIRST_LOOK_RECORDS, end
    while upper > start:
        lower = max(start, upper - length)
        yield lower, upper
        upper, length = lower, min(length * 4, MAX_LOOK_RECORDS)


# -- reading -------------------------------------------------------------------------------------------------------------------------------


@contextmanager
def connected_consumer(settings: Settings) -> Iterator[Any]:
    """A kafka-python consumer without a group, for `records_between` and `records_at`. Raises Transient."""
    from kafka import KafkaConsumer

    check_reachable(settings.kafka)
    consumer = KafkaConsumer(
        **kafka_python_consumer_arguments(settings),
        auto_offset_reset="earliest",  # an offset that retention takes away while we read: the next record tells that it is gone
        fetch_max_wait_ms=settings.kafka.fetch_max_wait_ms,
        max_poll_records=2_000,
    )
    try:
        yield consumer
    finally:
        consumer.close()


def records_between(settings: Settings, consumer: Any, at: Any, lower: int, upper: int) -> Iterator[Any]:
    """The records of one partition with offsets in [lower, upper). Raises Transient when none come for the request timeout."""
    consumer.assign([at])
    consumer.seek(at, lower)
    heard_s = time.monotonic()
    while consumer.position(at) < upper:
        polled = consumer.poll(timeout_ms=POLL_MS).get(at, [])
        for record in polled:
            if record.offset >= upper:
                return
            yield record
        if polled:
            heard_s = time.monotonic()
        elif time.monotonic() - heard_s > settings.kafka.request_timeout_ms / 1000:
            raise Transient(f"partition {at.partition} of {at.topic} gives no records: look into the broker's log")


def records_at(settings: Settings, consumer: Any, at: Any, offsets: Sequence[int]) -> Iterator[tuple[int, Any | None]]:
    """(offset, record, or None where there is none any more) of ascending offsets, in one pass that jumps over wide gaps."""
    for run in runs(offsets):
        waiting = deque(run)
        for record in records_between(settings, consumer, at, run[0], run[-1] + 1):
            while waiting and waiting[0] < record.offset:
                yield waiting.popleft(), None
            if waiting and waiting[0] == record.offset:
                yield waiting.popleft(), record
        for source_offset in waiting:
            yield source_offset, None


def runs(offsets: Sequence[int], jump: int = JUMP_RECORDS) -> list[list[int]]:
    """Ascending offsets in runs without a gap wider than `jump`.

    >>> runs([1, 4, 90, 95], jump=10)
    [[1, 4], [90, 95]]
    """
    cut: list[list[int]] = []
    for source_offset in offsets:
        if cut and source_offset - cut[-1][-1] <= jump:
            cut[-1].append(source_offset)
        else:
            cut.append([source_offset])
    return cut


def edges_of(settings: Settings, topics: Iterable[str]) -> dict[tuple[str, int], tuple[int, int]]:
    """(topic, partition) ▸ first offset and next offset to be written; nothing for a topic that is not there."""
    with admin_client(settings) as admin:
        existing = set(admin.list_topics())
    known = sorted(set(topics) & existing)
    if not known:
        return {}
    starts = start_offsets(settings, known)
    return {at: (starts[at], end) for at, end in end_offsets(settings, known).items()}


# -- the record of one letter --------------------------------------------------------------------------------------------------------------


class Sighting(StrEnum):
    """What lies at the place that a letter names."""

    PRESENT = "present"
    GONE = "gone"
    """Nothing any more: retention or compaction removed the record, or its topic is no longer there."""
    CHANGED = "changed"
    """Another record: the topic was made again."""


def look_up(settings: Settings, place: Place) -> tuple[DeadLetter, Sighting, bytes | None] | None:
    """The newest letter of a place, with its payload if it has one; what lies there; the record's value if it is the letter's record.

    None without a letter. Raises as `scan`.
    """
    letters = list(scan(settings, Choice(places=frozenset({place})), 1, with_payload=True))
    if not letters:
        return None
    from kafka import TopicPartition

    letter = max(letters, key=lambda found: found.dead_letter_ts_ms)
    start, end = edges_of(settings, [place.topic]).get((place.topic, place.partition), (0, 0))
    if not start <= place.source_offset < end:
        return letter, Sighting.GONE, None
    if letter.source_last_offset is not None:  # a batch that nobody can unpack
        return letter, Sighting.PRESENT, None
    at = TopicPartition(place.topic, place.partition)
    with kafka_errors(settings, *on_topics("Read", place.topic)), connected_consumer(settings) as consumer:
        ((_, record),) = records_at(settings, consumer, at, [place.source_offset])
    sighting = identify(letter, record)
    return letter, sighting, record.value if record is not None and sighting is Sighting.PRESENT else None


def identify(letter: DeadLetter, record: Any | None) -> Sighting:
    """Whether this is the record (with a `key` and a `value`, None if there is none) that the letter is about."""
    if record is None:
        return Sighting.GONE
    same = sha256_of(record.key) == letter.key_sha256 and sha256_of(record.value) == letter.payload_sha256
    return Sighting.PRESENT if same else Sighting.CHANGED


def sha256_of(octets: bytes | None) -> str | None:
    """The hash that a letter holds of a key or a value; None of null."""
    return None if octets is None else hashlib.sha256(octets).hexdigest()
