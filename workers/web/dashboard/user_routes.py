"""Homepages of users: as they are, as they change, and what clicks on them do."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
from fastapi import FastAPI, Request, Response

from workers.web.dashboard.homepage import Homepage
from workers.web.dashboard.live_stream import QUIET_S, event, live_answer, pause
from workers.web.dashboard.pages import in_path, page_language
from workers.web.dashboard.parts import DashboardParts
from workers.web.dashboard.requests import reading, text_field, writing
from workers.web.dashboard.user_events import TYPES
from workers.web.parts import checked_id, checked_id_bytes
from workers.web.problems import JSON


def add_users(app: FastAPI, parts: DashboardParts) -> None:
    """Add the routes."""

    async def whole_page(request: Request, user_id: str) -> Homepage:
        return await parts.homepages.page(user_id, page_language(request))

    def shown(request: Request, page: Homepage) -> str:
        return parts.pages.rendered(request, "_homepage.html", page=page, types=TYPES)

    @app.get("/users")
    async def users(request: Request) -> Response:
        reading(request)
        wanted = request.query_params.get("user", "").strip()
        if wanted:
            user_id = checked_id_bytes("user", wanted.encode("utf-8", "replace"))
            return Response(status_code=303, headers={"location": f"/users/{in_path(user_id)}"})
        return parts.pages.render(request, "users.html", here="homepage", newest=parts.lists.newest_users(), n_lists=len(parts.lists))

    @app.get("/users/{user}")
    async def homepage(request: Request, user: str) -> Response:
        reading(request)
        page = await whole_page(request, checked_id("user", user))
        return parts.pages.render(request, "homepage.html", here="homepage", page=page, types=TYPES)

    @app.get("/api/users/{user}/page")
    async def part(request: Request, user: str) -> Response:
        reading(request)
        page = await whole_page(request, checked_id("user", user))
        return Response(orjson.dumps({"html": shown(request, page), "list_id": page.list_id}), media_type=JSON)

    @app.get("/api/users/{user}/live")
    async def live(request: Request, user: str) -> Response:
        reading(request)
        user_id = checked_id("user", user)

        async def arrivals() -> AsyncIterator[bytes]:
            with parts.lists.watching(user_id) as watch:
                yield b": watching\n\n"
                while await pause(parts.closing, watch.arrived, QUIET_S):
                    yield event("list", b"{}") if watch.arrived.is_set() else b": quiet\n\n"
                    watch.arrived.clear()

        return live_answer(arrivals())

    @app.post("/api/users/{user}/events")
    async def act(request: Request, user: str) -> Response:
        fields = await writing(request, "write")
        user_id, item_id = checked_id("user", user), checked_id_bytes("item_id", text_field(fields, "item_id").encode())
        position, list_id = fields.get("position"), fields.get("list_id")
        sent = await parts.events.send(
            user_id,
            item_id,
            text_field(fields, "type"),
            list_id=list_id if isinstance(list_id, str) and list_id else None,
            position=position if isinstance(position, int) and not isinstance(position, bool) else None,
        )
        page = await whole_page(request, user_id)
        answer = {"list_ms": sent.list_ms, "acknowledged_ms": sent.acknowledged_ms, "html": shown(request, page), "list_id": page.list_id}
        return Response(orjson.dumps(answer), media_type=JSON, headers={"cache-control": "no-store"})
