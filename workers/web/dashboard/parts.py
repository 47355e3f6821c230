"""The parts of a dashboard, which its routes share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from workers.runtime.status import WorkerStatus
from workers.settings import Settings
from workers.web.dashboard.catalogue import CataloguePages
from workers.web.dashboard.homepage import Homepages
from workers.web.dashboard.letter_pages import LetterPages
from workers.web.dashboard.model_pages import ModelPages, Trainings
from workers.web.dashboard.overview import Overview
from workers.web.dashboard.pages import Pages
from workers.web.dashboard.sign_in import SignedInClients
from workers.web.dashboard.system_pages import SystemPages
from workers.web.dashboard.user_events import UserEvents
from workers.web.dashboard.watched_lists import WatchedLists
from workers.web.dashboard.why import Stories
from workers.web.gateway_metrics import GatewayMetrics
from workers.web.live_state import LiveState


@dataclass(frozen=True, slots=True)
class DashboardParts:
    """Parts of one dashboard. Tests put fakes in the place of what needs Kafka or Redis. `closing` ends the streams of figures."""

    settings: Settings
    clients: SignedInClients
    metrics: GatewayMetrics
    status: WorkerStatus
    pages: Pages
    lists: WatchedLists
    state: LiveState
    homepages: Homepages
    overview: Overview
    events: UserEvents
    stories: Stories
    catalogue: CataloguePages
    models: ModelPages
    trainings: Trainings
    letters: LetterPages
    system: SystemPages
    closing: asyncio.Event
