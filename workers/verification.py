"""Checking the state against the log: a sample of users folded anew, and the watermarks of all item groups. Changes nothing."""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import xxhash

from workers.errors import Fatal, Transient
from workers.replay import LogReader, Place, source_record
from workers.settings import Settings
from workers.state_check import HistoryFold, difference, user_digest
from workers.store import StateStore, Watermark, layout_of, open_store
from workers.topics import end_offsets_async, start_offsets_async, topic_ids_async

READ_AT_ONCE = 5_000
PROGRESS_S = 5.0
LOOKS = 4
"""Places of each partition's log where users are taken from, so that one whose row is gone altogether is met too."""
LOOK_POLLS = 25
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Verification:
    """`differences` are lines to print, none for a sound state; `n_users` of all `n_users_stored` were compared, over `n_events` records.

    `partial`: the log no longer starts at offset 0 somewhere, so there only the newest entries could be compared.
    """

    generation: int
    n_users: int
    n_users_stored: int
    n_events: int
    seconds: float
    partial: bool
    differences: list[str]


@dataclass(slots=True)
class _Sampled:
    """Users of one partition and their rows, all as of one watermark."""

    watermark: Watermark
    rows: dict[str, bytes | None] = field(default_factory=dict)


async def verify(settings: Settings, *, n_users: int, seed: int = 0, say: Say = lambda line: None) -> Verification:
    """Check the active generation. Raises Fatal when the state cannot be compared with this log at all, Transient."""
    store = open_store(settings)
    try:
        await store.open(layout_of(settings))
        found = await verify_store(settings, store, n_users=n_users, seed=seed, say=say)
        if await store.active_generation() != store.generation:
            raise Transient("the state was rebuilt while it was being checked: run `recsys state verify` again")
        return found
    finally:
        await store.close()


async def verify_store(
    settings: Settings, store: StateStore, *, n_users: int, seed: int, idle: bool = False, say: Say = lambda line: None
) -> Verification:
    """Check the generation that a store is opened on. `idle`: nobody writes it, so groups must stand exactly where the users do."""
    started_s = time.monotonic()
    topic, partitions = settings.topics.events, range(settings.topics.partitions)
    ids = await topic_ids_async(settings)
    if topic not in ids:
        raise Fatal(f"topic {topic} is missing: run `recsys topics create`")
    sample, n_stored = await _sample(store, partitions, n_users - n_users // 2, seed)
    stored = list(sample)
    for partition, user_ids in (await _users_of_log(settings, n_users // 2, seed)).items():
        sample[partition] = list(dict.fromkeys([*sample.get(partition, []), *user_ids]))
    sampled: dict[int, _Sampled] = {}
    for partition in partitions:
        users = sample.get(partition, [])
        watermark, rows = await store.read_users_at(partition, users)
        if watermark is not None:
            sampled[partition] = _Sampled(watermark, dict(zip(users, rows, strict=True)))
    names = await store.item_names()  # after the rows, whose items are all numbered by then
    for partition, held in sampled.items():
        if held.watermark.topic_id != ids[topic]:
            raise Fatal(f"the state of partition {partition} follows another topic {topic}, made anew since: run `recsys state rebuild`")
    lost = [partition for partition in stored if partition not in sampled]
    differences = [f"partition {partition} has users and no watermark: it lost state" for partition in lost]
    differences += await _group_differences(settings, store, sampled, idle)
    say(f"reading the log for {sum(len(held.rows) for held in sampled.values()):,} of {n_stored:,} users")
    starts = {place: at for place, at in (await start_offsets_async(settings, [topic])).items() if place[1] in sampled}
    log_ends = await end_offsets_async(settings, [topic])
    ends: dict[Place, int] = {}
    for partition, held in sampled.items():
        wanted, there = held.watermark.last_applied_offset + 1, log_ends[topic, partition]
        if wanted > there:
            differences.append(f"partition {partition}: the state is at offset {wanted - 1}, and the log ends at {there}: it lost records")
        if held.rows:
            ends[topic, partition] = min(wanted, there)
    folds = {partition: HistoryFold(settings, held.rows, partition) for partition, held in sampled.items() if held.rows}
    n_events = await _fold(settings, {place: starts[place] for place in ends}, ends, folds, say)
    for partition, fold in folds.items():
        from_start = starts[topic, partition] == 0
        for user_id, packed in sampled[partition].rows.items():
            line = difference(fold.histories[user_id], packed, names, from_start=from_start)
            if line is not None:
                differences.append(f"partition {partition}, user {user_digest(user_id)}: {line}")
    return Verification(
        store.generation,
        sum(len(held.rows) for held in sampled.values()),
        n_stored,
        n_events,
        time.monotonic() - started_s,
        any(starts[place] > 0 for place in ends),
        differences,
    )


async def _users_of_log(settings: Settings, n_users: int, seed: int) -> dict[int, list[str]]:
    """Users named by records at random places of the log, by partition; about `n_users` in all."""
    topic, chance = settings.topics.events, random.Random(seed)
    starts, ends = await start_offsets_async(settings, [topic]), await end_offsets_async(settings, [topic])
    filled = {place: (start, ends[place]) for place, start in starts.items() if ends[place] > start}
    most = -(-n_users // max(len(filled) * LOOKS, 1))
    found: dict[int, list[str]] = {}
    for _ in range(LOOKS if n_users and filled else 0):
        waiting = {place: chance.randrange(start, end) for place, (start, end) in filled.items()}
        async with LogReader(settings, waiting, max_records=READ_AT_ONCE) as reader:
            for _ in range(LOOK_POLLS):
                for place, records in (await reader.poll()).items():
                    if waiting.pop(place, None) is not None:
                        keys = list(dict.fromkeys(record.key for record in records if record.key))
                        chosen = chance.sample(keys, min(most, len(keys)))
                        found.setdefault(place[1], []).extend(key.decode(errors="replace") for key in chosen)
                if not waiting:
                    break
    return found


async def _sample(store: StateStore, partitions: range, n_users: int, seed: int) -> tuple[dict[int, list[str]], int]:
    """The users with the smallest hashes of seed and id: the same users for the same seed, in whatever order they are met."""
    chosen: dict[tuple[int, str], None] = {}
    heap: list[tuple[int, int, str]] = []
    n_stored = 0
    for partition in partitions:
        async for user_id in store.scan_users(partition):
            n_stored += 1
            if not n_users or (partition, user_id) in chosen:
                continue
            entry = (-xxhash.xxh3_64_intdigest(f"{seed}/{partition}/{user_id}".encode()), partition, user_id)
            chosen[partition, user_id] = None
            if len(heap) < n_users:
                heapq.heappush(heap, entry)
            else:
                _, p, u = heapq.heappushpop(heap, entry)
                del chosen[p, u]
    sample: dict[int, list[str]] = {}
    for partition, user_id in chosen:
        sample.setdefault(partition, []).append(user_id)
    return sample, n_stored


async def _group_differences(settings: Settings, store: StateStore, sampled: dict[int, _Sampled], idle: bool) -> list[str]:
    """Groups are written before the users of a batch, so they are at or beyond the users' watermark that was read before."""
    differences = []
    for group in range(settings.state.item_groups):
        held = await store.group_watermarks(group)
        for partition, users in sampled.items():
            theirs = held.get(partition)
            last, wanted = -1 if theirs is None else theirs.last_applied_offset, users.watermark.last_applied_offset
            if theirs is not None and theirs.topic_id != users.watermark.topic_id:
                differences.append(f"item group {group} follows another topic in partition {partition} than the users do")
            elif last < wanted or (idle and last != wanted):
                where = "has no watermark" if theirs is None else f"is at offset {last}"
                differences.append(f"item group {group} {where} in partition {partition}, the users are at {wanted}: it lost state")
    return differences


async def _fold(settings: Settings, starts: dict[Place, int], ends: dict[Place, int], folds: dict[int, HistoryFold], say: Say) -> int:
    """Feed the log between starts and ends to the folds; how many records it had."""
    n_events, said_s = 0, time.monotonic()
    if not ends:
        return 0
    async with LogReader(settings, starts, max_records=READ_AT_ONCE) as reader:
        async for found in reader.until(ends):
            for place, records in found.items():
                kept = [source_record(record) for record in records if record.offset < ends[place]]
                folds[place[1]].take(kept)
                n_events += len(kept)
            if time.monotonic() - said_s > PROGRESS_S:
                said_s = time.monotonic()
                say(f"checked {n_events:,} records, {reader.left(ends):,} are left")
    return n_events
