"""Pages of the catalogue, and the switch of an item's availability."""

from __future__ import annotations

import orjson
from fastapi import FastAPI, Request, Response

from workers.web.dashboard.parts import DashboardParts
from workers.web.dashboard.requests import reading, writing
from workers.web.parts import checked_id
from workers.web.problems import JSON, wrong

LONGEST_SEARCH = 200


def add_catalogue(app: FastAPI, parts: DashboardParts) -> None:
    """Add the routes."""

    @app.get("/catalogue")
    async def search(request: Request) -> Response:
        reading(request)
        words = request.query_params.get("q", "")[:LONGEST_SEARCH]
        found = await parts.catalogue.search(words)
        return parts.pages.render(request, "catalogue.html", here="catalogue", found=found, words=words)

    @app.get("/items/{item}")
    async def item_page(request: Request, item: str) -> Response:
        reading(request)
        page = await parts.catalogue.page(checked_id("item", item))
        return parts.pages.render(request, "item.html", here="catalogue", page=page)

    @app.post("/api/items/{item}/availability")
    async def switch(request: Request, item: str) -> Response:
        fields = await writing(request, "write")
        wanted = fields.get("available")
        if not isinstance(wanted, bool):
            raise wrong("available", "send true or false")
        done = await parts.catalogue.switch(checked_id("item", item), wanted)
        return Response(orjson.dumps({"done": done}), media_type=JSON, headers={"cache-control": "no-store"})
