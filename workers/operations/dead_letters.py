"""Find dead letters, and read the records that they are about.

A letter holds hashes and coordinates. The record itself lies in its source topic for as long as retention and compaction leave it there.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from schemas import DeadLetter, Poison, decode_dead_letter
from workers.errors import SettingsError
from workers.kafka.admin import admin_client
from workers.kafka.offsets import end_offsets, start_offsets
from workers.kafka.records import BlockingRangeReader, Record
from workers.kafka.rights import on_topics
from workers.settings import Settings

FIRST_LOOK_RECORDS = 2_000  # the newest letters are asked for most; each further look goes four times as far back
MAX_LOOK_RECORDS = 50_000  # one look is held in memory


@dataclass(frozen=True, slots=True, order=True)
class SourcePlace:
    """Names the place of a record. Written `topic:partition:offset`, which is also the key of its dead letter."""

    topic: str
    partition: int
    source_offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.source_offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the place of `topic:partition:offset`. Raises SettingsError."""
        parts = text.rsplit(":", 2)
        if len(parts) != 3 or not parts[0] or not all(part.isascii() and part.isdigit() for part in parts[1:]):
            raise SettingsError("PLACE: give topic:partition:offset, as `recsys dlq list` prints it")
        return cls(parts[0], int(parts[1]), int(parts[2]))

    @classmethod
    def of(cls, letter: DeadLetter) -> Self:
        """Return the place that a letter names."""
        return cls(letter.source_topic, letter.source_partition, letter.source_offset)


@dataclass(frozen=True, slots=True)
class Choice:
    """Selects dead letters; None selects all. `since_ms` is Unix time, compared with the time at which a record was refused."""

    kind: str | None = None
    topic: str | None = None
    since_ms: int | None = None
    places: frozenset[SourcePlace] | None = None

    def takes(self, letter: DeadLetter) -> bool:
        """Return whether the selection takes a letter."""
        return (
            (self.kind is None or letter.kind == self.kind)
            and (self.topic is None or letter.source_topic == self.topic)
            and (self.since_ms is None or letter.dead_letter_ts_ms >= self.since_ms)
            and (self.places is None or SourcePlace.of(letter) in self.places)
        )


def newest_letters(settings: Settings, choice: Choice, limit: int) -> list[DeadLetter]:
    """Return at most `limit` of the chosen dead letters, newest first, without payloads. Raises as `scan`."""
    found = sorted(scan(settings, choice, limit), key=lambda letter: letter.dead_letter_ts_ms, reverse=True)
    return found[:limit]


def count_letters(settings: Settings, choice: Choice) -> Counter[tuple[str, str]]:
    """Count the chosen dead letters by (kind, source topic); a place that a replay repeats counts once a kind. Raises as `scan`."""
    places = {(letter.kind, letter.source_topic, letter.source_partition, letter.source_offset) for letter in scan(settings, choice)}
    return Counter((kind, topic) for kind, topic, _, _ in places)


def scan(settings: Settings, choice: Choice, per_partition: int | None = None, *, with_payload: bool = False) -> Iterator[DeadLetter]:
    """Yield the chosen dead letters, from the end of the topic backwards in ever longer looks (within a look: in the order of the log).

    Ends in each partition after `per_partition` letters, and where all of a look was refused before `choice.since_ms`. Payloads, where the
    settings put them into letters, are left out unless asked for. Records that are no dead letters are skipped: this project did not write
    them. Raises Transient, Fatal when the topic is missing.
    """
    topic = settings.topics.dead_letters
    starts, ends = start_offsets(settings, [topic]), end_offsets(settings, [topic])
    with BlockingRangeReader(settings, needs=on_topics("Read", topic)) as reader:
        for (_, partition), end in ends.items():
            left = per_partition
            for lower, upper in looks(starts[topic, partition], end):
                taken: deque[DeadLetter] = deque(maxlen=left)
                newest_ms = 0
                for record in reader.between((topic, partition), lower, upper):
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
    """Yield offset ranges [lower, upper) that cover [start, end) from the end backwards.

    >>> list(looks(0, 3_000))
    [(1000, 3000), (0, 1000)]
    """
    length, upper = FIRST_LOOK_RECORDS, end
    while upper > start:
        lower = max(start, upper - length)
        yield lower, upper
        upper, length = lower, min(length * 4, MAX_LOOK_RECORDS)


def edges_of(settings: Settings, topics: Iterable[str]) -> dict[tuple[str, int], tuple[int, int]]:
    """Return (topic, partition) ▸ first offset and next offset to be written; nothing for a topic that does not exist."""
    with admin_client(settings) as admin:
        existing = set(admin.list_topics())
    known = sorted(set(topics) & existing)
    if not known:
        return {}
    starts = start_offsets(settings, known)
    return {at: (starts[at], end) for at, end in end_offsets(settings, known).items()}


class Sighting(StrEnum):
    """Tells what lies at the place that a letter names."""

    PRESENT = "present"
    GONE = "gone"
    """Nothing any more: retention or compaction removed the record, or its topic is no longer there."""
    CHANGED = "changed"
    """Another record: the topic was made again."""


def look_up(settings: Settings, place: SourcePlace) -> tuple[DeadLetter, Sighting, bytes | None] | None:
    """Return the newest letter of a place, with its payload if it has one; what lies there; the value if it is the letter's record.

    None without a letter. Raises as `scan`.
    """
    letters = list(scan(settings, Choice(places=frozenset({place})), 1, with_payload=True))
    if not letters:
        return None
    letter = max(letters, key=lambda found: found.dead_letter_ts_ms)
    start, end = edges_of(settings, [place.topic]).get((place.topic, place.partition), (0, 0))
    if not start <= place.source_offset < end:
        return letter, Sighting.GONE, None
    if letter.source_last_offset is not None:  # a batch that cannot be unpacked
        return letter, Sighting.PRESENT, None
    with BlockingRangeReader(settings, needs=on_topics("Read", place.topic)) as reader:
        ((_, record),) = reader.at((place.topic, place.partition), [place.source_offset])
    sighting = identify(letter, record)
    return letter, sighting, record.value if record is not None and sighting is Sighting.PRESENT else None


def identify(letter: DeadLetter, record: Record | None) -> Sighting:
    """Compare the record at the letter's place (None if there is none) with the record that the letter is about."""
    if record is None:
        return Sighting.GONE
    same = sha256_of(record.key) == letter.key_sha256 and sha256_of(record.value) == letter.payload_sha256
    return Sighting.PRESENT if same else Sighting.CHANGED


def sha256_of(octets: bytes | None) -> str | None:
    """Return the hash that a letter holds of a key or a value; None of null."""
    return None if octets is None else hashlib.sha256(octets).hexdigest()
