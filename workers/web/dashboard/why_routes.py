"""Pages that say why a list is as it is."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

from workers.web.dashboard.pages import page_language
from workers.web.dashboard.parts import DashboardParts
from workers.web.dashboard.requests import reading
from workers.web.parts import checked_id_bytes
from workers.web.problems import Problem


def add_why(app: FastAPI, parts: DashboardParts) -> None:
    """Add the route."""

    @app.get("/why")
    async def why(request: Request) -> Response:
        reading(request, "admin")
        user, item = request.query_params.get("user", "").strip(), request.query_params.get("item", "").strip()
        story, refused, status = None, "", 200
        if user:
            user_id = checked_id_bytes("user", user.encode("utf-8", "replace"))
            item_id = checked_id_bytes("item", item.encode("utf-8", "replace")) if item else None
            try:
                story = await parts.stories.tell(user_id, item_id, page_language(request))
            except Problem as problem:
                if problem.status != 404:
                    raise
                refused, status = problem.message, 404
        return parts.pages.render(request, "why.html", status=status, here="why", story=story, user=user, item=item, refused=refused)
