"""For any batch sizes, crashes, replays and zombies, the state equals the fold over the log, and a worker's memory equals the state."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

import workers.stream.pipeline
from recsys.state.half_lives import HALF_LIVES_S, NAMED_HALF_LIVES_S, WINDOWS_S
from recsys.state.item_row import WEIGHT_ONE
from recsys.state.popularity import Popularity
from tests.builders import NOW_S, TOPIC_ID, FailingStore, Fault, opened_pipeline, random_log, records_of, small_settings
from tests.fold import Log, State, counted, fold, read_state
from tests.memory_store import MemoryStore
from workers.errors import Fenced, Transient, WorkerError
from workers.redis.store import RedisStore
from workers.settings import RedisSettings, Settings
from workers.state import port as store_port
from workers.state.port import GroupDeltas, GroupResult, Range, StateStore, UserCommit
from workers.stream.micro_batch import DecodedBatch
from workers.stream.pipeline import Pipeline
from workers.stream.row_expiry import RowExpiry
from workers.stream.state_writer import StateWriter

SETTINGS = small_settings(state={"shown_items": 4})
"""Few items that were shown are kept, so that some leave."""
EXAMPLES = max(100, settings().max_examples)
"""200 in CI, 2,000 in the nightly profile; on Redis a tenth of that."""
LATER_S = NOW_S + 400 * 86_400
"""The second worker's clock: what lies in the future for the first is long past for it."""

ERASURES = st.sampled_from([0.0, 0.05])
"""Share of the records that erases a user."""


@dataclass
class Step:
    """One batch of one of two workers that both believe that they own every partition."""

    worker: int = 0
    sizes: tuple[int, int] = (8, 8)
    faults: Sequence[Fault | None] = ()
    restarts: bool = False
    """The worker is a new process: nothing is cached."""
    reassigns: bool = False
    rewind: int = 0
    """How far behind its place the worker reads the log again."""
    compacts: bool = False
    sweeps: bool = False


STEPS = st.lists(
    st.builds(
        Step,
        worker=st.integers(0, 1),
        sizes=st.tuples(st.integers(0, 40), st.integers(0, 40)),
        faults=st.just(()) | st.lists(st.sampled_from([None, None, None, None, *Fault]), max_size=8),
        restarts=st.sampled_from([False, False, False, True]),
        reassigns=st.sampled_from([False, False, True]),
        rewind=st.integers(0, 12),
        compacts=st.booleans(),
        sweeps=st.sampled_from([False, False, True]),
    ),
    max_size=14,
)


@dataclass
class Worker:
    """A pipeline and its position in the log. After any error it takes its partitions again, as the service does."""

    store: FailingStore
    settings: Settings
    now_s: float = NOW_S
    pipeline: Pipeline | None = None
    places: dict[int, int] = field(default_factory=dict)
    owns: bool = False

    async def own(self) -> Pipeline:
        if self.pipeline is None:
            held, self.store.faults = self.store.faults, type(self.store.faults)()
            self.pipeline = await opened_pipeline(self.store, self.settings, now_s=self.now_s)
            self.store.faults = held
        if not self.owns:
            self.places = await self.pipeline.assign(range(self.settings.topics.partitions), TOPIC_ID)
            self.owns = True
        return self.pipeline

    async def batch(self, step: Step, log: Log) -> None:
        self.store.faults.clear()
        self.store.faults.extend(step.faults)
        if step.restarts:
            self.pipeline, self.owns = None, False
        self.owns = self.owns and not step.reassigns
        try:
            pipeline = await self.own()
            batch = {}
            for partition, size in enumerate(step.sizes):
                start = max(0, self.places[partition] - step.rewind)
                records = records_of(log[partition])[start : self.places[partition] + size]
                if records:
                    batch[partition] = records
            if batch:
                self.places |= (await pipeline.process(batch)).next_offsets
            if step.compacts:
                await pipeline.state.compact_rows()
            if step.sweeps:
                await RowExpiry(self.settings, clock=lambda: self.now_s, pause_s=0.0).look(self.store, pipeline.state.item_cache.newest_s)
        except (Transient, Fenced):
            self.owns = False

    async def drain(self, log: Log) -> Pipeline:
        """Apply the rest of the log without faults."""
        self.store.faults.clear()
        self.owns = False
        pipeline = await self.own()
        batch = {p: records for p in log if (records := records_of(log[p])[self.places[p] :])}
        if batch:
            await pipeline.process(batch)
        return pipeline


async def run(store: StateStore, config: Settings, log: Log, steps: Sequence[Step]) -> tuple[list[Worker], State, State]:
    """Run all steps; return the workers, the stored state and the expected state."""
    workers = [Worker(FailingStore(store), config), Worker(FailingStore(store), config, LATER_S)]
    for step in steps:
        await workers[step.worker].batch(step, log)
    for worker in workers:
        await worker.drain(log)
    expected = fold(log, config)
    return workers, await read_state(store, config, expected), expected


def assert_equal(found: State, expected: State, config: Settings, log: Log, steps: Sequence[Step]) -> None:
    """Check that both states are equal, or equal without expired rows."""
    if any(step.sweeps for step in steps):
        found, expected = counted(found, config, log), counted(expected, config, log)
    assert found == expected


async def check(store: StateStore, config: Settings, log: Log, steps: Sequence[Step]) -> None:
    workers, found, expected = await run(store, config, log, steps)
    assert_equal(found, expected, config, log, steps)
    for worker in workers:
        assert worker.pipeline is not None
        await check_mirror(worker.pipeline, expected)
    await check_mirror(await opened_pipeline(store, config), expected)


async def check_mirror(pipeline: Pipeline, expected: State) -> None:
    """Check that the engine's sums equal the fold's, decayed to the newest epoch, exactly: all are whole 64ths, halved."""
    kept_s = max((entry.last_s for history in expected.histories.values() for entry in history), default=0)
    mirror, engine, names = pipeline.state.item_cache, pipeline.state.engine, pipeline.state.numbering.names
    await pipeline.state.numbering.catch_up()
    engine.ensure_items(len(names))
    mirror._clock = lambda: float("inf")  # everything held is too old: look at the store again
    await mirror.advance(max(mirror.newest_s, kept_s))
    newest_s = mirror.newest_s
    assert kept_s <= newest_s <= max(expected.event_times.values(), default=0), "that of a user who was erased since may be newer"
    await mirror.refresh(np.arange(engine.n_items, dtype=np.int64))
    number = {name: at for at, name in enumerate(names)}
    neighbours = np.zeros((engine.n_items, engine.n_items))
    newest = {item: max(epoch for epoch, of in expected.cooccurrence if of == item) for _, item in expected.cooccurrence}
    for (epoch, item), sums in expected.cooccurrence.items():
        for other, amount in sums.items():
            neighbours[number[item], number[other]] += amount / WEIGHT_ONE * 0.5 ** (newest[item] - epoch)
    assert (engine.neighbours.rows(np.arange(engine.n_items), engine.n_items) == neighbours).all()
    assert {names[at]: epoch for at, epoch in enumerate(engine.neighbours.epochs[: len(names)].tolist()) if epoch >= 0} == newest
    check_popularity(engine.popularity, expected, number, newest_s)


def check_popularity(popularity: Popularity, expected: State, number: Mapping[str, int], newest_s: int) -> None:
    """Check that the sums of all spans that count are the fold's, and the bank's values those sums halved since the span began."""
    bank = np.zeros((len(HALF_LIVES_S), len(popularity.all_time)))
    for (window, span), sums in expected.popularity.items():
        span_s = 6 * NAMED_HALF_LIVES_S.get(window, 0)
        if span_s and span < newest_s // span_s - 1:
            continue
        units = np.zeros(len(popularity.all_time), np.int64)
        for item, amount in sums.items():
            units[number[item]] = amount
        np.testing.assert_array_equal(popularity.units(window, span), units)
        place = list(WINDOWS_S).index(window) if span_s else -1
        bank[place] += units / WEIGHT_ONE * (0.5 ** ((newest_s - span * span_s) * 6 / span_s) if span_s else 1)
    np.testing.assert_allclose(popularity.bank(), bank, rtol=1e-6)


@given(seed=st.integers(0, 2**32), n_events=st.integers(0, 160), steps=STEPS, erasures=ERASURES)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(seed=4969935, n_events=137, steps=[Step(sizes=(0, 0), sweeps=True)], erasures=0.0)  # the newest event has no weight
@example(seed=14406, n_events=112, steps=[], erasures=0.05)  # the newest event is of a user who was erased
@example(seed=1, n_events=160, steps=[Step(faults=[None] * 9 + [fault]) for fault in Fault] * 3, erasures=0.0)
def test_any_cuts_crashes_replays_and_zombies_leave_the_fold_of_the_log(
    seed: int, n_events: int, steps: list[Step], erasures: float
) -> None:
    asyncio.run(check(MemoryStore(), SETTINGS, random_log(seed, n_events, erasures=erasures), steps))


@given(seed=st.integers(0, 2**32), n_events=st.integers(0, 120), steps=STEPS, erasures=ERASURES)
@settings(max_examples=EXAMPLES // 10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_on_redis_any_cuts_crashes_replays_and_zombies_leave_the_fold_of_the_log(
    redis_url: str, seed: int, n_events: int, steps: list[Step], erasures: float
) -> None:
    async def on_redis() -> None:
        store = RedisStore(RedisSettings(url=SecretStr(redis_url), namespace=f"t{secrets.token_hex(6)}"))
        try:
            await check(store, SETTINGS, random_log(seed, n_events, erasures=erasures), steps)
        finally:
            await store.close()

    asyncio.run(on_redis())


@given(seed=st.integers(0, 2**32), n_events=st.integers(60, 160), steps=STEPS)
@settings(max_examples=EXAMPLES // 2, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(seed=1, n_events=160, steps=[Step(sweeps=True)] * 14)
def test_rows_that_count_are_the_fold_of_the_log_however_often_others_are_deleted(seed: int, n_events: int, steps: list[Step]) -> None:
    log, short = random_log(seed, n_events), small_settings(state={"live_epochs": 1})

    async def swept() -> None:
        store = MemoryStore()
        _, found, expected = await run(store, short, log, [*steps, Step(sweeps=True)])
        assert_equal(found, expected, short, log, [Step(sweeps=True)])
        newest_s = max((entry.last_s for history in fold(log, short).histories.values() for entry in history), default=0)
        await RowExpiry(short, pause_s=0.0).look(store, newest_s)
        oldest = {window: newest_s // span_s - 3 for window, span_s in WINDOWS_S.items()} | {"all": 0}
        rows = [address async for page in store.scan_rows() for address in page]
        for _, (kind, where, number) in rows:
            assert kind == "c" or number >= oldest[str(where)]
        items = [number for _, (kind, _, number) in rows if kind == "c"]
        assert len(items) == len(set(items)), "one epoch of each item counts"

    asyncio.run(swept())


async def test_a_zombie_changes_nothing_that_its_successor_has_applied() -> None:
    store, log = MemoryStore(), random_log(5, 80)
    zombie, successor = Worker(FailingStore(store), SETTINGS), Worker(FailingStore(store), SETTINGS)
    await zombie.batch(Step(sizes=(10, 10)), log)
    await successor.batch(Step(sizes=(99, 99)), log)
    after = await read_state(store, SETTINGS, fold(log, SETTINGS))
    assert zombie.pipeline is not None
    with pytest.raises(Fenced):
        await zombie.pipeline.process({p: records_of(log[p])[10:30] for p in log})
    assert await read_state(store, SETTINGS, fold(log, SETTINGS)) == after == fold(log, SETTINGS)


# Mutations: the comparison above must detect each of these bugs.

FIXED_LOG, GENEROUS = random_log(11, 300, n_items=8), small_settings(state={"user_budget": 1_000, "shown_items": 4})
"""With a small budget many events add nothing, so that they may be lost."""
CRASHES = [
    step
    for calls in range(12)  # every call of a batch fails once: some of its work is done, and the batch after it is longer
    for fault in (Fault.AFTER, Fault.HALF)
    for step in (Step(faults=[None] * calls + [fault], sizes=(2, 2)), Step(sizes=(5, 5), rewind=3))
]


def differs(store: StateStore, log: Log = FIXED_LOG) -> bool:
    """Return True if a run over a log with crashes fails, or ends with a state other than the fold's."""
    with contextlib.suppress(AssertionError, ValueError):
        _, found, expected = asyncio.run(run(store, GENEROUS, log, CRASHES))
        return found != expected
    return True


def test_without_a_mutation_the_fixed_log_gives_the_fold() -> None:
    assert not differs(MemoryStore())


def test_a_worker_that_erases_at_the_end_of_a_batch_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    log = random_log(11, 300, n_items=8, erasures=0.05)
    assert not differs(MemoryStore(), log)
    monkeypatch.setattr(DecodedBatch, "parts", lambda given, settings: [given])
    assert differs(MemoryStore(), log)


def test_a_store_that_ignores_the_groups_watermarks_is_found_out() -> None:
    class Forgetful(MemoryStore):
        def _apply(self, ranges: Sequence[Range], delta: GroupDeltas) -> GroupResult:
            self._group_watermarks.pop(delta.group, None)
            from_nothing = [source._replace(base=-1) for source in ranges]
            return super()._apply(from_nothing, delta)

    assert differs(Forgetful())


def test_a_store_that_ignores_the_users_watermark_is_found_out() -> None:
    class Careless(MemoryStore):
        async def watermarks(self, partitions: Sequence[int]) -> dict[int, store_port.Watermark | None]:
            found = await super().watermarks(partitions)
            return {p: None if w is None else w._replace(last_applied_offset=max(-1, w.last_applied_offset - 1)) for p, w in found.items()}

        def _commit(self, commit: UserCommit) -> store_port.CommitResult:
            current = self._watermarks.get(commit.partition)
            expected = -1 if current is None else current.last_applied_offset
            if expected > commit.new_last:
                return super()._commit(commit)
            moved = UserCommit(commit.partition, commit.topic_id, expected, commit.new_last, commit.rows, commit.duplicate_chunks)
            return super()._commit(moved)

    assert differs(Careless())


def test_a_worker_that_commits_before_it_applies_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hasty(StateWriter):
        async def apply_items(self, *deltas: Any) -> None:
            self.held_back = deltas

        async def commit_users(self, *rows: Any) -> None:
            await super().commit_users(*rows)
            await super().apply_items(*self.held_back)

    class Gapless(MemoryStore):
        """A store that accepts a range after a gap."""

        def _apply(self, ranges: Sequence[Range], delta: GroupDeltas) -> GroupResult:
            return super()._apply([source._replace(base=-1) for source in ranges], delta)

    assert not differs(Gapless())
    monkeypatch.setattr(workers.stream.pipeline, "StateWriter", Hasty)
    assert differs(Gapless())
    with pytest.raises(WorkerError, match=r"lost state|went back"):  # a real store does not even let it go on
        differs(MemoryStore())


def test_a_presummed_range_replayed_with_another_cut_is_found_out_unless_it_is_cut_again() -> None:
    class Lenient(MemoryStore):
        """A store that accepts a range that starts below the watermark."""

        def _apply(self, ranges: Sequence[Range], delta: GroupDeltas) -> GroupResult:
            result = super()._apply(ranges, delta)
            if result.status is store_port.ApplyStatus.STRADDLED:
                held = self._group_watermarks[delta.group]
                for source in ranges:
                    held.pop(source.partition, None)
                result = super()._apply([source._replace(base=-1) for source in ranges], delta)
            return result

    assert differs(Lenient())
