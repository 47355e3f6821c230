"""No list is made before all that it depends on is loaded into the state that is served (X1, X2)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import pytest

import workers.stream.reference_loading
from tests.builders import TOPIC_ID, opened_pipeline, random_log, run_log, small_settings
from tests.memory_store import MemoryStore
from workers.errors import Fenced, Transient
from workers.kafka.records import Place
from workers.settings import Settings
from workers.stream.pipeline import Pipeline
from workers.stream.readiness import FIRST_REMINDER_S, Readiness, WaitingLog
from workers.stream.reference_loading import CatalogueLoader
from workers.stream.reread import ReadCompacted

SETTINGS = small_settings()
ITEMS = (SETTINGS.topics.items, 0)


class Models:
    def __init__(self) -> None:
        self.kinds: list[str] = []

    def missing(self) -> list[str]:
        return self.kinds


class World:
    """A worker's readiness over a store, and topics whose reading the test watches and disturbs."""

    def __init__(self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pipeline, self.models = pipeline, Models()
        self.readiness = Readiness(pipeline.state, self.models)  # type: ignore[arg-type]
        intake: Any = None
        self.loader = CatalogueLoader(SETTINGS, pipeline.state, intake, self.readiness)
        self.ends = {ITEMS: 7}
        self.reads: list[dict[Place, int]] = []
        self.while_reading: Any = None
        self.n_followed = 0
        monkeypatch.setattr(workers.stream.reference_loading, "read_compacted", self._read)
        monkeypatch.setattr(workers.stream.reference_loading, "topic_ids_async", self._ids)

    async def _ids(self, settings: Settings) -> dict[str, str]:
        return {name: f"id of {name}" for name in (settings.topics.items, settings.topics.users, settings.topics.models)}

    async def _read(self, settings: Settings, intake: Any, since: Mapping[Place, int]) -> ReadCompacted:
        self.reads.append(dict(since))
        if self.while_reading is not None:
            await self.while_reading()
        return ReadCompacted({"items": 1}, dict(self.ends))

    async def follow(self) -> None:
        assert "items" in self.readiness.waiting_for(), "not loaded before the engine has it"
        self.n_followed += 1

    async def look(self) -> None:
        await self.loader.look(self.follow)

    async def restart_redis(self) -> None:
        store: Any = self.pipeline.state.store
        store._run_id += "'"
        await self.pipeline.assign([0, 1], TOPIC_ID)


async def world(monkeypatch: pytest.MonkeyPatch, store: MemoryStore | None = None) -> World:
    return World(await opened_pipeline(store or MemoryStore(), SETTINGS), monkeypatch)


async def test_a_first_start_waits_for_items_and_profiles_and_for_nothing_once_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    at = await world(monkeypatch)
    assert at.readiness.waiting_for() == ["items", "profiles"]
    with pytest.raises(Transient, match="lists wait for items, profiles"):
        at.readiness.check()
    await at.look()
    assert at.readiness.waiting_for() == [] and at.reads == [{}] and at.n_followed == 1
    await at.look()
    assert len(at.reads) == 1, "once is enough"
    at.readiness.check()


async def test_a_worker_that_starts_later_reads_on_from_where_the_state_is_before_it_makes_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    await (await world(monkeypatch, store)).look()
    later = await world(monkeypatch, store)
    assert later.readiness.waiting_for() == ["items", "profiles"], "an item may have changed while no worker was there"
    await later.look()
    assert later.readiness.waiting_for() == [] and later.reads == [{ITEMS: 7}]


async def test_another_state_has_to_be_loaded_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    at = await world(monkeypatch)
    await at.look()
    await at.restart_redis()
    assert at.readiness.waiting_for() == ["items", "profiles"]
    await at.look()
    assert at.readiness.waiting_for() == [] and at.reads == [{}, {}]
    at.pipeline.state.store.__init__()  # type: ignore[misc]  # FLUSHALL
    await at.pipeline.assign([0, 1], TOPIC_ID)
    assert at.readiness.waiting_for() == ["items", "profiles"]
    await at.look()
    assert at.readiness.waiting_for() == [] and at.reads == [{}, {}, {}]


async def test_a_state_that_changes_while_its_topics_are_read_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    at = await world(monkeypatch)
    at.while_reading = at.restart_redis
    with pytest.raises(Fenced):
        await at.look()
    assert at.readiness.waiting_for() == ["items", "profiles"]
    at.while_reading = None
    await at.look()
    assert at.readiness.waiting_for() == [] and at.reads == [{}, {}]


async def test_a_state_restored_from_a_backup_is_read_from_the_start_though_it_has_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    await (await world(monkeypatch, store)).look()
    at = await world(monkeypatch, store)
    at.loader.invalidate()  # the group's commit is ahead of the state
    await at.look()
    assert at.reads == [{}] and at.readiness.waiting_for() == []


async def test_records_that_nobody_has_read_hold_lists_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """S7: the catalogue's group may not read, so its agents never see an item."""
    at = await world(monkeypatch)
    at.ends = {ITEMS: 0}
    await at.look()
    assert at.loader.item_places == [ITEMS] and not at.loader.lacks({ITEMS: 0})
    at.ends = {ITEMS: 9}
    assert at.loader.lacks({ITEMS: 9})
    at.loader.read_on()
    assert at.readiness.waiting_for() == ["items", "profiles"]
    await asyncio.wait_for(at.loader.wait(), 0.1)
    await at.look()
    assert at.readiness.waiting_for() == [] and at.reads == [{}, {ITEMS: 0}] and not at.loader.lacks({ITEMS: 9})


async def test_lists_wait_for_models_numbers_and_event_time(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    await run_log(random_log(3, 50), SETTINGS, store)
    at = await world(monkeypatch, store)
    await at.look()
    at.models.kinds = ["ials"]
    assert at.readiness.waiting_for() == ["models"]
    at.models.kinds = []
    at.pipeline.state.numbering.lost = True
    assert at.readiness.waiting_for() == ["item numbers"]
    at.pipeline.state.numbering.lost = False
    at.pipeline.state.resets += 1
    assert at.readiness.waiting_for() == ["event time", "items", "profiles"]


def test_what_lists_wait_for_is_logged_once_a_change_and_at_growing_intervals(caplog: pytest.LogCaptureFixture) -> None:
    now_s = 0.0
    log = WaitingLog(lambda: now_s)
    lines = []
    with caplog.at_level(logging.INFO, logger="workers.stream.readiness"):
        for second in range(80):
            now_s = float(second)
            caplog.clear()
            log.look(["items"] if second < 75 else [], "no right to read")
            lines += [(second, record.getMessage()) for record in caplog.records]
    assert [second for second, _ in lines] == [0, FIRST_REMINDER_S, 3 * FIRST_REMINDER_S, 7 * FIRST_REMINDER_S, 75]
    assert "items" in lines[0][1] and "no right to read" in lines[1][1] and lines[-1][1] == "lists are made"
