"""A dashboard on a store in memory with a producer that keeps what it is given, for tests of its pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx

from schemas import Event, Item
from tests.builders import TOPIC_ID, opened_pipeline
from tests.gateway import KEYS, NOW_S, Away, GatewayWorld, with_keys
from workers.settings import Settings
from workers.web.dashboard.app import build_dashboard
from workers.web.dashboard.catalogue import CataloguePages
from workers.web.dashboard.homepage import Homepages
from workers.web.dashboard.letter_pages import LetterPages
from workers.web.dashboard.model_pages import ModelPages, Trainings
from workers.web.dashboard.overview import Overview
from workers.web.dashboard.pages import Pages
from workers.web.dashboard.parts import DashboardParts
from workers.web.dashboard.sign_in import SignedInClients
from workers.web.dashboard.system_pages import SystemPages
from workers.web.dashboard.user_events import UserEvents
from workers.web.dashboard.watched_lists import WatchedLists
from workers.web.dashboard.why import Stories
from workers.web.dashboard.worker_metrics import Look
from workers.web.published import PublishedLists

SCRIPT = "<script>alert('1')</script>"
ORIGIN = {"Origin": "http://127.0.0.1"}


class KeptRecords:
    """A producer whose broker acknowledges at once; `on_event` is called with each event."""

    def __init__(self) -> None:
        self.events: list[Mapping[str, Any]] = []
        self.items: list[Item] = []
        self.on_event: Callable[[Mapping[str, Any]], None] = lambda event: None
        self.on_item: Callable[[Item], None] = lambda item: None
        self.is_closed = False

    def publish(self, event: Mapping[str, Any], /) -> Event:
        checked = Event.model_validate(event, strict=False)
        self.events.append(event)
        self.on_event(event)
        return checked

    def publish_item(self, item: Item | Mapping[str, Any]) -> Item:
        assert isinstance(item, Item)
        self.items.append(item)
        self.on_item(item)
        return item

    def flush(self, timeout_s: float | None = None) -> None: ...

    def close(self, timeout_s: float | None = None) -> None:
        self.is_closed = True


class DashboardWorld(GatewayWorld):
    """The parts of a dashboard, the pipeline that writes its state, and the time."""

    def __init__(self, settings: Settings, pipeline: Any, store: Away) -> None:
        super().__init__(settings, pipeline, store)
        self.lists = self.held = WatchedLists(1 << 20, shared_prefix=settings.lists.shared_prefix, clock=self._clock)
        published = PublishedLists(
            settings, self.lists, self.state, self.parts.metrics, is_loaded=lambda: self.is_loaded, wall_clock=lambda: self.wall_s
        )
        self.looks: dict[str, Look | None] = {}
        self.passed_s = 0.0
        self.producer, self.loop = KeptRecords(), asyncio.get_running_loop()
        events = UserEvents(self.lists, lambda: self.producer, clock=self._clock, list_s=0.02)
        self.dashboard_parts = DashboardParts(
            settings,
            SignedInClients(settings.gateway, self._clock),
            self.parts.metrics,
            self.status,
            Pages(needs_key=bool(settings.gateway.keys)),
            self.lists,
            self.state,
            Homepages(settings, published, self.state),
            Overview(settings, self.lists, is_loaded=lambda: self.is_loaded, look=self._look, clock=self._clock),
            events,
            Stories(settings, self.parts.explainer, self.state),
            CataloguePages(settings, self.state, self.parts.related, events, clock=self._passing),
            ModelPages(settings),
            Trainings(),
            LetterPages(settings),
            SystemPages(settings),
            asyncio.Event(),
        )
        self.app = build_dashboard(self.dashboard_parts)

    def replace_parts(self, **parts: Any) -> None:
        """Put other parts in the place of some."""
        self.dashboard_parts = replace(self.dashboard_parts, **parts)
        self.app = build_dashboard(self.dashboard_parts)

    def _passing(self) -> float:
        """Return the time of a clock that goes on by half a second whenever it is read."""
        self.passed_s += 0.5
        return self.clock_s + self.passed_s

    async def _look(self, urls: Any) -> dict[str, Look | None]:
        return self.looks

    def answer_events(self, *item_ids: str) -> None:
        """Publish a list of these items for each event, 40 ms after it."""

        def answered(event: Mapping[str, Any]) -> None:
            def arrive() -> None:
                self.clock_s += 0.04
                self.publish(event["user_id"], item_ids, source_offset=self.n_events + 100, event_id=event["event_id"])

            self.loop.call_soon_threadsafe(arrive)

        self.producer.on_event = answered

    def answer_items(self) -> None:
        """Store each item that is published, as a stream worker does."""
        self.producer.on_item = lambda item: asyncio.run_coroutine_threadsafe(self.put(item), self.loop).result(5.0)

    async def page(self, path: str, key: str | None = None, **headers: str) -> str:
        """Return a page."""
        answer = await self.get(path, key, **headers)
        assert answer.status_code == 200, answer.text
        return answer.text

    async def post(self, path: str, fields: Any, key: str | None = None, **headers: str) -> httpx.Response:
        """Send JSON as a page of the dashboard does."""
        async with self.client(key) as client:
            return await client.post(path, json=fields, headers=ORIGIN | headers)


@asynccontextmanager
async def dashboard(settings: Settings | None = None) -> AsyncIterator[DashboardWorld]:
    """Run a dashboard on an empty state with four items."""
    chosen = with_keys() if settings is None else settings
    store = Away()
    pipeline = await opened_pipeline(store, chosen)
    await pipeline.assign([0, 1], TOPIC_ID)
    world = DashboardWorld(chosen, pipeline, store)
    await world.put(*(Item(item_id=f"i{number}", title=f"Title {number}", categories=("jazz",)) for number in range(4)))
    try:
        yield world
    finally:
        store.is_away = False
        await world.dashboard_parts.events.close()
        await world.state.close()


__all__ = ["KEYS", "NOW_S", "ORIGIN", "SCRIPT", "DashboardWorld", "dashboard", "with_keys"]
