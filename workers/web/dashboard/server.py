"""Runs a dashboard in this process until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal

from workers.bootstrap import open_store
from workers.client import EventPublisher
from workers.errors import SettingsError
from workers.gateway_settings import is_loopback
from workers.kafka.offsets import group_lag
from workers.runtime.event_loop import new_event_loop
from workers.runtime.health import Heartbeat
from workers.runtime.status import WorkerStatus
from workers.settings import Settings
from workers.stream.model_sync import ModelFollower
from workers.stream.stored_models import StoredModels
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
from workers.web.explainer import Explainer
from workers.web.gateway_metrics import GatewayMetrics
from workers.web.guard import App
from workers.web.list_follower import ListFollower
from workers.web.live_state import LiveState
from workers.web.published import PublishedLists
from workers.web.related_items import RelatedItems
from workers.web.server import bound, cancel_all, keep_beating, load_loops, serve_until

log = logging.getLogger(__name__)


def run_dashboard(settings: Settings) -> None:
    """Answer requests until a signal comes. Raises SettingsError when the address cannot be bound, or is open to strangers."""
    chosen = settings.dashboard
    if not settings.gateway.keys and not is_loopback(chosen.host):
        raise SettingsError("setting dashboard.host: reached from other machines, and gateway.keys is empty: set keys, or 127.0.0.1")
    loop = new_event_loop()
    try:
        loop.run_until_complete(_serve(settings))
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def _serve(settings: Settings) -> None:
    stop, chosen = asyncio.Event(), settings.dashboard
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as running:
        place = settings.gateway.model_copy(update={"host": chosen.host, "port": chosen.port})
        try:
            listening = running.enter_context(bound(place))
        except SettingsError as error:
            raise SettingsError(str(error).replace("gateway.port", "dashboard.port")) from None
        app = await start_dashboard(settings, stop, running)
        loops = load_loops(settings, WorkerStatus())  # the first explanation needs them, and pages need not wait for them
        running.push_async_callback(cancel_all, [asyncio.ensure_future(loops)])
        log.info("the dashboard is at http://%s:%d", chosen.host, chosen.port)
        await serve_until(stop, app, listening)


async def start_dashboard(settings: Settings, closing: asyncio.Event, running: contextlib.AsyncExitStack) -> App:
    """Start what follows Kafka and Redis until `running` is closed, and return the application."""
    status = WorkerStatus()
    metrics = GatewayMetrics(status)
    lists = WatchedLists(settings.gateway.held_mb << 20, shared_prefix=settings.lists.shared_prefix)
    follower = ListFollower(settings, lists, metrics, status)
    stored = StoredModels(settings)
    state = LiveState(
        settings, lambda: open_store(settings), status, models=lambda opened: ModelFollower(opened, stored.load, stored.serving)
    )
    running.push_async_callback(state.close)
    events = UserEvents(lists, lambda: EventPublisher(settings, delivery_timeout_s=10.0))
    running.push_async_callback(events.close)
    trainings = Trainings()
    running.push_async_callback(trainings.close)
    published = PublishedLists(settings, lists, state, metrics, is_loaded=lambda: follower.is_loaded)
    overview = Overview(
        settings,
        lists,
        is_loaded=lambda: follower.is_loaded,
        lag=lambda: group_lag(settings, settings.stream.group_id, settings.topics.events),
    )
    parts = DashboardParts(
        settings,
        SignedInClients(settings.gateway),
        metrics,
        status,
        Pages(needs_key=bool(settings.gateway.keys)),
        lists,
        state,
        Homepages(settings, published, state),
        overview,
        events,
        Stories(settings, Explainer(settings, state), state),
        CataloguePages(settings, state, RelatedItems(settings, state), events),
        ModelPages(settings),
        trainings,
        LetterPages(settings),
        SystemPages(settings),
        closing,
    )
    beat = keep_beating(status, Heartbeat(settings.health.heartbeat_file, status))
    running.push_async_callback(cancel_all, [asyncio.ensure_future(step) for step in (follower.run(), state.run(), beat)])
    return build_dashboard(parts)
