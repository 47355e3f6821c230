"""The second opinion on rows of items: it agrees with the oracle and the engine on every log, and sees every change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.state.item_row import pack_header, pack_records
from tests.builders import TOPIC_ID, opened_pipeline, play, random_log, records_of, run_log, small_settings
from tests.fold import Fact, counted, fold
from tests.memory_store import MemoryStore
from workers.kafka.records import Record
from workers.operations.item_fold import Applied, ItemFold, row_difference
from workers.operations.item_sample import ItemSample, read_items
from workers.operations.reference_fold import HistoryFold
from workers.settings import Settings
from workers.state.port import StateStore, Watermark
from workers.stream.pipeline import Pipeline

SETTINGS = small_settings()
Log = Mapping[int, Sequence[Fact | None]]


def folded(log: Log, settings: Settings, numbers: Mapping[str, int], applied: Applied, starts: Mapping[int, int] | None = None) -> ItemFold:
    """Rows as the check folds them, one partition after another."""
    items = ItemFold(settings, numbers, applied)
    for partition, facts in log.items():
        start = (starts or {}).get(partition, 0)
        items.begin(partition, start)
        HistoryFold(settings, (), partition, sink=items).take(records_of(facts)[start:])
    items.finish()
    return items


def everywhere(log: Log, numbers: Mapping[str, int], groups: int) -> Applied:
    ends = {partition: len(facts) - 1 for partition, facts in log.items()}
    return Applied(dict.fromkeys(numbers.values(), ends), dict.fromkeys(range(groups), ends))


async def differences(store: StateStore, settings: Settings, log: Log, starts: Mapping[int, int] | None = None) -> tuple[list[str], int]:
    """What a check of all items finds, and how many rows and buckets it compared."""
    sample = await read_items(store, settings, 1_000, 0)
    names = await store.item_names()
    items = folded(log, settings, {name: number for number, name in enumerate(names)}, sample.applied(TOPIC_ID), starts)
    compared = [one async for one in sample.compare(store, settings, items, names)]
    return [line for one in compared for line in one.lines], len(compared)


@given(st.integers(0, 10_000), st.integers(1, 200))
async def test_the_fold_agrees_with_the_oracle_on_any_log(seed: int, n_events: int) -> None:
    log = random_log(seed, n_events, erasures=0.03)
    state = fold(log, SETTINGS)
    names = sorted({fact.item_id for facts in log.values() for fact in facts if fact is not None})
    numbers = {name: number for number, name in enumerate(names)}
    items = folded(log, SETTINGS, numbers, everywhere(log, numbers, SETTINGS.state.item_groups))
    expected = counted(state, SETTINGS, log)
    named = {(epoch, names[number]): {names[n]: a for n, a in sums.items()} for (epoch, number), sums in items.rows.items()}
    assert named.items() >= expected.cooccurrence.items(), "what weighs nothing sets no time here"
    assert {at: {names[n]: a for n, a in sums.items()} for at, sums in items.popularity.items()}.items() >= expected.popularity.items()
    assert not items.unnumbered and items.whole


@given(st.integers(0, 10_000), st.integers(1, 200))
async def test_the_fold_agrees_with_the_engine_on_any_log(seed: int, n_events: int) -> None:
    store, log = MemoryStore(), random_log(seed, n_events)
    await run_log(log, SETTINGS, store)
    assert (await differences(store, SETTINGS, log))[0] == []


class BusyStore(MemoryStore):
    """Before each read of rows a worker applies some more of the log."""

    def __init__(self) -> None:
        super().__init__()
        self.rest: dict[int, list[Record]] = {}
        self.pipeline: Pipeline | None = None

    async def read_rows_at(self, group: int, row_ids: Sequence[Any]) -> tuple[dict[int, Watermark], list[bytes | None]]:
        assert self.pipeline is not None
        batch = {partition: records[:7] for partition, records in self.rest.items() if records}
        self.rest = {partition: records[7:] for partition, records in self.rest.items()}
        await self.pipeline.process(batch)
        return await super().read_rows_at(group, row_ids)


async def test_each_row_is_compared_as_of_the_moment_it_was_read() -> None:
    log, store = random_log(8, 160), BusyStore()
    store.pipeline = await opened_pipeline(store, SETTINGS, ranks=False)
    await store.pipeline.assign(list(log), TOPIC_ID)
    await store.pipeline.process({partition: records_of(facts[:50]) for partition, facts in log.items()})
    store.rest = {partition: records_of(facts[50:], 50) for partition, facts in log.items()}
    lines, n_compared = await differences(store, SETTINGS, log)
    assert lines == [] and n_compared > 20
    assert len(store.rest[0]) < len(log[0]) - 50, "the state moved on between two reads"


async def test_every_changed_row_is_seen_and_named() -> None:
    store, log = MemoryStore(), random_log(3, 60)
    await run_log(log, SETTINGS, store)
    names = await store.item_names()
    sample = await read_items(store, SETTINGS, 1_000, 0)
    items = folded(log, SETTINGS, {name: number for number, name in enumerate(names)}, sample.applied(TOPIC_ID))
    lines, n_compared = await differences(store, SETTINGS, log)
    assert lines == []
    n_seen = 0
    for address, row in list(store._rows.items()):
        kind, where, number = address[1]
        for changed in (None, row[:-1], row + pack_records([0], [1]), row + pack_records([len(names)], [64])):
            if changed is None:
                del store._rows[address]
            else:
                store._rows[address] = changed
            lines, _ = await differences(store, SETTINGS, log)
            if items.counts(address[1]):
                window = "all time" if where == "all" else f"half-life {where}"
                title = f"item {names[number]!r} in the epoch" if kind == "c" else f"popularity, {window}"
                assert len(lines) == 1 and lines[0].startswith(title), (address, changed, lines)
                n_seen += 1
            else:
                assert lines == []
            store._rows[address] = row
    assert n_seen >= 4 * n_compared


async def test_an_epoch_that_the_store_does_not_note_is_named() -> None:
    store, log = MemoryStore(), random_log(3, 60)
    await run_log(log, SETTINGS, store)
    names = await store.item_names()
    for number, epochs in list(store._epochs.items()):
        for epoch in epochs:
            store._epochs[number] = [other for other in epochs if other != epoch]
            lines, _ = await differences(store, SETTINGS, log)
            assert lines == [f"item '{names[number]}': epoch {epoch} is not noted, so that no worker reads its row"]
        store._epochs[number] = epochs


def packed(sums: Mapping[int, int]) -> bytes:
    return pack_header(0, 0) + pack_records(list(sums), list(sums.values()))


@pytest.mark.parametrize(
    ("found", "cap", "whole", "differs"),
    [
        ({1: 64, 2: 32}, 9, True, False),
        ({1: 64, 2: 33}, 9, True, True),
        ({1: 64, 2: 33}, 9, False, False),  # the log has lost events: nothing says what those that are left added
        ({9: 64}, 9, False, True),  # but an item must have a number
        ({1: 64, 2: 31}, 9, False, False),
        ({1: 64}, 9, True, True),
        ({1: 64}, 1, True, False),  # the lightest was cut
        ({1: 65}, 1, True, True),
        ({1: 64, 3: 1}, 1, True, True),
        ({}, 1, False, False),
    ],
)
def test_a_row_is_held_to_what_is_promised_of_it(found: dict[int, int], cap: int, whole: bool, differs: bool) -> None:
    line = row_difference(packed(found), {1: 64, 2: 32}, ["a", "b", "c", "d"], cap=cap, whole=whole)
    assert (line is not None) == differs


async def test_of_a_log_without_its_start_rows_are_only_read() -> None:
    """What an event adds depends on its user's history, whose beginning is gone."""
    log = {0: [play("u0", f"i{n % 7}", n) for n in range(100)], 1: [play("u1", "i1", 200), play("u1", "i2", 201)]}
    log[0][18] = log[0][15]  # counted at offset 15, which is gone
    store = MemoryStore()
    await run_log(log, SETTINGS, store)
    lines, _ = await differences(store, SETTINGS, log, {0: 17})
    assert lines == []
    address = next(at for at in store._rows if at[1] == ("pop", "all", 0))
    store._rows[address] = store._rows[address][:-1]
    lines, _ = await differences(store, SETTINGS, log, {0: 17})
    assert len(lines) == 1 and "popularity, all time" in lines[0]


async def test_an_item_of_the_log_without_a_number_is_named() -> None:
    log = {0: [play("u0", "i0", 1), play("u0", "lost", 2)]}
    items = folded(log, SETTINGS, {"i0": 0}, Applied({}, {0: {0: 1}}))
    assert list(items.unnumbered) == ["lost"]


def test_a_sample_knows_how_far_it_goes() -> None:
    sample = ItemSample(1, (), of_item={3: {0: Watermark("t", 4)}}, of_popularity={0: {0: Watermark("t", 6), 1: Watermark("other", 9)}})
    assert (sample.furthest(0), sample.furthest(1), sample.furthest(2)) == (6, 9, -1)
    assert sample.applied("t").of_popularity == {0: {0: 6}}
