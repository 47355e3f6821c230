"""Look into the topics for `recsys doctor`: codecs, open transactions, the partitioner, what cannot be read, what stands still."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from workers.errors import WorkerError
from workers.kafka.compression import CODECS, has_codec
from workers.kafka.connection import aiokafka_consumer_arguments, kafka_python_arguments
from workers.kafka.offsets import group_offsets, readable_ends, start_offsets
from workers.kafka.partitioner import partition_for
from workers.kafka.records import BlockingRangeReader, Place
from workers.operations.finding import Finding
from workers.settings import Settings

SAMPLED_RECORDS = 200
"""Newest records of each partition whose keys are looked at."""
MOVES_WITHIN_S = 6.0
"""A group that is behind and commits nothing for so long stands still: workers commit events ten times a second, the rest every 3 s."""


def examine_codecs(settings: Settings) -> Iterator[Finding]:
    """Pack and unpack a record with every codec, through each client's own batches."""
    kafka_python_arguments(settings), aiokafka_consumer_arguments(settings)  # gives both clients their codecs
    sample = b'{"event_id":"e"}' * 20
    found = {codec: _why(codec, sample) for codec in CODECS}
    broken = [f"{codec} ({why})" for codec, why in found.items() if why]
    if broken:
        yield Finding("codecs", "wrong", f"not readable: {', '.join(broken)}", "pip install cramjam, or install recsys-stream again")
    else:
        yield Finding("codecs", "ok", ", ".join(CODECS))


def _why(codec: str, sample: bytes) -> str:
    if not has_codec(codec):
        return "not installed"
    try:
        _check_clients(codec, sample)
    except Exception as error:  # whatever a broken library raises
        return type(error).__name__
    return ""


def _check_clients(codec: str, sample: bytes) -> None:
    """Write a batch with kafka-python, and read it with kafka-python and with aiokafka."""
    from aiokafka.record import MemoryRecords as OtherRecords
    from kafka.record import MemoryRecords, MemoryRecordsBuilder

    builder = MemoryRecordsBuilder(magic=2, compression_type=CODECS.index(codec) + 1, batch_size=100_000)
    builder.append(timestamp=0, key=b"k", value=sample, headers=[])
    builder.close()
    for records in (MemoryRecords(builder.buffer()), OtherRecords(bytes(builder.buffer()))):
        (record,) = records.next_batch()
        if record.value != sample:
            raise ValueError("another value")


def examine_log(settings: Settings) -> Iterator[Finding]:
    """Look into the topics that workers read. Raises WorkerError when Kafka is away."""
    topics = settings.topics
    names = {topics.events: "events", topics.items: "items", topics.users: "users", topics.models: "models"}
    ends = readable_ends(settings, list(names))
    starts = start_offsets(settings, list(names))
    yield from open_transactions(ends)
    yield from _samples(settings, starts, {place: stable for place, (stable, _) in ends.items()})
    yield from _standing_still(settings, starts)


def open_transactions(ends: Mapping[Place, tuple[int, int]]) -> Iterator[Finding]:
    """Name partitions in which records wait for the end of a transaction. `ends`: (readable up to, written up to)."""
    waiting = [
        f"{topic} partition {p}: {end - stable} records wait since offset {stable}"
        for (topic, p), (stable, end) in ends.items()
        if stable < end
    ]
    if waiting:
        remedy = "end the producer's transaction, or wait for its transaction.timeout.ms; `kafka-transactions.sh find-hanging` names it"
        yield Finding("transactions", "warning", f"a transaction is open in {_some(waiting)}", remedy)


def _samples(settings: Settings, starts: Mapping[Place, int], ends: Mapping[Place, int]) -> Iterator[Finding]:
    """Read the newest records of every partition: can they be read, and do they lie where their keys belong?"""
    from workers.kafka.bounded_kafka_python import passed_over

    topics = settings.topics
    n_read = n_wrong = 0
    wrong_in: set[str] = set()
    silent: list[str] = []
    unreadable = passed_over()
    n_before = len(unreadable)
    with BlockingRangeReader(settings) as reader:
        for (topic, partition), end in ends.items():
            first = max(starts[topic, partition], end - SAMPLED_RECORDS)
            try:
                found = list(reader.between((topic, partition), first, end))
            except WorkerError:
                silent.append(f"{topic} partition {partition}")
                continue
            if topic in (topics.events, topics.users):
                keys = [record.key for record in found if record.key]
                n_read += len(keys)
                if n := sum(partition_for(key, topics.partitions) != partition for key in keys):
                    n_wrong += n
                    wrong_in.add(topic)
    yield from partitioner(n_read, n_wrong, sorted(wrong_in), accepted=topics.wrong_partition == "accept")
    batches = [f"{topic} partition {p} offset {offset} ({why})" for topic, p, offset, why in unreadable[n_before:]]
    if batches:
        remedy = "ask its producer to send it again; `recsys dlq list` has the letters, docs/reliability.md says what stops a worker"
        yield Finding("batches", "wrong", f"cannot be read: {_some(batches)}", remedy)
    if silent:
        yield Finding("records", "wrong", f"no records come of {_some(silent)}", "look into the broker's log")


def partitioner(n_read: int, n_wrong: int, topics: list[str], *, accepted: bool) -> Iterator[Finding]:
    """Say whether the newest records lie in the partitions that murmur2 gives their keys."""
    if not n_wrong:
        if n_read:
            yield Finding("partitioner", "ok", f"{n_read:,} newest records lie where murmur2 puts their keys")
        return
    text = f"{n_wrong:,} of {n_read:,} newest records of {', '.join(topics)} lie in another partition than murmur2 gives their key"
    if accepted:
        yield Finding("partitioner", "warning", text, "topics.wrong_partition accepts them: all producers must use one partitioner")
    else:
        remedy = "set partitioner=murmur2_random on that producer (librdkafka), then `recsys dlq redrive --kind wrong_partition`"
        yield Finding("partitioner", "wrong", f"{text}: they are dead letters", remedy)


def _standing_still(settings: Settings, starts: Mapping[Place, int]) -> Iterator[Finding]:
    """Watch the groups that read events, items, users and models, for a few seconds if they are behind."""
    topics, stream = settings.topics, settings.stream.group_id
    catalogue = f"{stream}-catalogue"
    groups = {topics.events: stream, topics.items: catalogue, topics.users: catalogue, topics.models: catalogue}
    before = _committed(settings, groups)
    ends = {place: stable for place, (stable, _) in readable_ends(settings, list(groups)).items()}
    behind = {place for place, end in ends.items() if _at(before, starts, place) < end} if before else set()
    if not behind:
        return  # or nobody has ever committed: no worker has run, which the lag says
    behind = _with_records(settings, {place: (_at(before, starts, place), ends[place]) for place in behind})
    deadline = time.monotonic() + MOVES_WITHIN_S
    while behind and time.monotonic() < deadline:
        time.sleep(0.5)
        now = _committed(settings, groups)
        behind = {place for place in behind if _at(now, starts, place) == _at(before, starts, place)}
    if behind:
        where = [f"{topic} partition {p} at offset {_at(before, starts, (topic, p))} of {ends[topic, p]}" for topic, p in sorted(behind)]
        remedy = "see that a stream worker runs, and read its last line: it names a batch that it cannot read"
        yield Finding("standing still", "warning", f"nothing is committed for {MOVES_WITHIN_S:.0f} s in {_some(where)}", remedy)


def _with_records(settings: Settings, ranges: Mapping[Place, tuple[int, int]]) -> set[Place]:
    """The partitions in which there is a record, or a batch that cannot be read, from where a group is to the end."""
    from workers.kafka.bounded_kafka_python import passed_over

    found: set[Place] = set()
    with BlockingRangeReader(settings) as reader:
        for place, (first, end) in ranges.items():
            n_before = len(passed_over())
            records = reader.between(place, first, end)
            if next(records, None) is not None or len(passed_over()) > n_before:
                found.add(place)
    return found


def _committed(settings: Settings, groups: Mapping[str, str]) -> dict[Place, int]:
    found: dict[Place, int] = {}
    for group in sorted(set(groups.values())):
        positions: Mapping[Any, Any] = group_offsets(settings, group)
        found |= {(at.topic, at.partition): position.offset for at, position in positions.items() if groups.get(at.topic) == group}
    return found


def _at(committed: Mapping[Place, int], starts: Mapping[Place, int], place: Place) -> int:
    return max(committed.get(place, 0), starts.get(place, 0))


def _some(places: list[str], most: int = 5) -> str:
    return ", ".join(places[:most]) + (f" and {len(places) - most} more" if len(places) > most else "")
