"""Offsets of topics and of consumer groups: where partitions start and end, and how far groups have committed.

Administration goes through kafka-python, in the calling thread; the `…_async` forms run it in a worker thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from workers.errors import Fatal, Transient
from workers.kafka.admin import admin_client, kafka_errors
from workers.kafka.clients import blocking_consumer
from workers.kafka.rights import Right, on_topics
from workers.kafka.topics import denied_topics
from workers.settings import Settings

COORDINATOR_TIMEOUT_S = 15.0  # the first group of a new cluster waits for the topic that its offsets are kept in


def start_offsets(settings: Settings, topics: Sequence[str]) -> dict[tuple[str, int], int]:
    """Return (topic, partition) ▸ first kept offset. Raises Fatal when a topic does not exist, Transient when no broker answers."""
    from kafka.admin import OffsetSpec

    return _listed_offsets(settings, topics, OffsetSpec.EARLIEST)


def end_offsets(settings: Settings, topics: Sequence[str], *, timeout_s: float = 10.0) -> dict[tuple[str, int], int]:
    """Return (topic, partition) ▸ offset up to which consumers can read: the next one to be written, or the first of an open transaction.

    Raises Fatal when a topic does not exist, Transient when no broker answers.
    """
    return {place: stable for place, (stable, _) in readable_ends(settings, topics, timeout_s=timeout_s).items()}


def readable_ends(settings: Settings, topics: Sequence[str], *, timeout_s: float = 10.0) -> dict[tuple[str, int], tuple[int, int]]:
    """Return (topic, partition) ▸ offset up to which consumers of committed records can read, and next offset to be written.

    Raises as `end_offsets`.

    ListOffsets is only the start: Tansu 0.6 answers it with the first offset of the last batch, plus one. The high watermark that comes
    with a fetch is right everywhere, so each partition is fetched once from where ListOffsets points. A transaction is open where the
    second answer, of committed records, is before the first.
    """
    from kafka.admin import OffsetSpec
    from kafka.protocol.consumer import IsolationLevel

    listed = _listed_offsets(settings, topics, OffsetSpec.LATEST)
    if not listed:
        return {}
    committed = _listed_offsets(settings, topics, OffsetSpec.LATEST, isolation_level=IsolationLevel.READ_COMMITTED)
    ends = _high_watermarks(settings, listed, timeout_s)
    return {place: (committed[place] if committed[place] < listed[place] else end, end) for place, end in ends.items()}


def _listed_offsets(settings: Settings, topics: Sequence[str], spec: Any, **options: Any) -> dict[tuple[str, int], int]:
    from kafka import TopicPartition

    with admin_client(settings) as admin:
        existing = set(admin.list_topics())
        for topic in topics:
            if topic not in existing:
                hidden = denied_topics(admin, [topic], settings.kafka)
                if topic in hidden:
                    raise Transient(hidden[topic])
                raise Fatal(f"topic {topic} is missing: run `recsys topics create`")
        wanted = {
            TopicPartition(topic["name"], partition["partition_index"]): spec
            for topic in admin.describe_topics(list(topics))
            for partition in topic["partitions"]
        }
        found = admin.list_partition_offsets(wanted, **options)
    return {(at.topic, at.partition): position.offset for at, position in found.items()}


def _high_watermarks(settings: Settings, listed: dict[tuple[str, int], int], timeout_s: float) -> dict[tuple[str, int], int]:
    from kafka import TopicPartition

    with kafka_errors(settings, *on_topics("Read", *sorted({topic for topic, _ in listed}))):
        consumer = blocking_consumer(
            settings,
            fetch_max_wait_ms=50,
            max_partition_fetch_bytes=65_536,  # only the watermark is wanted; one record comes even if it is larger
            auto_offset_reset="latest",
        )
        try:
            places = [TopicPartition(topic, partition) for topic, partition in listed]
            consumer.assign(places)
            for place in places:
                consumer.seek(place, listed[(place.topic, place.partition)])
            ends: dict[tuple[str, int], int] = {}
            deadline = time.monotonic() + timeout_s
            while len(ends) < len(places):
                if time.monotonic() > deadline:
                    silent = len(places) - len(ends)
                    raise Transient(f"{silent} partitions have not answered within {timeout_s:g} s: look into the broker's log")
                consumer.poll(timeout_ms=100)
                for place in places:
                    seen = consumer.highwater(place)
                    if seen is not None:
                        ends[(place.topic, place.partition)] = max(seen, listed[(place.topic, place.partition)])
                        consumer.pause(place)
            return ends
        finally:
            consumer.close()


def group_lag(settings: Settings, group_id: str, topic: str) -> dict[int, int]:
    """Return partition ▸ records that the group has not committed yet (all of them where it never committed)."""
    committed = committed_offsets(settings, group_id, topic)
    ends = end_offsets(settings, [topic])
    starts = start_offsets(settings, [topic])
    return {p: end - max(committed.get(p, 0), starts[(t, p)]) for (t, p), end in ends.items()}


def group_offsets(settings: Settings, group_id: str) -> dict[Any, Any]:
    """Return kafka-python's TopicPartition ▸ the group's commit there; nothing for an unknown group."""
    from kafka import errors

    deadline = time.monotonic() + COORDINATOR_TIMEOUT_S
    with admin_client(settings, Right("group", group_id, "Describe", "")) as admin:
        while True:
            try:
                found: dict[Any, Any] = admin.list_group_offsets([group_id]).get(group_id, {})
                return found
            except (errors.CoordinatorNotAvailableError, errors.CoordinatorLoadInProgressError, errors.NotCoordinatorError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


def committed_offsets(settings: Settings, group_id: str, topic: str) -> dict[int, int]:
    """Return partition ▸ the offset that a group committed; partitions without a commit are left out."""
    return {at.partition: position.offset for at, position in group_offsets(settings, group_id).items() if at.topic == topic}


def commit_offsets(settings: Settings, group_id: str, topic: str, offsets: Mapping[int, int]) -> None:
    """Commit offsets for a group that has no members."""
    from kafka import TopicPartition
    from kafka.structs import OffsetAndMetadata

    with admin_client(settings) as admin:
        places = {TopicPartition(topic, partition): OffsetAndMetadata(offset, "", -1) for partition, offset in offsets.items()}
        admin.alter_group_offsets(group_id, places)


async def start_offsets_async(settings: Settings, topics: Sequence[str]) -> dict[tuple[str, int], int]:
    """Run `start_offsets` in a thread."""
    return await asyncio.to_thread(start_offsets, settings, topics)


async def end_offsets_async(settings: Settings, topics: Sequence[str]) -> dict[tuple[str, int], int]:
    """Run `end_offsets` in a thread."""
    return await asyncio.to_thread(end_offsets, settings, topics)
