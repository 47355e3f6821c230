"""For any order of records, crashes, replays and rebuilds, merges mean what plain Python says, and the newest lists follow it."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from schemas import Item
from tests.builders import DAY_MS, NOW_S, START_MS, TOPIC_ID, FailingStore, Fault, opened_pipeline, put_items, records_of, small_settings
from tests.fold import Fact, Log, fold, read_state
from tests.fresh import fresh_lists
from tests.memory_store import MemoryStore
from tests.merging import end_of, merge_differences
from workers.errors import Fenced, Transient
from workers.kafka.partitioner import partition_for
from workers.kafka.records import Record
from workers.redis.store import RedisStore
from workers.settings import RedisSettings
from workers.state.merged_users import Owner
from workers.state.port import StateStore
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.outcome import Deferred
from workers.stream.pipeline import Pipeline
from workers.stream.reference_topics import Intake

SETTINGS = small_settings(topics={"wrong_partition": "dead_letter"})
PARTITIONS = SETTINGS.topics.partitions
EXAMPLES = max(20, settings().max_examples // 8)
IDS = ("u0", "u5", "u1", "u11", "u2", "u15")
"""Three in each partition."""
ITEMS = tuple(f"i{number}" for number in range(12))


def owner(user_id: str) -> Owner:
    return partition_for(user_id.encode(), PARTITIONS), user_id


def events_of(seed: int, n_events: int) -> dict[int, list[Fact | None]]:
    """Return a log of all ids, each in its partition."""
    chance, log, at_ms = random.Random(seed), dict[int, list[Fact | None]]({p: [] for p in range(PARTITIONS)}), START_MS
    for number in range(n_events):
        at_ms += chance.choice((0, 1_000, 60_000, DAY_MS // 3))
        user_id, kind = chance.choice(IDS), chance.choice(("view", "play", "purchase", "dislike"))
        log[owner(user_id)[0]].append(Fact(user_id, chance.choice(ITEMS), f"e{number}", kind, None, at_ms))
    return log


@dataclass
class Users:
    """The users topic: records in the order in which they were published, and by partition."""

    records: dict[int, list[Record]] = field(default_factory=lambda: {p: [] for p in range(PARTITIONS)})
    n: int = 0

    def publish(self, user_id: str, fields: Mapping[str, Any] | None) -> None:
        partition, value = owner(user_id)[0], None if fields is None else orjson.dumps({"user_id": user_id, **fields})
        self.n += 1
        own = self.records[partition]
        own.append(Record("users", partition, len(own), user_id.encode(), value, START_MS + self.n))

    def newest(self) -> dict[str, Record]:
        """Return the newest record of each id, as compaction leaves them."""
        return {(record.key or b"").decode(): record for own in self.records.values() for record in own}

    def merges(self) -> dict[str, tuple[str, int]]:
        """Return ended id ▸ the id that its newest record names, and that record's time."""
        found = {}
        for user_id, record in self.newest().items():
            fields = orjson.loads(record.value or b"{}")
            if "merged_into" in fields:
                found[user_id] = fields["merged_into"], record.source_timestamp_ms
        return found


@dataclass(frozen=True)
class Step:
    """What one of two workers does next, and which of its calls of the store fail."""

    kind: str = "events"
    worker: int = 0
    size: int = 8
    rewind: int = 0
    partitions: Sequence[int] = range(PARTITIONS)
    """Whose events are applied."""
    faults: Sequence[Fault | None] = ()


RECORDS = st.lists(st.tuples(st.sampled_from(IDS), st.sampled_from((None, "", *IDS))), max_size=8)
"""(id, the id that it goes on as); None: a tombstone, empty: a profile."""
STEPS = st.lists(
    st.builds(
        Step,
        kind=st.sampled_from(("events", "events", "users", "users", "again", "lists", "lists", "follow", "restart")),
        worker=st.integers(0, 1),
        size=st.integers(1, 30),
        rewind=st.integers(0, 5),
        partitions=st.sampled_from([range(PARTITIONS), (0,), (1,)]),
        faults=st.just(()) | st.lists(st.sampled_from([None, None, None, Fault.BEFORE, Fault.AFTER]), max_size=8),
    ),
    max_size=16,
)


@dataclass
class World:
    """Two workers that both believe they own everything, the topics that they read, and what they publish."""

    store: StateStore
    log: Log
    users: Users
    lists: dict[str, list[dict[str, float] | None]] = field(default_factory=dict)
    committed: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(PARTITIONS), 0))
    """What a worker has published the lists of, of the events topic."""
    read: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(PARTITIONS), 0))
    """How far records of users were taken in."""
    workers: dict[int, tuple[FailingStore, Pipeline, Intake]] = field(default_factory=dict)
    unsettled: dict[int, list[tuple[int, Deferred]]] = field(default_factory=dict)
    """Lists that a worker has made and not yet published, with their partitions."""

    async def worker(self, number: int, faults: Sequence[Fault | None] = ()) -> tuple[Pipeline, Intake]:
        if number not in self.workers:
            store = FailingStore(self.store)
            pipeline = await opened_pipeline(store, SETTINGS)  # type: ignore[arg-type]
            follower = CatalogueFollower(pipeline.state)
            intake = Intake(SETTINGS, pipeline.state, pipeline.lists, follower, wall_clock=lambda: NOW_S)
            await follower.follow()
            self.workers[number] = store, pipeline, intake
        store, pipeline, intake = self.workers[number]
        store.faults.clear()
        await pipeline.state.follow_event_time()
        store.faults.extend(faults)
        return pipeline, intake

    def publish(self, records: Sequence[tuple[bytes, bytes | None]]) -> None:
        for key, value in records:
            made = None if value is None else {item["item_id"]: item["score"] for item in orjson.loads(value)["items"]}
            self.lists.setdefault(key.decode(), []).append(made)

    async def do(self, step: Step) -> None:
        """Do a step. A step that fails leaves the worker as one that starts over."""
        try:
            await self._do(step)
        except (Transient, Fenced):
            self._die(step.worker)

    def _die(self, worker: int) -> None:
        self.workers.pop(worker, None)
        self.unsettled.pop(worker, None)

    async def _do(self, step: Step) -> None:
        if step.kind == "restart":
            self._die(step.worker)
            return
        pipeline, intake = await self.worker(step.worker, step.faults)
        if step.kind == "follow":
            await pipeline.merges.follow(range(PARTITIONS))
        elif step.kind in ("users", "again"):
            for partition, records in self.users.records.items():
                start = max(0, self.read[partition] - step.rewind)
                some = records[start : self.read[partition] + step.size]
                lists, dead = await intake.users(some, first_lists=step.kind == "users", are_new=step.kind == "users")
                assert {letter.source_offset for letter in dead} == {r.source_offset for r in some if _names_itself(r)}
                self.publish([(key, record) for _, key, record in lists])
                if step.kind == "users":
                    self.read[partition] = max(self.read[partition], start + len(some))
        else:
            await self._with_partitions(pipeline, step)

    async def _publish_made(self, pipeline: Pipeline, worker: int) -> None:
        for partition, deferred in self.unsettled.pop(worker, []):
            self.publish(deferred.records)
            await pipeline.settle_deferred(partition, deferred)

    async def _with_partitions(self, pipeline: Pipeline, step: Step) -> None:
        await self._publish_made(pipeline, step.worker)  # one thing after the other, as the service does
        places = await pipeline.assign(range(PARTITIONS), TOPIC_ID)
        if step.kind == "lists":
            for partition in range(PARTITIONS):
                if (deferred := await pipeline.deferred_lists(partition, step.size)) is not None:
                    self.unsettled.setdefault(step.worker, []).append((partition, deferred))
            if step.size % 2:
                await self._publish_made(pipeline, step.worker)
            return
        starts = {p: max(0, min(self.committed[p], places[p]) - step.rewind) for p in self.log}
        starts = {p: at for p, at in starts.items() if p in step.partitions}
        batch = {p: some for p, at in starts.items() if (some := records_of(self.log[p])[at : at + step.size + step.rewind])}
        if batch:
            done = await pipeline.process(batch, defer_lists=step.size % 5 == 0)
            for records in done.lists.values():
                self.publish(records)
            for partition, at in done.next_offsets.items():
                self.committed[partition] = max(self.committed[partition], at)

    async def drain(self) -> None:
        """Read all that is left, without faults, until nobody waits for a list."""
        for kind in ("users", "users", "events", "events"):
            await self.do(Step(kind, size=999))
        for _ in range(60):
            await self.do(Step("lists", size=99))
            if not any(work.n_waiting for work in (await self.store.list_work(range(PARTITIONS))).values()):
                return
        raise AssertionError("somebody waits for a list for ever")


def _names_itself(record: Record) -> bool:
    return orjson.loads(record.value or b"{}").get("merged_into") == (record.key or b"").decode()


async def check_lists(world: World, merges: Mapping[str, tuple[str, int]]) -> None:
    """Check that the newest list of each id is what a fresh process makes, and that of an ended one is removed."""
    going_on = [user_id for user_id in IDS if end_of(user_id, merges) == user_id and world.lists.get(user_id)]
    fresh = await fresh_lists(SETTINGS, world.store, [owner(user_id) for user_id in going_on]) if going_on else {}
    for user_id in IDS:
        newest = world.lists.get(user_id, [None])[-1]
        if end_of(user_id, merges) != user_id:
            assert newest is None, f"{user_id} has ended"
    assert all(world.lists[user_id][-1] is not None and set(world.lists[user_id][-1] or ()) == set(fresh[user_id]) for user_id in going_on)


async def check(store: StateStore, seed: int, n_events: int, records: Sequence[tuple[str, str | None]], steps: Sequence[Step]) -> None:
    users, log = Users(), events_of(seed, n_events)
    for user_id, into in records:
        users.publish(user_id, None if into is None else {"merged_into": into} if into else {"preferred_categories": ["c"]})
    world = World(store, log, users)
    pipeline = await opened_pipeline(store, SETTINGS)
    await put_items(pipeline, 0, *(Item(item_id=item_id, categories=("c",)) for item_id in ITEMS))
    for step in steps:
        await world.do(step)
    await world.drain()
    readable = Users({p: [r for r in own if not _names_itself(r)] for p, own in users.records.items()})
    expected, merges = fold(log, SETTINGS), readable.merges()
    assert await read_state(store, SETTINGS, expected) == expected, "merges change no row of any id"
    assert await merge_differences(store, SETTINGS, expected, merges, IDS) == []
    await check_lists(world, merges)
    rebuilt = MemoryStore()
    pipeline = await opened_pipeline(rebuilt, SETTINGS, ranks=False)
    intake = Intake(SETTINGS, pipeline.state, pipeline.lists, CatalogueFollower(pipeline.state))
    for record in sorted(readable.newest().values(), key=lambda record: (-record.partition, record.source_offset)):
        await intake.users([record], first_lists=False, are_new=False)
    await pipeline.assign(range(PARTITIONS), TOPIC_ID)
    await pipeline.process({p: records_of(facts) for p, facts in log.items() if facts})
    assert await merge_differences(rebuilt, SETTINGS, expected, merges, IDS) == []
    assert not any(work.n_waiting for work in (await rebuilt.list_work(range(PARTITIONS))).values()), "a rebuild asks for no lists"


CHAIN = [("u0", "u5"), ("u5", "u1"), ("u11", "u1")]
CIRCLE = [("u0", "u5"), ("u5", "u0"), ("u1", "u0")]
CHANGED = [("u0", "u5"), ("u0", "u1"), ("u1", "u0"), ("u1", ""), ("u11", "u11"), ("u2", "u15"), ("u2", None)]
EVERYTHING = [Step(kind, number % 2, 9) for number in range(3) for kind in ("events", "users", "follow", "events", "lists")]


LATE = [
    *(Step("users", size=9), Step("events", size=2), Step("events", size=99, partitions=(0,)), Step("follow"), Step("follow", 1)),
    *(Step("lists", size=99), Step("lists", size=99), Step("lists", size=99), Step("lists", size=98)),
    *(Step("events", 1, 3, partitions=(1,)), Step("lists", size=98), Step("events", 1, 99, partitions=(1,)), Step("lists", size=99)),
]
"""A worker makes lists; before it publishes them, another one applies events of other ids that count for them."""


@given(seed=st.integers(0, 2**32), n_events=st.integers(0, 60), records=RECORDS, steps=STEPS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(seed=1, n_events=60, records=CHAIN, steps=EVERYTHING)
@example(seed=1, n_events=60, records=CHAIN, steps=LATE)
@example(seed=2, n_events=60, records=CIRCLE, steps=EVERYTHING)
@example(seed=3, n_events=60, records=CHANGED, steps=EVERYTHING)
@example(seed=3, n_events=60, records=CHANGED, steps=[Step("users", size=2, faults=[None] * at + [Fault.AFTER]) for at in range(9)])
def test_whatever_breaks_merges_mean_what_plain_python_says(
    seed: int, n_events: int, records: list[tuple[str, str | None]], steps: list[Step]
) -> None:
    asyncio.run(check(MemoryStore(), seed, n_events, records, steps))


@given(seed=st.integers(0, 2**32), n_events=st.integers(0, 40), records=RECORDS, steps=STEPS)
@settings(max_examples=EXAMPLES // 5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(seed=3, n_events=40, records=CHANGED, steps=EVERYTHING)
@example(seed=1, n_events=60, records=CHAIN, steps=LATE)
def test_on_redis_merges_mean_what_plain_python_says(
    redis_url: str, seed: int, n_events: int, records: list[tuple[str, str | None]], steps: list[Step]
) -> None:
    async def on_redis() -> None:
        store = RedisStore(RedisSettings(url=SecretStr(redis_url), namespace=f"t{secrets.token_hex(6)}"))
        try:
            await check(store, seed, n_events, records, steps)
        finally:
            await store.close()

    asyncio.run(on_redis())
