"""Reads topics again from their start, without a consumer group: to rebuild the state, to check it, and for a Redis that lost it all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from workers.kafka.offsets import end_offsets_async, start_offsets_async
from workers.kafka.records import Place, RangeReader, Record
from workers.settings import Settings
from workers.stream.reference_topics import Intake

RECORDS_AT_ONCE = 1_000
"""Records of the low-rate topics, some kB each, that are applied together."""


async def unapplied(settings: Settings, starts: Mapping[Place, int], ends: Mapping[Place, int]) -> dict[Place, int]:
    """Return how many offsets lie between the first record at or after each start and its end: 0 where only gaps lie between.

    A watermark is the offset of a record. What follows the last one, markers of transactions and aborted records, is never applied.
    """
    left = dict.fromkeys(starts, 0)
    waiting = {place: start for place, start in starts.items() if start < ends.get(place, 0)}
    if not waiting:
        return left
    async with RangeReader(settings, waiting, max_records=len(waiting)) as reader:
        reader.expect()
        while any(reader.next_offsets[place] < ends[place] for place in waiting if not left[place]):
            for place, records in (await reader.poll()).items():
                if not left[place] and records[0].source_offset < ends[place]:
                    left[place] = ends[place] - records[0].source_offset
            reader.check_silence({place: ends[place] for place in waiting if not left[place]})
    return left


@dataclass(frozen=True, slots=True)
class ReadCompacted:
    """Counts of applied records by role, and the offsets at which reading stopped."""

    counts: dict[str, int]
    next_offsets: dict[Place, int]


async def reread_compacted(settings: Settings, intake: Intake) -> dict[str, int]:
    """Apply items, users and models from the start of their topics and return how many records of each. As `read_compacted`."""
    return (await read_compacted(settings, intake)).counts


async def read_compacted(settings: Settings, intake: Intake, since: Mapping[Place, int] = MappingProxyType({})) -> ReadCompacted:
    """Apply items, users and models from these offsets on, or from the start of their topics, to where they end now.

    First lists and dead letters are not published: the worker that read the records first has done that. May be repeated.
    Raises: Transient, Fatal when a topic is missing.
    """
    topics = settings.topics
    roles = {topics.items: "items", topics.users: "users", topics.models: "models"}
    if settings.lists.rules_topic:
        roles[topics.control] = "rules"
    starts = await start_offsets_async(settings, list(roles))
    ends = await end_offsets_async(settings, list(roles))
    counts = dict.fromkeys(roles.values(), 0)
    starts = {place: min(max(start, since.get(place, 0)), ends[place]) for place, start in starts.items()}
    if all(ends[place] <= start for place, start in starts.items()):
        # nothing to read; a consumer that is stopped as soon as it has started is cancelled inside aiokafka
        return ReadCompacted(counts, dict(ends))
    async with RangeReader(settings, starts, max_records=RECORDS_AT_ONCE) as reader:
        async for found in reader.until(ends):
            by_role: dict[str, list[Record]] = {}
            for (topic, _), records in found.items():
                by_role.setdefault(roles[topic], []).extend(records)
            for role, records_of_role in by_role.items():
                counts[role] += len(records_of_role)
                if role == "items":
                    await intake.items(records_of_role)
                elif role == "users":
                    await intake.users(records_of_role, first_lists=False, are_new=bool(since))
                elif role == "models":
                    await intake.announcements(records_of_role)
                else:
                    await intake.rules(records_of_role)
        return ReadCompacted(counts, dict(reader.next_offsets))
