"""Reads the scope, the origin and the fields of a request."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import Request

from workers.gateway_settings import Scope
from workers.web.access import Client, check_scope
from workers.web.dashboard.sign_in import check_same_origin
from workers.web.problems import Problem, wrong

MOST_BYTES = 65_536


def reading(request: Request, scope: Scope = "read") -> Client:
    """Return the client of a request that reads. Raises Problem without the scope."""
    return check_scope(request.scope["state"]["client"], scope)


async def writing(request: Request, scope: Scope) -> dict[str, Any]:
    """Return the fields of a request that changes something. Raises Problem without the scope, from another site, or without JSON."""
    check_scope(request.scope["state"]["client"], scope)
    check_same_origin(request.headers)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "Content-Type: send application/json", field="Content-Type")
    try:
        fields = orjson.loads(await body_of(request))
    except orjson.JSONDecodeError:
        raise wrong("body", "not JSON") from None
    if not isinstance(fields, dict):
        raise wrong("body", "not an object")
    return fields


async def body_of(request: Request) -> bytes:
    """Return the body. Raises Problem for one that is too large for a form."""
    body: bytes = await request.body()
    if len(body) > MOST_BYTES:
        raise Problem(413, f"body: larger than {MOST_BYTES} bytes", field="body")
    return body


def text_field(fields: dict[str, Any], name: str) -> str:
    """Return a field that is text. Raises Problem."""
    value = fields.get(name)
    if not isinstance(value, str) or not value or len(value.encode("utf-8", "surrogatepass")) > 1_024:
        raise wrong(name, "missing, or no text of at most 1024 bytes")
    return value
