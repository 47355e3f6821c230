"""Common parts of routes: who may ask, which parameters there are, tags of answers."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from fastapi import Request, Response

from workers.gateway_settings import Scope
from workers.web.access import Client, check_scope
from workers.web.answers import Failure
from workers.web.problems import JSON, Problem
from workers.web.published import Body

REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": Failure, "description": "No key, or one that is not known"},
    403: {"model": Failure, "description": "The key lacks the scope"},
    404: {"model": Failure, "description": "There is no such thing"},
    422: {"model": Failure, "description": "A value is refused; the message names it"},
    429: {"model": Failure, "description": "Too many requests; wait for Retry-After seconds"},
    503: {"model": Failure, "description": "Redis or Kafka does not answer; try again after Retry-After seconds"},
}


def allowed(request: Request, scope: Scope, *parameters: str) -> Client:
    """Return the client. Raises Problem unless it has the scope, and every parameter of the query is one of these."""
    client = check_scope(request.scope["state"]["client"], scope)
    if request.scope["query_string"]:
        for name in request.query_params:
            if name not in parameters:
                known = f"there are {', '.join(parameters)}" if parameters else "there are none here"
                raise Problem(422, f"{name[:64]}: no such parameter; {known}", field=name[:64])
    return client


def tag_headers(body: Body) -> dict[str, str]:
    """Return the headers of an answer that its client may hold, and has to ask about each time."""
    return {"etag": body.tag, "cache-control": "private, no-cache", "vary": "authorization, x-api-key"}


def is_held(body: Body, if_none_match: str) -> bool:
    """Return whether a client holds an answer already, by the header that it sent."""
    if not if_none_match:
        return False
    return if_none_match.strip() == "*" or body.tag in (tag.strip().removeprefix("W/") for tag in if_none_match.split(","))


async def tagged(request: Request, made: Awaitable[Body]) -> Response:
    """Return an answer with its tag, or 304 without it where the client holds it already."""
    body = await made
    if is_held(body, request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=tag_headers(body))
    return Response(body.content, media_type=JSON, headers=tag_headers(body))
