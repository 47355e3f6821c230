"""Pages of models, rollback and training on request."""

from __future__ import annotations

import orjson
from fastapi import FastAPI, Request, Response

from workers.web.dashboard.parts import DashboardParts
from workers.web.dashboard.requests import reading, writing
from workers.web.problems import JSON

REASON = "rolled back on the dashboard"
NO_STORE = {"cache-control": "no-store"}


def add_models(app: FastAPI, parts: DashboardParts) -> None:
    """Add the routes."""

    @app.get("/models")
    async def models(request: Request) -> Response:
        reading(request)
        recipe, weights = await parts.models.weights()
        kinds = await parts.models.kinds()
        return parts.pages.render(
            request, "models.html", here="models", kinds=kinds, recipe=recipe, weights=weights, trainings=parts.trainings
        )

    @app.get("/models/{kind}/{version}")
    async def version(request: Request, kind: str, version: str) -> Response:
        reading(request)
        found, ancestors = await parts.models.version(kind, version)
        return parts.pages.render(request, "model.html", here="models", found=found, ancestors=ancestors)

    @app.post("/api/models/{kind}/rollback")
    async def rollback(request: Request, kind: str) -> Response:
        await writing(request, "admin")
        now, before = await parts.models.roll_back(kind, REASON)
        return Response(orjson.dumps({"version": now, "before": before}), media_type=JSON, headers=NO_STORE)

    @app.post("/api/training")
    async def train(request: Request) -> Response:
        await writing(request, "admin")
        parts.trainings.start()
        return Response(orjson.dumps({"started": True}), 202, media_type=JSON, headers=NO_STORE)
