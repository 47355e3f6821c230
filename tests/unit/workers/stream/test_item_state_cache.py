"""What a worker scores with follows what is stored: its own writes at once, those of others soon, and compaction changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from recsys.engine import Engine, EngineConfig
from recsys.state.batch_delta import Delta
from recsys.state.item_row import HEADER_BYTES, RECORD_BYTES, pack_records
from tests.builders import TOPIC_ID, batch_of, opened_pipeline, play, run_log, small_settings
from tests.fold import fold, read_state
from tests.memory_store import MemoryStore
from workers.state.port import GroupDeltas, GroupResult, Layout, Range
from workers.stream.item_state_cache import COMPACT_SLACK_BYTES, OLD_EPOCHS_STALENESS, ItemStateCache

LAYOUT = Layout(partitions=2, item_groups=2, epoch_s=1_000, duplicate_chunk=1_024)
STALENESS_S = 5.0
TOPIC = "topic"


@dataclass
class Clock:
    now_s: float = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class Side:
    """One worker's engine and mirror on a shared store."""

    def __init__(self, store: MemoryStore, clock: Clock, *, live_epochs: int = 4) -> None:
        self.store, self.engine = store, Engine(EngineConfig(item_groups=2, epoch_s=1_000))
        self.mirror = ItemStateCache(
            store, self.engine, live_epochs=live_epochs, max_neighbours=1_000, staleness_s=STALENESS_S, clock=clock
        )
        self.engine.ensure_items(8)
        self.engine.users.load({"u": None})

    async def apply(self, items: list[int], at_s: int, base: int) -> tuple[Delta, list[GroupResult]]:
        """Plays at offsets after `base`, in the store: what they add, and its answers."""
        batch = batch_of([self.engine.users.slot("u") or 0], [len(items)], items, [at_s] * len(items), [32] * len(items))
        delta = self.engine.derive(batch).delta(self.engine.config)
        packed = [GroupDeltas(group, delta.rows_of(group), *delta.packed(group)) for group in range(delta.item_groups)]
        return delta, await self.store.apply_items([Range(0, TOPIC, base, base + 1, base + len(items))], packed)

    async def learn(self, items: list[int], at_s: int, base: int) -> int:
        """Apply plays at offsets after `base`, as the pipeline does; the last offset."""
        await self.mirror.advance(at_s)
        self.mirror.absorb(*await self.apply(items, at_s, base))
        return base + len(items)

    async def apply_unheard(self, items: list[int], at_s: int, base: int) -> None:
        """The same, when it is not known what was applied before."""
        delta, _ = await self.apply(items, at_s, base)
        self.mirror.invalidate(delta)

    async def row(self, number: int) -> list[float]:
        await self.mirror.refresh(np.array([number]))
        return self.engine.neighbours.rows(np.array([number]), 8)[0].tolist()  # type: ignore[no-any-return]


async def opened() -> MemoryStore:
    store = MemoryStore()
    await store.open(LAYOUT)
    return store


async def test_own_writes_are_there_at_once_and_without_reading() -> None:
    store, clock = await opened(), Clock()
    side = Side(store, clock)
    await side.mirror.advance(500)
    assert not any(await side.row(0))

    async def unreadable(*_: object) -> list[None]:
        raise AssertionError("nothing has to be read")

    store.read_rows = store.read_row_tails = unreadable  # type: ignore[method-assign,assignment]
    last = await side.learn([0, 1], 500, -1)
    assert (await side.row(0))[1] == 1.0
    await side.learn([0], 500, last)
    assert side.engine.popularity.all_time[:2].tolist() == [2.0, 1.0]


async def test_rows_asked_for_before_event_time_is_known_are_read_all_the_same() -> None:
    store, clock = await opened(), Clock()
    await Side(store, clock).learn([0, 1], 3_500, -1)
    reader = Side(store, clock)
    assert (await reader.row(0))[1] == 1.0, "the store notes the epochs of an item (X1)"


async def test_what_another_worker_wrote_comes_in_within_the_staleness_bound() -> None:
    store, clock = await opened(), Clock()
    reader, writer = Side(store, clock), Side(store, clock)
    await reader.mirror.advance(500)
    assert not any(await reader.row(0))
    await writer.learn([0, 1], 500, -1)
    clock.now_s += STALENESS_S / 2
    assert not any(await reader.row(0)), "nothing is read before it is due"
    clock.now_s += STALENESS_S
    assert (await reader.row(0))[1] == 1.0
    assert reader.engine.popularity.all_time[:2].tolist() == [1.0, 1.0]


async def test_a_worker_that_is_alone_looks_seldom_and_at_once_when_it_no_longer_is() -> None:
    store, clock = await opened(), Clock()
    reader, writer = Side(store, clock), Side(store, clock)
    reader.mirror.look_again(alone=True)
    await reader.mirror.advance(500)
    assert not any(await reader.row(0))
    last = await writer.learn([0, 1], 500, -1)
    clock.now_s += 5 * STALENESS_S
    assert not any(await reader.row(0)), "nobody else should have written"
    reader.mirror.look_again(alone=False)
    assert (await reader.row(0))[1] == 1.0
    await writer.learn([0, 1], 500, last)
    clock.now_s += 2 * STALENESS_S
    assert (await reader.row(0))[1] == 2.0
    assert reader.engine.popularity.all_time[:2].tolist() == [2.0, 2.0]


async def test_what_two_workers_wrote_to_one_row_is_there_once() -> None:
    store, clock = await opened(), Clock()
    one, other = Side(store, clock), Side(store, clock)
    last = await one.learn([0, 1], 500, -1)
    last = await other.learn([0, 1], 500, last)
    await one.learn([0, 1], 500, last)
    clock.now_s += 2 * STALENESS_S
    fresh = Side(store, clock)
    await fresh.mirror.advance(500)
    expected = await fresh.row(0)
    assert expected[1] > 2.0
    assert await one.row(0) == await other.row(0) == expected
    for side in (one, other, fresh):
        assert side.engine.popularity.all_time[:2].tolist() == [3.0, 3.0]


async def test_what_comes_late_to_a_past_epoch_is_found_in_the_end() -> None:
    store, clock = await opened(), Clock()
    reader, writer = Side(store, clock), Side(store, clock)
    await reader.mirror.advance(3_500)
    assert not any(await reader.row(0))
    await writer.learn([0, 1], 1_500, -1)  # two epochs before
    clock.now_s += 2 * STALENESS_S
    assert not any(await reader.row(0))
    clock.now_s += OLD_EPOCHS_STALENESS * STALENESS_S
    assert (await reader.row(0))[1] == 1.0


async def test_epochs_that_passed_between_two_looks_are_looked_at() -> None:
    store, clock = await opened(), Clock()
    reader, writer = Side(store, clock), Side(store, clock)
    await reader.mirror.advance(500)
    assert not any(await reader.row(0))
    last = await writer.learn([0, 1], 900, -1)
    await writer.learn([0, 1], 1_500, last)
    await reader.mirror.advance(3_500)  # epochs 0 and 1 are past the newest two by now
    clock.now_s += 2 * STALENESS_S
    fresh = Side(store, clock)
    await fresh.mirror.advance(3_500)
    expected = await fresh.row(0)
    assert expected[1] > 1.0
    assert await reader.row(0) == pytest.approx(expected)


async def test_a_row_of_a_past_epoch_that_came_into_being_unheard_is_read_before_use() -> None:
    store, clock = await opened(), Clock()
    side, fresh = Side(store, clock), Side(store, clock)
    last = await side.learn([0, 1], 3_500, -1)
    before = await side.row(0)
    await side.apply_unheard([0, 1], 500, last)
    after = await side.row(0)
    await fresh.mirror.advance(3_500)
    assert after == await fresh.row(0) != before


async def applied(side: Side, epochs: list[int], last: int = -1) -> int:
    """Play 0 and 1 once in each of these epochs; the last offset."""
    for epoch in epochs:
        last = await side.learn([0, 1], 1_000 * epoch + 500, last)
    return last


async def same_as_fresh(side: Side, newest_s: int) -> list[float]:
    """Check that a worker that starts now holds the same row and the same popularity; the row."""
    fresh = Side(side.store, Clock(), live_epochs=side.mirror._live_epochs)
    await fresh.mirror.advance(newest_s)
    row = await side.row(0)
    assert row == await fresh.row(0)
    assert side.engine.neighbours.epochs[0] == fresh.engine.neighbours.epochs[0]
    np.testing.assert_array_equal(side.engine.popularity.bank(), fresh.engine.popularity.bank())
    return row


@pytest.mark.parametrize("moved", [0, 1, 5, 20])
async def test_a_running_worker_holds_what_a_restarted_one_reads_however_far_event_time_moved(moved: int) -> None:
    """C07: rows of old epochs stay in both, popularity expires for both."""
    store, clock = await opened(), Clock()
    side, other = Side(store, clock), Side(store, clock)
    last = await applied(side, [0, 1, 2])
    before = await side.row(0)
    newest_s = 1_000 * (2 + moved) + 900
    await side.mirror.advance(newest_s)
    assert await same_as_fresh(side, newest_s) == before, "time alone changes no row"
    last = await other.learn([2, 3], newest_s, last)
    clock.now_s += 100 * STALENESS_S
    assert await same_as_fresh(side, newest_s) == before, "nor do pairs of other items"
    await side.learn([0, 2], newest_s, last)
    after = await same_as_fresh(side, newest_s)
    assert after[1] >= before[1] * 0.5**moved and after[2] == 1.0 and (moved == 0 or after[2] > after[1])


async def test_the_newest_epochs_that_an_item_has_count_and_a_running_worker_drops_the_others_too() -> None:
    store, clock = await opened(), Clock()
    side = Side(store, clock, live_epochs=2)
    last = await applied(side, [0, 7])
    assert (await side.row(0))[1] == pytest.approx(1.0 + 0.5**7, rel=0.5)
    both = await same_as_fresh(side, 7_500)
    last = await applied(side, [9], last)
    row = await same_as_fresh(side, 9_500)
    assert row[1] == pytest.approx(both[1] - 0.5**7 + 0.25, rel=0.5) and side.mirror._held.get((0, ("c", 0, 0))) is None
    last = await side.learn([0, 1], 3_500, last)  # late, in an epoch with two newer ones
    assert await same_as_fresh(side, 9_500) == row
    await side.apply_unheard([0, 1], 500, last)
    assert await same_as_fresh(side, 9_500) == row
    assert await store.item_epochs([0]) == [[0, 3, 7, 9]]


@pytest.mark.parametrize("dense_items", [8_192, 1])
async def test_an_item_with_many_epochs_is_held_as_it_is_stored(dense_items: int) -> None:
    store, clock = await opened(), Clock()
    side = Side(store, clock, live_epochs=32)
    side.engine.config = replace(side.engine.config, dense_items=dense_items)
    side.engine.ensure_items(9)
    random = np.random.default_rng(5)
    last = -1
    for epoch in random.permutation(200)[:80].tolist():
        last = await applied(side, [epoch], last)
        if epoch % 7 == 0:
            await same_as_fresh(side, side.mirror.newest_s)
    await same_as_fresh(side, side.mirror.newest_s)
    assert [len(epochs) for epochs in await store.item_epochs([0, 1])] == [32, 32]


async def grown(side: Side, n: int) -> int:
    last = -1
    for _ in range(n):
        last = await side.learn([0, 1], 500, last)
    return last


async def test_compaction_makes_rows_short_and_changes_no_sum() -> None:
    store, clock = await opened(), Clock()
    writer, reader = Side(store, clock), Side(store, clock)
    await reader.mirror.advance(500)
    await reader.row(0)
    last = await grown(writer, 150)
    before = await writer.row(0)
    stored = (await store.read_rows([(0, ("c", 0, 0))]))[0]
    assert stored is not None and len(stored) > COMPACT_SLACK_BYTES
    assert await writer.mirror.compact() > 0
    while await writer.mirror.compact():
        pass
    compacted = (await store.read_rows([(0, ("c", 0, 0))]))[0]
    assert compacted is not None and len(compacted) < len(stored) // 10
    clock.now_s += 2 * STALENESS_S
    assert await writer.row(0) == await reader.row(0) == before
    await writer.learn([0, 1], 500, last)
    clock.now_s += 2 * STALENESS_S
    after = await writer.row(0)
    assert after == await reader.row(0) and after[1] > before[1]


async def test_compaction_cuts_neighbours_beyond_the_cap_and_no_count_of_an_item() -> None:
    side = Side(MemoryStore(), Clock())
    body = pack_records(np.arange(1_500, dtype=np.uint32), np.full(1_500, 64, np.int64))
    found = [((0, row_id), bytes(HEADER_BYTES) + body) for row_id in (("c", 0, 7), ("pop", "all", 0), ("c", 0, 9))]
    assert [len(short) // RECORD_BYTES for short in side.mirror.shortened(found)] == [1_000, 1_500, 1_000]


async def test_spans_that_count_no_more_are_not_kept_track_of_and_compacted_when_they_are_long() -> None:
    store, clock = await opened(), Clock()
    side = Side(store, clock)
    hour = (0, ("pop", "10m", 0))
    await side.learn([0, 1], 500, -1)
    assert hour in side.mirror._held
    await side.mirror.advance(2 * 3_600)
    assert hour not in side.mirror._held, "it is past"
    last = 1
    for _ in range(200):
        late = batch_of([0], [2], [0, 1], [500, 500], [32, 32])
        delta = side.engine.derive(late).delta(side.engine.config)
        packed = [GroupDeltas(group, delta.rows_of(group), *delta.packed(group)) for group in range(delta.item_groups)]
        side.mirror.absorb(delta, await store.apply_items([Range(0, TOPIC, last, last + 1, last + 2)], packed))
        last += 2
    assert hour not in side.mirror._held and hour not in side.mirror._dirty
    (long,) = await store.read_rows([hour])
    while await side.mirror.compact():
        pass
    (short,) = await store.read_rows([hour])
    assert long is not None and short is not None and len(short) < len(long) // 10
    assert side.engine.popularity.all_time[:2].tolist() == [201.0, 201.0]


async def test_rows_that_count_no_more_are_compacted_when_they_are_long() -> None:
    store, clock = await opened(), Clock()
    side, old = Side(store, clock, live_epochs=1), (0, ("c", 0, 0))
    last = await applied(side, [0, 10])
    before = await side.row(0)
    for _ in range(400):
        last = await side.learn([0, 1], 500, last)
    assert await same_as_fresh(side, 10_500) == before
    (long,) = await store.read_rows([old])
    while await side.mirror.compact():
        pass
    (short,) = await store.read_rows([old])
    assert long is not None and short is not None and len(short) < len(long) // 10


async def test_a_compaction_that_another_worker_overtakes_loses_nothing() -> None:
    store, clock = await opened(), Clock()
    one, other = Side(store, clock), Side(store, clock)
    last = await grown(one, 150)
    plain = store.compact_rows

    async def overtaken(group: int, compactions: object) -> list[int]:
        nonlocal last
        last = await other.learn([0, 1], 500, last)
        return await plain(group, compactions)  # type: ignore[arg-type]

    store.compact_rows = overtaken  # type: ignore[method-assign]
    await one.mirror.compact()
    store.compact_rows = plain  # type: ignore[method-assign]
    clock.now_s += 2 * STALENESS_S
    fresh = Side(store, clock)
    await fresh.mirror.advance(500)
    expected = await fresh.row(0)
    assert await one.row(0) == await other.row(0) == expected
    assert fresh.engine.popularity.all_time[0] == one.engine.popularity.all_time[0] > 150


async def test_batches_between_reading_and_replacing_long_rows_are_kept() -> None:
    store, clock = await opened(), Clock()
    side = Side(store, clock)
    last = await grown(side, 150)
    found = await side.mirror.read_long()
    bodies = side.mirror.shortened(found)
    before = await side.row(0)
    last = await side.learn([0, 1], 500, last)
    assert await side.mirror.replace(found, bodies) > 0
    after = await side.row(0)
    assert after[1] > before[1]
    await side.learn([0, 1], 500, last)
    clock.now_s += 100 * STALENESS_S
    fresh = Side(store, clock)
    await fresh.mirror.advance(500)
    assert await side.row(0) == await fresh.row(0)


async def test_cutting_at_compaction_keeps_the_heaviest_neighbours() -> None:
    store, clock = await opened(), Clock()
    side = Side(store, clock)
    side.mirror._max_neighbours = 3
    body = b"".join(pack_records(np.arange(1, 7), np.arange(1, 7) * 64) for _ in range(60))
    deltas = [GroupDeltas(0, [("c", 0, 0)], len(body).to_bytes(4, "little"), body), GroupDeltas(1)]
    await store.apply_items([Range(0, TOPIC, -1, 0, 0)], deltas)
    side.mirror._long.add((0, ("c", 0, 0)))
    assert await side.mirror.compact() == 1
    await side.mirror.advance(500)
    assert await side.row(0) == [0, 0, 0, 0, 240, 300, 360, 0]


async def test_a_cleared_mirror_reads_everything_again() -> None:
    store, clock = await opened(), Clock()
    side = Side(store, clock)
    await side.learn([0, 1, 2], 500, -1)
    before, popularity = await side.row(0), side.engine.popularity.all_time.copy()
    side.mirror.clear()
    assert not side.engine.neighbours.loaded.any() and not side.engine.popularity.all_time.any()
    await side.mirror.advance(500)
    assert await side.row(0) == before
    np.testing.assert_array_equal(side.engine.popularity.all_time, popularity)


@pytest.mark.parametrize("dense_items", [8_192, 1])
async def test_dense_and_sparse_workers_hold_the_same(dense_items: int) -> None:
    settings, store = small_settings(), MemoryStore()
    log = {0: [play(f"u{n % 2 * 2}", f"i{n * 7 % 11}", n) for n in range(60)], 1: []}
    await run_log({0: log[0]}, settings, store)
    expected = fold(log, settings)
    assert await read_state(store, settings, expected) == expected
    pipeline = await opened_pipeline(store, settings)
    await pipeline.assign([0], TOPIC_ID)
    pipeline.state.engine.config = replace(pipeline.state.engine.config, dense_items=dense_items)
    pipeline.state.engine.ensure_items(300)
    await pipeline.state.item_cache.advance(log[0][-1].event_ts_ms // 1000)  # type: ignore[union-attr]
    await pipeline.state.item_cache.refresh(np.arange(11))
    for (epoch, item), sums in expected.cooccurrence.items():
        assert epoch == pipeline.state.engine.newest_epoch
        number = pipeline.state.numbering.numbers[item]
        others = np.array([pipeline.state.numbering.numbers[other] for other in sums])
        found = pipeline.state.engine.neighbours.pairs(np.array([number]), others)
        assert (found * 64).tolist() == list(sums.values())
