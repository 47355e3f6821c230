"""The dashboard as an ASGI application: its routes, its headers, and how failures become pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from workers.errors import Fatal, Fenced, Transient
from workers.web.dashboard.catalogue_routes import add_catalogue
from workers.web.dashboard.letter_routes import add_letters
from workers.web.dashboard.model_routes import add_models
from workers.web.dashboard.overview_routes import add_overview
from workers.web.dashboard.parts import DashboardParts
from workers.web.dashboard.sign_in_routes import add_sign_in
from workers.web.dashboard.system_routes import add_system
from workers.web.dashboard.user_routes import add_users
from workers.web.dashboard.why_routes import add_why
from workers.web.guard import App, Guard, Message, Receive, Send
from workers.web.guard import Scope as AsgiScope
from workers.web.problems import JSON, Problem, away

PACKAGE = "workers.web.dashboard"
API = "/api/"
"""Paths below it answer scripts, with JSON; all others answer people."""


def build_dashboard(parts: DashboardParts) -> App:
    """Return the application that answers with these parts."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    _handle_failures(app, parts)
    add_sign_in(app, parts)
    add_overview(app, parts)
    add_users(app, parts)
    add_why(app, parts)
    add_catalogue(app, parts)
    add_models(app, parts)
    add_letters(app, parts)
    add_system(app, parts)
    _add_probes(app, parts)
    app.mount("/static", StaticFiles(packages=[(PACKAGE, "static")]))
    return _Headers(Guard(app, parts.settings.gateway, parts.clients, parts.metrics), content_policy(parts.settings.dashboard.images))


def content_policy(images: tuple[str, ...]) -> str:
    """Return the Content-Security-Policy: nothing but what this server sends, and pictures as the settings allow."""
    pictures = " ".join(["'self'", *(f"{kind}:" for kind in images)])
    own = "; ".join(f"{kind}-src 'self'" for kind in ("script", "style", "connect"))
    return f"default-src 'none'; {own}; img-src {pictures}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


class _Headers:
    """Adds to each answer what browsers hold a page to."""

    def __init__(self, app: App, policy: str) -> None:
        self._app = app
        self._headers = [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"cross-origin-resource-policy", b"same-origin"),
        ]

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        await self._app(scope, receive, with_headers)


def _add_probes(app: FastAPI, parts: DashboardParts) -> None:
    @app.get("/live")
    async def live() -> Response:
        """Say whether the process answers."""
        stalled_s = parts.status.stalled_s()
        is_live = stalled_s <= parts.settings.health.max_age_s
        return Response(orjson.dumps({"live": is_live}), 200 if is_live else 503, media_type=JSON)

    @app.get("/ready")
    async def ready() -> Response:
        """Say whether pages can be answered now."""
        reasons = parts.status.reasons()
        return Response(orjson.dumps({"ready": not reasons, "reasons": reasons}), 503 if reasons else 200, media_type=JSON)


def _handle_failures(app: FastAPI, parts: DashboardParts) -> None:
    def answer(to_problem: Callable[[Any], Problem]) -> Callable[[Request, Exception], Awaitable[Response]]:
        async def answered(request: Request, error: Exception) -> Response:
            problem = to_problem(error)
            if request.scope["path"].startswith(API):
                body = problem.body(request.scope["state"]["request_id"])
                return Response(body, problem.status, media_type=JSON, headers={"cache-control": "no-store", **problem.headers})
            if problem.status == 401:
                path = request.scope["path"]
                return Response(status_code=303, headers={"location": f"/sign-in?next={quote(path, safe='')}", "cache-control": "no-store"})
            page = parts.pages.render(request, "error.html", status=problem.status, here="", message=problem.message)
            page.headers.update(problem.headers)
            return page

        return answered

    def unknown(error: HTTPException) -> Problem:
        return Problem(error.status_code, "there is nothing at this path", headers=dict(error.headers or {}))

    app.add_exception_handler(Problem, answer(lambda problem: problem))
    app.add_exception_handler(HTTPException, answer(unknown))
    app.add_exception_handler(Transient, answer(lambda error: away("not available now", error)))
    app.add_exception_handler(Fenced, answer(lambda error: away("not available now", error)))
    app.add_exception_handler(Fatal, answer(lambda error: away("not available", error)))
