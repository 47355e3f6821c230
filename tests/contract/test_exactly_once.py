"""Whatever the cuts, crashes and zombies, each offset counts once: the state equals a plain fold over the log."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.state import item_row
from recsys.state.batch_delta import RowId
from tests.contract.conftest import LAYOUT, redis_settings
from tests.memory_store import MemoryStore
from workers.redis.store import RedisStore
from workers.state.port import ApplyStatus, Compaction, GroupDeltas, Range, StateStore, UserCommit

TOPIC = "topic"
N_GROUPS, N_PARTITIONS = LAYOUT.item_groups, 2
Event = tuple[int, RowId, int, int]
"""Group, row, neighbour and weight that one offset adds. One offset in five does not exist, as after compaction or a transaction."""


def log(partition: int, first: int, last: int) -> list[tuple[int, Event]]:
    """The events of a partition at `first`..`last`: what they add depends on the offset alone."""
    existing = [at for at in range(first, last + 1) if (at * 7 + partition) % 5]
    return [(at, ((at + partition) % N_GROUPS, ("c", at % 2, at % 4), at % 3, at + 1)) for at in existing]


def pack(group: int, ranges: list[Range]) -> GroupDeltas:
    """Pre-summed deltas of one group for ranges."""
    added: Counter[tuple[RowId, int]] = Counter()
    for source in ranges:
        for _, (of_group, row_id, neighbour, weight) in log(source.partition, source.first, source.last):
            if of_group == group:
                added[row_id, neighbour] += weight
    row_ids = sorted({row_id for row_id, _ in added})
    bodies = [b"".join(item_row.pack_records([key], [units]) for (row, key), units in added.items() if row == row_id) for row_id in row_ids]
    ends = np.cumsum([len(body) for body in bodies]).astype("<u4").tobytes() if bodies else b""
    return GroupDeltas(group, row_ids, ends, b"".join(bodies))


@dataclass
class Step:
    """One batch of one of two workers that both believe they own everything. A worker that crashes reads the watermarks again."""

    worker: int
    sizes: list[int]
    groups: set[int]
    """Item groups reached before a crash; all of them: no crash."""
    commits: bool
    rewind: int
    """How much further back than the watermark the log is read again."""
    compacts: bool


STEPS = st.lists(
    st.builds(
        Step,
        worker=st.integers(0, 1),
        sizes=st.lists(st.integers(0, 6), min_size=N_PARTITIONS, max_size=N_PARTITIONS),
        groups=st.sets(st.integers(0, N_GROUPS - 1)) | st.just(set(range(N_GROUPS))),
        commits=st.booleans(),
        rewind=st.integers(0, 4),
        compacts=st.booleans(),
    ),
    max_size=25,
)


@dataclass
class Worker:
    store: StateStore
    held: list[int] | None = None
    """Last applied offset of each partition as this worker believes; None: read it first."""
    counts: dict[int, int] = field(default_factory=dict)

    async def batch(self, step: Step) -> None:
        if self.held is None:
            found = await self.store.watermarks(range(N_PARTITIONS))
            self.held = [-1 if (watermark := found[p]) is None else watermark.last_applied_offset for p in range(N_PARTITIONS)]
        held, ranges = self.held, []
        for partition, (last_applied, size) in enumerate(zip(held, step.sizes, strict=True)):
            read_from = max(0, last_applied + 1 - step.rewind)
            offsets = [at for at, _ in log(partition, read_from, last_applied + size) if at > last_applied]
            if offsets:
                ranges.append(Range(partition, TOPIC, last_applied, offsets[0], offsets[-1]))
        if not ranges:
            return
        for result in await self.store.apply_items(ranges, [pack(group, ranges) for group in sorted(step.groups)]):
            assert result.status in (ApplyStatus.APPLIED, ApplyStatus.SKIPPED, ApplyStatus.STRADDLED)
            if result.status is ApplyStatus.STRADDLED:
                await self.recut(result.group, ranges, {p: w.last_applied_offset if w else -1 for p, w in result.watermarks.items()})
        if step.compacts:
            await self.compact(min(step.groups, default=0))
        if len(step.groups) < N_GROUPS or not step.commits:
            self.held = None  # crashed
            return
        commits = []
        for source in ranges:
            key = f"u{source.partition}"
            count = int((await self.store.read_users(source.partition, [key]))[0] or b"0")
            count += len(log(source.partition, source.first, source.last))
            commits.append(UserCommit(source.partition, TOPIC, source.base, source.last, {key: b"%d" % count}))
        for commit in await self.store.commit_users(commits):
            if not commit.committed:
                self.held = None  # fenced
            elif self.held is not None:
                held[commit.partition] = commit.current.last_applied_offset if commit.current else -1

    async def recut(self, group: int, ranges: list[Range], applied: dict[int, int]) -> None:
        rest = []
        for source in ranges:
            offsets = [at for at, _ in log(source.partition, source.first, source.last) if at > applied[source.partition]]
            if offsets:
                rest.append(source._replace(base=max(source.base, applied[source.partition]), first=offsets[0]))
        answer = await self.store.apply_items(rest, [pack(group, rest)])
        assert answer[0].status is ApplyStatus.APPLIED

    async def compact(self, group: int) -> None:
        row_ids: list[RowId] = [("c", epoch, number) for epoch in range(2) for number in range(4)]
        found = await self.store.read_rows([(group, row_id) for row_id in row_ids])
        plans = [
            Compaction(row_id, item_row.parse_row(row).generation, len(row), item_row.compact(row, 100))
            for row_id, row in zip(row_ids, found, strict=True)
            if row
        ]
        await self.store.compact_rows(group, plans)


async def check(store: StateStore, steps: list[Step]) -> None:
    await store.open(LAYOUT)
    workers = [Worker(store), Worker(store)]
    for step in steps:
        await workers[step.worker].batch(step)
    drain = Step(0, [9, 9], set(range(N_GROUPS)), True, 0, False)
    await Worker(store).batch(drain)

    watermarks = await store.watermarks(range(N_PARTITIONS))
    lasts = [watermark.last_applied_offset if watermark else -1 for watermark in watermarks.values()]
    expected: dict[tuple[int, RowId], Counter[int]] = {}
    for partition, last in enumerate(lasts):
        events = log(partition, 0, last)
        assert await store.read_users(partition, [f"u{partition}"]) == [b"%d" % len(events)]
        for _, (group, row_id, neighbour, weight) in events:
            expected.setdefault((group, row_id), Counter())[neighbour] += weight
    for group in range(N_GROUPS):
        found = await store.group_watermarks(group)
        assert [found[partition].last_applied_offset for partition in range(N_PARTITIONS)] == lasts
    addresses = [(group, row_id) for group in range(N_GROUPS) for row_id in [("c", e, n) for e in range(2) for n in range(4)]]
    for address, row in zip(addresses, await store.read_rows(addresses), strict=True):
        keys, sums = item_row.sum_records(*item_row.parse_row(row)[2:]) if row else (np.empty(0), np.empty(0))
        assert dict(zip(keys.tolist(), sums.tolist(), strict=True)) == dict(expected.get(address, {}))
    await store.close()


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_replay_with_other_cuts_crashes_and_zombies_leaves_the_fold_of_the_log(steps: list[Step]) -> None:
    asyncio.run(check(MemoryStore(), steps))


@given(STEPS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_on_redis_replay_with_other_cuts_crashes_and_zombies_leaves_the_fold_of_the_log(redis_url: str, steps: list[Step]) -> None:
    asyncio.run(check(RedisStore(redis_settings(redis_url)), steps))
