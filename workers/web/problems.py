"""Refusals as the gateway sends them: a status, one line that says what is wrong and what to do, and the field that it is about."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson

from workers.errors import one_line
from workers.runtime.redaction import redact

RETRY_AFTER_S = 1.0
"""Seconds after which a client should try again what failed because something was away."""
JSON = "application/json"


class Problem(Exception):
    """A request that is refused or cannot be answered now."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        field: str | None = None,
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.field, self.more = status, message, field, dict(more or {})
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["retry-after"] = str(max(1, math.ceil(retry_after_s)))

    def body(self, request_id: str) -> bytes:
        """Return the problem as JSON."""
        said: dict[str, Any] = {"error": self.message, "request_id": request_id}
        if self.field is not None:
            said["field"] = self.field
        return orjson.dumps(said | self.more)


def away(what: str, error: BaseException) -> Problem:
    """Return the answer while something that the gateway needs does not answer: try again."""
    return Problem(503, f"{what}: {redact(one_line(error))}; try again", retry_after_s=RETRY_AFTER_S)


def wrong(field: str, message: str) -> Problem:
    """Return the answer to a value that is refused."""
    return Problem(422, f"{field}: {message}", field=field)
