"""Rows of items that count no more go, once an hour of event time; all others stay."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.builders import NOW_S, START_MS, TOPIC_ID, opened_pipeline, play, records_of, run_log, small_settings
from tests.fold import counted, fold, read_state
from tests.memory_store import MemoryStore
from workers.errors import Fatal, Transient
from workers.state.port import RowAddress
from workers.stream.pipeline import Pipeline
from workers.stream.row_expiry import RowExpiry

SETTINGS = small_settings(state={"live_epochs": 2, "user_budget": 1_000})
HOUR_MS = 3_600_000
LOG = {0: [play("u0", f"i{n % 9}", n, at_ms=START_MS + 3 * HOUR_MS * n) for n in range(120)], 1: []}
NEWEST_S = LOG[0][-1].event_ts_ms // 1000


class CountedScans(MemoryStore):
    scans = 0

    async def scan_rows(self) -> AsyncIterator[list[RowAddress]]:
        self.scans += 1
        async for page in super().scan_rows():
            yield page


async def filling(store: MemoryStore) -> Pipeline:
    """The pipeline that has applied the log."""
    pipeline = await opened_pipeline(store, SETTINGS)
    await pipeline.assign([0, 1], TOPIC_ID)
    await pipeline.process({0: records_of(LOG[0])})
    return pipeline


async def filled() -> CountedScans:
    store = CountedScans()
    await filling(store)
    return store


def sweeper(now_s: float = NOW_S) -> RowExpiry:
    return RowExpiry(SETTINGS, clock=lambda: now_s, pause_s=0.0)


async def spans(store: MemoryStore, kind: str, where: str = "") -> set[int]:
    """Epochs of rows of co-occurrence, or spans of a window."""
    rows = [row_id for page in [p async for p in store.scan_rows()] for _, row_id in page if row_id[0] == kind]
    return {int(row_id[1]) if kind == "c" else row_id[2] for row_id in rows if kind == "c" or row_id[1] == where}


async def test_what_is_past_goes_and_what_counts_stays() -> None:
    store = await filled()
    newest_hour = NEWEST_S // 3_600
    assert min(await spans(store, "pop", "10m")) == START_MS // HOUR_MS
    before = await spans(store, "c")
    n_rows = await sweeper().look(store, NEWEST_S)
    assert n_rows > 200
    assert await spans(store, "pop", "10m") == {hour for hour in range(START_MS // HOUR_MS, newest_hour + 1, 3) if hour > newest_hour - 4}
    assert await spans(store, "pop", "6h") == {NEWEST_S // 129_600 - back for back in range(4)}
    epochs_of: dict[int, list[int]] = {}
    for _, (kind, epoch, number) in [address async for page in store.scan_rows() for address in page]:
        if kind == "c":
            epochs_of.setdefault(number, []).append(int(epoch))
    assert len(epochs_of) == 9 and {len(epochs) for epochs in epochs_of.values()} == {2} and len(before) > 10
    expected = fold(LOG, SETTINGS)
    found = await read_state(store, SETTINGS, expected)
    assert found != expected
    assert counted(found, SETTINGS, LOG) == counted(expected, SETTINGS, LOG)
    assert replace(found, cooccurrence={}, popularity={}) == replace(expected, cooccurrence={}, popularity={})


async def test_history_of_ten_years_ago_stays_whatever_happens_to_other_items() -> None:
    """C07: an import of 2015, then one event of today."""
    old = [replace(fact, event_ts_ms=fact.event_ts_ms - 3_650 * 24 * HOUR_MS) for fact in LOG[0]]
    log = {0: [*old, *[play("u0", item, 500 + n) for n, item in enumerate(("new", "newer"))]], 1: []}
    store = CountedScans()
    await run_log(log, SETTINGS, store)
    assert await sweeper().look(store, START_MS // 1000 + 501) > 0
    expected = fold(log, SETTINGS)
    found = await read_state(store, SETTINGS, expected)
    assert counted(found, SETTINGS, log) == counted(expected, SETTINGS, log)
    assert len({number for _, (kind, _, number) in [a async for page in store.scan_rows() for a in page] if kind == "c"}) == 11


async def test_within_an_hour_of_event_time_it_is_done_once() -> None:
    store, at = await filled(), sweeper()
    assert await at.look(store, 0) == 0 and store.scans == 0, "nothing is known of event time yet"
    assert await at.look(store, NEWEST_S) > 0 and store.scans == 1
    assert await at.look(store, NEWEST_S) == 0 and store.scans == 1
    await at.look(store, NEWEST_S + 3_600)
    assert store.scans == 2


async def test_an_event_from_the_future_makes_no_row_old() -> None:
    store = await filled()
    assert await sweeper(NEWEST_S).look(store, NEWEST_S + 10_000 * 86_400) > 0
    hours = await spans(store, "pop", "10m")
    assert max(hours) == NEWEST_S // 3_600 and len(hours) == 2
    assert await sweeper(NEWEST_S - 100 * 86_400).look(await filled(), NEWEST_S) == 0, "nor does a clock that is behind"


async def test_a_user_that_may_not_scan_is_told_once_an_hour_and_the_worker_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    class Forbidden(CountedScans):
        async def scan_rows(self) -> AsyncIterator[list[RowAddress]]:
            self.scans += 1
            raise Fatal("give it SCAN")
            yield []

    store, at = Forbidden(), sweeper()
    for _ in range(3):
        assert await at.look(store, NEWEST_S) == 0
    assert store.scans == 1 and caplog.messages == ["rows of items that count no more stay in Redis: give it SCAN"]


async def test_a_scan_that_is_cut_off_is_done_again() -> None:
    class Away(CountedScans):
        async def scan_rows(self) -> AsyncIterator[list[RowAddress]]:
            self.scans += 1
            if self.scans == 1:
                raise Transient("Redis is away")
            yield []

    store, at = Away(), sweeper()
    with pytest.raises(Transient):
        await at.look(store, NEWEST_S)
    await at.look(store, NEWEST_S)
    assert store.scans == 2


async def test_what_comes_late_to_a_row_that_is_gone_is_taken_and_goes_next_time() -> None:
    store = CountedScans()
    pipeline = await filling(store)
    at = sweeper()
    await at.look(store, NEWEST_S)
    late = [play("u9", f"i{n}", 500 + n, at_ms=START_MS) for n in range(3)]
    log = {0: [*LOG[0], *late], 1: []}
    await pipeline.process({0: records_of(log[0])[len(LOG[0]) :]})
    assert START_MS // HOUR_MS in await spans(store, "pop", "10m")
    expected = fold(log, SETTINGS)
    assert counted(await read_state(store, SETTINGS, expected), SETTINGS, log) == counted(expected, SETTINGS, log)
    assert await at.look(store, NEWEST_S + 3_600) > 0
    assert START_MS // HOUR_MS not in await spans(store, "pop", "10m")
