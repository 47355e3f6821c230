"""The gateway as an ASGI application: its routes, and how failures become answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import metadata
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from prometheus_client.exposition import choose_encoder
from starlette.exceptions import HTTPException

from workers.errors import Fatal, Fenced, Transient
from workers.runtime.redaction import redact
from workers.web.answers import Liveness, Readiness
from workers.web.guard import App, Guard
from workers.web.list_routes import add_explanations, add_lists, add_sessions
from workers.web.parts import Parts, checked_id
from workers.web.post_routes import add_posts
from workers.web.problems import JSON, Problem, away
from workers.web.requests import REFUSALS, allowed, tagged
from workers.web.shortcut import PublishedShortcut

DESCRIPTION = """Lists of a recommender, over HTTP. A client sends its key as `Authorization: Bearer KEY`. Ids in paths are
percent-encoded, a slash in an id too. Every answer has `X-Request-Id`; every refusal names the field and the remedy. After 429 and 503
wait for `Retry-After` seconds."""
def build_app(parts: Parts) -> App:
    """Return the application that answers with these parts."""
    app = FastAPI(
        title="recsys-stream gateway",
        version=metadata.version("recsys-stream"),
        description=DESCRIPTION,
        docs_url=None,  # its scripts come from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    _handle_failures(app)
    _add_probes(app, parts)
    add_lists(app, parts)
    add_sessions(app, parts)
    add_explanations(app, parts)
    _add_items(app, parts)
    add_posts(app, parts)
    guarded: App = app
    if parts.settings.gateway.cors_origins:
        guarded = CORSMiddleware(
            app,
            allow_origins=list(parts.settings.gateway.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "if-none-match", "x-api-key", "x-request-id"],
            expose_headers=["etag", "retry-after", "x-request-id"],
            max_age=600,
        )
    shortcut = PublishedShortcut(parts.published)
    return Guard(guarded, parts.settings.gateway, parts.clients, parts.metrics, shortcut=shortcut)


def openapi_of(app: App) -> dict[str, Any]:
    """Return the OpenAPI description of an application that `build_app` made."""
    while not isinstance(app, FastAPI):
        app = app.app if isinstance(app, CORSMiddleware) else app._app  # type: ignore[attr-defined]
    found: dict[str, Any] = app.openapi()
    return found


def _add_items(app: FastAPI, parts: Parts) -> None:
    from schemas.related import BoughtTogether, SimilarItems

    @app.get("/v1/items/{item_id}/similar", response_model=SimilarItems, responses=REFUSALS, tags=["items"])
    async def similar(request: Request, item_id: str) -> Response:
        """Return items that are similar to an item: what users chose with it, and what is like it."""
        allowed(request, "read")
        return await tagged(request, parts.related.similar(checked_id("item_id", item_id)))

    @app.get("/v1/items/{item_id}/bought-together", response_model=BoughtTogether, responses=REFUSALS, tags=["items"])
    async def bought_together(request: Request, item_id: str) -> Response:
        """Return items that the same users chose. Needs `related.bought_together`."""
        allowed(request, "read")
        return await tagged(request, parts.related.bought_together(checked_id("item_id", item_id)))


def _add_probes(app: FastAPI, parts: Parts) -> None:
    max_stall_s = parts.settings.health.max_age_s

    @app.get("/live", response_model=Liveness, tags=["probes"])
    async def live() -> Response:
        """Say whether the process answers. Needs no key."""
        stalled_s = parts.status.stalled_s()
        reasons = [f"the event loop has stood still for {stalled_s:.0f} s"] if stalled_s > max_stall_s else []
        return _said(503 if reasons else 200, {"live": not reasons, "reasons": reasons})

    @app.get("/ready", response_model=Readiness, tags=["probes"])
    async def ready() -> Response:
        """Say whether lists can be answered now, and why not. Needs no key."""
        reasons = [redact(reason) for reason in parts.status.reasons()]
        return _said(503 if reasons else 200, {"ready": not reasons, "reasons": reasons, **parts.status.facts})

    @app.get("/metrics", responses=REFUSALS, tags=["probes"])
    async def metrics(request: Request) -> Response:
        """Return counts for Prometheus. `metrics.port` answers the same without a key."""
        allowed(request, "admin")
        encoder, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encoder(parts.metrics.registry), media_type=content_type, headers={"cache-control": "no-store"})


def _said(status: int, body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), status, media_type=JSON, headers={"cache-control": "no-store"})


def _handle_failures(app: FastAPI) -> None:
    def answer(to_problem: Callable[[Any], Problem]) -> Callable[[Request, Exception], Awaitable[Response]]:
        async def answered(request: Request, error: Exception) -> Response:
            problem = to_problem(error)
            body = problem.body(request.scope["state"]["request_id"])
            return Response(body, problem.status, media_type=JSON, headers={"cache-control": "no-store", **problem.headers})

        return answered

    def unknown(error: HTTPException) -> Problem:
        if error.status_code == 405:
            return Problem(405, "this method is not answered here: see /openapi.json", headers=dict(error.headers or {}))
        return Problem(error.status_code, "there is nothing at this path: see /openapi.json", headers=dict(error.headers or {}))

    def refused(error: RequestValidationError) -> Problem:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:]) or "request"
        return Problem(422, f"{field}: {first['msg']}", field=field)

    app.add_exception_handler(Problem, answer(lambda problem: problem))
    app.add_exception_handler(HTTPException, answer(unknown))
    app.add_exception_handler(RequestValidationError, answer(refused))
    app.add_exception_handler(Transient, answer(lambda error: away("not available now", error)))
    app.add_exception_handler(Fenced, answer(lambda error: away("not available now", error)))
    app.add_exception_handler(Fatal, answer(lambda error: away("not available now", error)))
    app.add_exception_handler(Exception, answer(lambda _: Problem(500, "an error of the gateway: look into its log for the request's id")))
