"""Reads the records of a request's body: one JSON object, an array of them, or one a line (NDJSON)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import Request

from workers.web.problems import Problem

JSON_TYPES = frozenset({"application/json"})
LINE_TYPES = frozenset({"application/x-ndjson", "application/jsonl", "application/ndjson", "application/x-jsonlines"})


@dataclass(frozen=True, slots=True)
class Unparsed:
    """A line of a body that is no JSON; `why` says so."""

    why: str


async def read_json(request: Request) -> Any:
    """Return a body of one JSON value. Raises Problem."""
    if _media_type(request) not in JSON_TYPES:
        raise Problem(415, "Content-Type: send application/json", field="Content-Type")
    return _parsed(await request.body())


async def read_records(request: Request, most: int) -> tuple[Sequence[Any], bool]:
    """Return the records of a body, not checked, and whether it is a batch. Raises Problem."""
    media_type = _media_type(request)
    if media_type in LINE_TYPES:
        lines = [line for line in (await request.body()).split(b"\n") if line.strip()]
        _check_size(len(lines), most)
        return [_line(line) for line in lines], True
    if media_type not in JSON_TYPES:
        raise Problem(415, "Content-Type: send application/json, or application/x-ndjson for one record a line", field="Content-Type")
    found = _parsed(await request.body())
    if not isinstance(found, list):
        return [found], False
    _check_size(len(found), most)
    return found, True


def _check_size(n: int, most: int) -> None:
    if not n:
        raise Problem(422, "body: no record; send at least one", field="body")
    if n > most:
        raise Problem(413, f"body: {n} records; send at most {most} in one request (gateway.batch_records)", field="body")


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Problem(400, f"body: {_why(error)}", field="body") from None


def _line(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return Unparsed(_why(error))


def _why(error: orjson.JSONDecodeError) -> str:
    return f"no JSON at character {error.pos}; send UTF-8, and neither NaN nor Infinity"


def _media_type(request: Request) -> str:
    return str(request.headers.get("content-type", "")).partition(";")[0].strip().lower()
