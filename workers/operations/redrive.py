"""Sending refused records again, now that they are accepted.

read at the letter's place ▸ compare hashes ▸ today's decoder ▸ same key and value to the end of the same topic ▸ acknowledged
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from schemas import DeadLetter, Poison, decode_announcement, decode_event, decode_item, decode_profile
from schemas.erasures import erased_user
from workers.kafka.clients import blocking_producer
from workers.kafka.partitioner import partition_for
from workers.kafka.placement import WRONG_PARTITION, refuse_reserved, refuse_reserved_account
from workers.kafka.records import BlockingRangeReader, Record
from workers.kafka.rights import on_topics
from workers.operations.dead_letters import Sighting, SourcePlace, edges_of, identify, sha256_of
from workers.settings import Settings

REDRIVEN_FROM = "recsys-redriven-from"
"""Kafka header of a redriven record: the place it was read from, `topic:partition:offset`."""

SENT_AT_ONCE = 500
LINGER_MS = 5  # records that were read together travel together
DELIVERY_TIMEOUT_S = 60.0
MAX_REQUEST_BYTES = 8 * 1024 * 1024  # the broker took the record once; its own limit decides, not ours

Decoder = Callable[[bytes | None, bytes | None], object]


class Outcome(StrEnum):
    """Names the result for a letter that was to be redriven."""

    REDRIVEN = "redriven"
    REDRIVABLE = "redrivable"
    """It would be redriven; this was a dry run."""
    ALREADY_REDRIVEN = "already_redriven"
    """Another letter of the same place was redriven in this run, or the topic (a compacted one) holds the redriven record."""
    STILL_REFUSED = "still_refused"
    GONE = "gone"
    CHANGED = "changed"
    SUPERSEDED = "superseded"
    """The topic (a compacted one) holds a newer good record of the same key, which the old one would replace."""
    UNDELIVERED = "undelivered"
    NO_LETTER = "no_letter"


ON_THE_TOPIC = frozenset({Outcome.REDRIVEN, Outcome.REDRIVABLE, Outcome.ALREADY_REDRIVEN})
"""Outcomes after which nothing is left to do (in a dry run: would be)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one letter; `reason` is one line, for `still_refused` the field, the kind of value and the remedy."""

    place: SourcePlace
    outcome: Outcome
    reason: str = ""


def decoders(settings: Settings, wall_clock: Callable[[], float] = time.time) -> dict[str, Decoder]:
    """Source topic ▸ what refuses its records today, as workers do: (value, key) to a model; it raises Poison. A redriven event gets the
    time of now."""
    lists = settings.lists

    def event(value: bytes | None, key: bytes | None) -> object:
        if (erased := erased_user(value, key)) is not None:
            refuse_reserved(erased, lists)
            return erased
        found = decode_event(
            value,
            key,
            record_ts_ms=int(wall_clock() * 1000),
            future_skew_ms=settings.stream.future_skew_s * 1000,
            max_bytes=settings.stream.max_record_bytes,
        )
        refuse_reserved(found.user_id, lists)
        return found

    def profile(value: bytes | None, key: bytes | None) -> object:
        found = decode_profile(value, key)
        if found is not None:
            refuse_reserved(found.user_id, lists)
            refuse_reserved_account(found.merged_into or "", lists)
        return found

    topics = settings.topics
    return {topics.events: event, topics.items: decode_item, topics.users: profile, topics.models: decode_announcement}


def redrive(settings: Settings, letters: Iterable[DeadLetter], *, dry_run: bool = False) -> list[Verdict]:
    """Send the records of these letters to the end of their topics again, where they are accepted now; a verdict for each letter.

    Every record is read where it lies, a partition in one pass and in the order of its offsets. It goes out with the same key, value and
    headers, and with `REDRIVEN_FROM`, to the partition of its key. Nothing but a verdict comes of a record that cannot be sent.

    Raises: Transient when the broker does not answer. Running it again is then harmless for items, profiles and models; an event that was
    sent before carries its event_id again and counts once within the duplicate window.
    """
    by_partition: dict[tuple[str, int], dict[int, list[DeadLetter]]] = {}
    for letter in letters:
        at = by_partition.setdefault((letter.source_topic, letter.source_partition), {})
        at.setdefault(letter.source_offset, []).append(letter)
    if not by_partition:
        return []
    edges = edges_of(settings, {topic for topic, _ in by_partition})
    verdicts: list[Verdict] = []
    sources = sorted({topic for topic, _ in by_partition})
    needs = on_topics("Read", *sources) + on_topics("Write", *sources)
    with BlockingRangeReader(settings, needs=needs) as reader, _Sender(settings, edges, dry_run) as sender:
        for (topic, partition), at in sorted(by_partition.items()):
            newest = {offset: max(same, key=lambda letter: letter.dead_letter_ts_ms) for offset, same in sorted(at.items())}
            sweep = _Sweep(settings, reader, topic, partition, edges)
            for verdict in sweep.run(newest, sender):
                verdicts += _for_each_letter(verdict, len(at[verdict.place.source_offset]))
    return verdicts


def _for_each_letter(verdict: Verdict, n_letters: int) -> list[Verdict]:
    """A record is redriven once, however many letters a replay made of it."""
    sent = verdict.outcome in (Outcome.REDRIVEN, Outcome.REDRIVABLE)
    more = Verdict(verdict.place, Outcome.ALREADY_REDRIVEN, "another letter of this place") if sent else verdict
    return [verdict] + [more] * (n_letters - 1)


class _Sweep:
    """One partition's letters: read, judge, send."""

    def __init__(
        self,
        settings: Settings,
        reader: BlockingRangeReader,
        topic: str,
        partition: int,
        edges: Mapping[tuple[str, int], tuple[int, int]],
    ) -> None:
        self._reader = reader
        self._topic, self._partition = topic, partition
        self._edges = edges
        self._start, self._end = edges.get((topic, partition), (0, 0))
        self._decode = decoders(settings).get(topic)
        self._compacted = topic != settings.topics.events

    def run(self, letters: Mapping[int, DeadLetter], sender: _Sender) -> Iterator[Verdict]:
        """The verdicts on letters by ascending source offset."""
        if self._decode is None:
            reason = f"topic {self._topic} is none of topics.events, items, users and models: redrive with the settings that name it"
            yield from (Verdict(self._place(offset), Outcome.STILL_REFUSED, reason) for offset in letters)
            return
        batches = [offset for offset, letter in letters.items() if letter.source_last_offset is not None]
        reason = "it stands for a batch that cannot be unpacked: its producer must send those records again"
        yield from (Verdict(self._place(offset), Outcome.STILL_REFUSED, reason) for offset in batches)
        letters = {offset: letter for offset, letter in letters.items() if letter.source_last_offset is None}
        there = [offset for offset in letters if self._start <= offset < self._end]
        yield from (Verdict(self._place(offset), Outcome.GONE) for offset in letters if not self._start <= offset < self._end)
        newer, redriven = self._newer_versions([letters[offset] for offset in there]) if self._compacted and there else ({}, frozenset())
        found = self._reader.at((self._topic, self._partition), there)
        elsewhere: dict[bytes, int] = {}
        if self._compacted and any(letters[offset].kind == WRONG_PARTITION for offset in there):
            held = list(found)  # the reader is needed for other partitions
            found = iter(held)
            elsewhere = self._newest_where_they_belong([record.key for _, record in held if record is not None and record.key])
        for offset, record in found:
            place, letter = self._place(offset), letters[offset]
            verdict = judge(letter, record, self._decode)
            if record is None or verdict.outcome is not Outcome.REDRIVABLE:
                yield verdict
            elif str(place).encode() in redriven:
                yield Verdict(place, Outcome.ALREADY_REDRIVEN, "the topic holds the redriven record")
            elif newer.get(letter.key_sha256, -1) > offset or elsewhere.get(record.key or b"", -1) > record.source_timestamp_ms:
                yield Verdict(place, Outcome.SUPERSEDED, "the topic holds a newer record of this key, which would be replaced")
            else:
                yield from sender.send(place, record)
        yield from sender.settle()

    def _place(self, source_offset: int) -> SourcePlace:
        return SourcePlace(self._topic, self._partition, source_offset)

    def _newest_where_they_belong(self, keys: Iterable[bytes]) -> dict[bytes, int]:
        """Key ▸ timestamp of its newest record in the partition that murmur2 gives it, where that is another one than this."""
        n_partitions = sum(topic == self._topic for topic, _ in self._edges)
        wanted: dict[int, set[bytes]] = {}
        for key in keys:
            if (target := partition_for(key, n_partitions)) != self._partition:
                wanted.setdefault(target, set()).add(key)
        newest: dict[bytes, int] = {}
        for target, keys_there in wanted.items():
            for record in self._reader.between((self._topic, target), *self._edges[self._topic, target]):
                if record.key in keys_there:
                    newest[record.key] = max(newest.get(record.key, -1), record.source_timestamp_ms)
        return newest

    def _newer_versions(self, letters: Sequence[DeadLetter]) -> tuple[dict[str | None, int], frozenset[bytes]]:
        """Hash of a letter's key ▸ the newest offset of a good record with that key; and the places that records here were redriven from.

        In a topic where the newest record of a key counts, an old one must not come after it."""
        assert self._decode is not None
        keys = {letter.key_sha256 for letter in letters}
        newest: dict[str | None, int] = {}
        redriven: set[bytes] = set()
        for record in self._reader.between((self._topic, self._partition), letters[0].source_offset + 1, self._end):
            if (digest := sha256_of(record.key)) not in keys:
                continue
            try:
                self._decode(record.value, record.key)
            except Poison:
                continue
            newest[digest] = record.source_offset
            redriven |= {value for name, value in record.headers if name == REDRIVEN_FROM and value is not None}
        return newest, frozenset(redriven)


def judge(letter: DeadLetter, record: Record | None, decode: Decoder) -> Verdict:
    """Judge the record at a letter's place: it can be redriven (`redrivable`), is gone, changed, or refused by this decoder."""
    place = SourcePlace.of(letter)
    sighting = identify(letter, record)
    if record is None or sighting is not Sighting.PRESENT:
        return Verdict(place, Outcome(sighting.value))
    try:
        decode(record.value, record.key)
    except Poison as poison:
        return Verdict(place, Outcome.STILL_REFUSED, poison.reason)
    return Verdict(place, Outcome.REDRIVABLE)


class _Sender:
    """Sends records again and waits for the broker's acknowledgements, some hundred at a time; in a dry run it connects to nothing."""

    def __init__(self, settings: Settings, edges: Mapping[tuple[str, int], tuple[int, int]], dry_run: bool) -> None:
        self._settings = settings
        self._dry_run = dry_run
        self._n_partitions = Counter(topic for topic, _ in edges)
        self._producer: Any = None
        self._sending: list[tuple[SourcePlace, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._producer is not None:
            self._producer.close(timeout=1.0)

    def send(self, place: SourcePlace, record: Record) -> list[Verdict]:
        """Send a record that lies at `place`; the verdicts that this settled, on records sent before."""
        if self._dry_run:
            return [Verdict(place, Outcome.REDRIVABLE)]
        if self._producer is None:
            self._producer = self._connect()
        kept = [(name, value) for name, value in record.headers if name != REDRIVEN_FROM and value is not None]
        sending = self._producer.send(
            place.topic,
            key=record.key,
            value=record.value,
            headers=[*kept, (REDRIVEN_FROM, str(place).encode())],
            partition=partition_for(record.key, self._n_partitions[place.topic]),
        )
        self._sending.append((place, sending))
        return self.settle() if len(self._sending) >= SENT_AT_ONCE else []

    def settle(self) -> list[Verdict]:
        """Wait for what was sent."""
        from kafka.errors import KafkaError

        verdicts = []
        for place, sending in self._sending:
            try:
                sending.get(timeout=DELIVERY_TIMEOUT_S)
            except KafkaError as error:
                reason = f"Kafka did not acknowledge it ({type(error).__name__}): redrive it again"
                verdicts.append(Verdict(place, Outcome.UNDELIVERED, reason))
            else:
                verdicts.append(Verdict(place, Outcome.REDRIVEN))
        self._sending = []
        return verdicts

    def _connect(self) -> Any:
        return blocking_producer(
            self._settings,
            delivery_timeout_ms=int(DELIVERY_TIMEOUT_S * 1000),
            linger_ms=LINGER_MS,
            max_request_size=MAX_REQUEST_BYTES,
        )
