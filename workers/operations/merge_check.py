"""Merged ids in the state against the users topic: the newest record of each id says as whom it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.decoding import decode_key, decode_profile
from schemas.errors import Poison
from workers.kafka.offsets import end_offsets_async, start_offsets_async
from workers.kafka.partitioner import partition_for
from workers.kafka.placement import is_reserved
from workers.kafka.records import Place, RangeReader, Record
from workers.operations.catalogue_check import applied_offsets
from workers.operations.reference_fold import user_digest
from workers.settings import ListSettings, Settings
from workers.state.merged_users import Owner
from workers.state.port import StateStore
from workers.state.users_topic import MOST_SOURCES

RECORDS_AT_ONCE = 1_000
IDS_AT_ONCE = 1_000


@dataclass(slots=True)
class MergesOfTopic:
    """Holds what the users topic says of merges: by id as whom it may go on, empty for nobody. More than one, where workers may not have
    applied the newest records, which begin at `applied` in each partition. Ids that nothing is held of go on as nobody."""

    applied: Mapping[int, int]
    partitions: int
    lists: ListSettings
    allowed: dict[Owner, set[str]] = field(default_factory=dict)

    def take(self, record: Record) -> None:
        """Fold the next record of a partition; one that workers refuse changes nothing."""
        try:
            profile, user_id = decode_profile(record.value, record.key), decode_key(record.key)
        except Poison:
            return
        merged_into = "" if profile is None else profile.merged_into or ""
        is_misplaced = partition_for(user_id.encode(), self.partitions) != record.partition
        if is_misplaced or is_reserved(user_id, self.lists) or is_reserved(merged_into, self.lists):
            return
        user = record.partition, user_id
        if record.source_offset >= self.applied.get(record.partition, 0):
            self.allowed.setdefault(user, {""}).add(merged_into)
        elif merged_into:
            self.allowed[user] = {merged_into}
        else:
            self.allowed.pop(user, None)


async def merge_differences(settings: Settings, store: StateStore) -> tuple[int, list[tuple[str, str]]]:
    """Return how many ids go on as another one, and (id, difference) of those of which state and topic say different things.

    Workers may go on: the state is read before the topic. Raises Transient, Fatal when the topic is missing.
    """
    applied = await applied_offsets(store, settings.topics.users)
    stored = {
        (partition, user_id): merged_into
        for partition in range(settings.topics.partitions)
        async for page in store.scan_merged(partition)
        for user_id, merged_into in page
    }
    differences = await _unknown_to_accounts(settings, store, stored)
    allowed = (await _read(settings, applied)).allowed
    for user in dict.fromkeys([*stored, *allowed]):
        has, may = stored.get(user, ""), allowed.get(user, {""})
        if has not in may:
            by_topic = " or ".join(map(_named, sorted(may)))
            differences.append((user[1], f"by the topic it goes on as {by_topic}, by the state as {_named(has)}"))
    return len(stored), differences


def _named(user_id: str) -> str:
    return f"user {user_digest(user_id)}" if user_id else "nobody"


async def _unknown_to_accounts(settings: Settings, store: StateStore, stored: Mapping[Owner, str]) -> list[tuple[str, str]]:
    """Return the ids of which the account that they go on as knows nothing, so that their histories would not count for it."""
    differences, ids = list[tuple[str, str]](), list(stored.items())
    for start in range(0, len(ids), IDS_AT_ONCE):
        asked: dict[int, list[tuple[str, str]]] = {}
        for (_, user_id), account in ids[start : start + IDS_AT_ONCE]:
            asked.setdefault(partition_for(account.encode(), settings.topics.partitions), []).append((account, user_id))
        found = await store.read_standings({partition: [account for account, _ in pairs] for partition, pairs in asked.items()})
        for partition, pairs in asked.items():
            for (account, user_id), standing in zip(pairs, found[partition], strict=True):
                if user_id not in standing.sources and len(standing.sources) < MOST_SOURCES:
                    differences.append((user_id, f"{_named(account)}, as whom it goes on, does not know it"))
    return differences


async def _read(settings: Settings, applied: Mapping[int, int]) -> MergesOfTopic:
    topic = settings.topics.users
    merges = MergesOfTopic(applied, settings.topics.partitions, settings.lists)
    starts, ends = await start_offsets_async(settings, [topic]), await end_offsets_async(settings, [topic])
    filled: dict[Place, int] = {place: start for place, start in starts.items() if ends.get(place, 0) > start}
    if filled:
        async with RangeReader(settings, filled, max_records=RECORDS_AT_ONCE) as reader:
            async for found in reader.until(ends):
                for records in found.values():
                    for record in records:
                        merges.take(record)
                await asyncio.sleep(0)
    return merges
