"""The overview, and its figures as they change."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
from fastapi import FastAPI, Request, Response

from workers.web.dashboard.live_stream import event, live_answer, pause
from workers.web.dashboard.overview import LOOK_S
from workers.web.dashboard.parts import DashboardParts
from workers.web.dashboard.requests import reading


def add_overview(app: FastAPI, parts: DashboardParts) -> None:
    """Add the routes of the overview."""

    @app.get("/")
    async def overview(request: Request) -> Response:
        reading(request)
        return parts.pages.render(request, "overview.html", here="overview", partitions=range(parts.settings.topics.partitions))

    @app.get("/api/overview/live")
    async def live(request: Request) -> Response:
        reading(request)

        async def figures() -> AsyncIterator[bytes]:
            while True:
                yield event("figures", orjson.dumps(await parts.overview.figures()))
                if not await pause(parts.closing, None, LOOK_S):
                    return

        return live_answer(figures())
