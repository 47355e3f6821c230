"""The page of dead letters, and redriving them: a dry run first."""

from __future__ import annotations

import orjson
from fastapi import FastAPI, Request, Response

from workers.web.dashboard.letter_pages import SHOWN, SOURCES, Filter
from workers.web.dashboard.parts import DashboardParts
from workers.web.dashboard.requests import reading, writing
from workers.web.problems import JSON, wrong


def add_letters(app: FastAPI, parts: DashboardParts) -> None:
    """Add the routes."""

    @app.get("/dead-letters")
    async def letters(request: Request) -> Response:
        reading(request, "admin")
        chosen = Filter.of(request.query_params)
        found, counts = await parts.letters.page(chosen)
        return parts.pages.render(
            request, "letters.html", here="letters", chosen=chosen, letters=found, counts=counts, sources=SOURCES, most=SHOWN
        )

    @app.post("/api/dead-letters/redrive")
    async def redrive(request: Request) -> Response:
        fields = await writing(request, "admin")
        dry_run = fields.get("dry_run")
        if not isinstance(dry_run, bool):
            raise wrong("dry_run", "send true or false")
        done = await parts.letters.redrive(Filter.of(fields), dry_run=dry_run)
        return Response(orjson.dumps(done), media_type=JSON, headers={"cache-control": "no-store"})
