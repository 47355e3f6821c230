"""Routes that take records: events, items, profiles."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from schemas import Event, Item, UserProfile
from workers.web.answers import EventsTaken, Failure, RecordsTaken
from workers.web.bodies import read_records
from workers.web.bridge import Kind, answer_of
from workers.web.parts import Parts
from workers.web.problems import JSON
from workers.web.requests import REFUSALS, allowed

FILLED_IN = ("event_id", "event_ts_ms")
"""Fields of an event that the gateway fills in: a new id, and the time."""
BODY_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Failure, "description": "The body is no JSON"},
    413: {"model": Failure, "description": "The body is too large, or has too many records"},
    415: {"model": Failure, "description": "The type of the body is not read"},
}
_RESPONSES = {code: said for code, said in (REFUSALS | BODY_REFUSALS).items() if code != 404}


def add_posts(app: FastAPI, parts: Parts) -> None:
    """Add the routes."""

    async def taken(request: Request, kind: Kind) -> Response:
        client = allowed(request, "write")
        records, is_batch = await read_records(request, parts.settings.gateway.batch_records)
        outcome = await parts.bridge.take(kind, records, client, is_batch=is_batch)
        return Response(answer_of(outcome, kind), 202, media_type=JSON, headers={"cache-control": "no-store"})

    about: dict[str, Any] = {"status_code": 202, "responses": _RESPONSES, "tags": ["records"]}

    @app.post("/v1/events", response_model=EventsTaken, openapi_extra=body_of(Event, FILLED_IN), **about)
    async def events(request: Request) -> Response:
        """Publish events. One that is sent again with the same `event_id` counts once. Good records of a batch are taken, others named."""
        return await taken(request, "events")

    @app.post("/v1/items", response_model=RecordsTaken, openapi_extra=body_of(Item), **about)
    async def items(request: Request) -> Response:
        """Publish items of the catalogue; each replaces the item of its id."""
        return await taken(request, "items")

    @app.post("/v1/users", response_model=RecordsTaken, openapi_extra=body_of(UserProfile), **about)
    async def users(request: Request) -> Response:
        """Publish profiles; each replaces the profile of its user. `merged_into` says under which id a user goes on."""
        return await taken(request, "users")


def body_of(model: type[BaseModel], filled_in: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the description of a body that is one record, an array of them, or one a line."""
    schema = inlined(model.model_json_schema())
    schema["required"] = [name for name in schema.get("required", ()) if name not in filled_in]
    batch = {"type": "array", "items": schema, "minItems": 1}
    content = {"application/json": {"schema": {"oneOf": [schema, batch]}}, "application/x-ndjson": {"schema": {"type": "string"}}}
    return {"requestBody": {"required": True, "content": content}}


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON schema with its definitions in the places that refer to them, since OpenAPI has another place for them."""
    definitions = schema.get("$defs", {})

    def put_in(part: Any) -> Any:
        if isinstance(part, list):
            return [put_in(one) for one in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            rest = {name: one for name, one in part.items() if name != "$ref"}
            return put_in(definitions[part["$ref"].rpartition("/")[2]] | rest)
        return {name: put_in(one) for name, one in part.items() if name != "$defs"}

    found: dict[str, Any] = put_in(schema)
    return found
