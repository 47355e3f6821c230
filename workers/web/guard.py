"""The outermost layer of the gateway: what every request passes before a route sees it.

    request id ▸ host ▸ path as it was sent ▸ encoding and size of the body ▸ client ▸ rate ▸ route

It is plain ASGI: frameworks' own middleware costs as much as the rest of a request for a published list.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import Any, Protocol

from workers.errors import WorkerError
from workers.gateway_settings import GatewaySettings, is_loopback
from workers.web.access import Clients
from workers.web.gateway_metrics import GatewayMetrics
from workers.web.problems import JSON, Problem, away

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


class Shortcut(Protocol):
    """Answers the most frequent requests beside the application, whose routing costs several times as much as they do."""

    path: str
    """The route that it stands for."""

    def __call__(self, scope: Scope, headers: dict[bytes, bytes]) -> Awaitable[tuple[int, Headers, bytes]] | None:
        """Return what answers a checked request with status, headers and body; None if the application does. Raises Problem."""
        ...


LONGEST_PATH = 4_096
"""Bytes of a path: two ids of 128 bytes, percent-encoded, take 800."""
LONGEST_QUERY = 16_384
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
OPEN_PATHS = frozenset({"/live", "/ready"})
"""Paths that need no key: probes have none."""
NO_ROUTE = "none"


class Guard:
    """Checks requests before the application sees them, and answers those that it refuses."""

    def __init__(
        self,
        app: App,
        settings: GatewaySettings,
        clients: Clients,
        metrics: GatewayMetrics,
        *,
        shortcut: Shortcut | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shortcut = shortcut
        self._app, self._settings, self._clients, self._metrics, self._clock = app, settings, clients, metrics, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s = self._clock()
        headers = dict(scope["headers"])
        request_id = _request_id(headers.get(b"x-request-id"))
        is_head = scope["method"] == "HEAD"
        answer = _Answer(send, request_id, is_head)
        scope.setdefault("state", {})["request_id"] = request_id
        try:
            self._check(scope, headers)
            if is_head:
                scope["method"] = "GET"
            if self._shortcut is not None and (answering := self._shortcut(scope, headers)) is not None:
                scope["route"] = self._shortcut
                await answer.send_body(*await answering)
            else:
                await self._app(scope, _bounded(receive, self._settings.body_bytes), answer)
        except Problem as problem:
            await answer.refuse(problem)
        except WorkerError as error:
            await answer.refuse(away("not available now", error))
        except Exception:
            log.exception("request %s failed", request_id)
            await answer.refuse(Problem(500, "an error of the gateway: look into its log for the request's id"))
        finally:
            route = scope.get("route")
            name = NO_ROUTE if route is None else str(getattr(route, "path", NO_ROUTE))
            self._metrics.note_request(name, answer.status, self._clock() - began_s)

    def _check(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Raise Problem for a request that no route should see. Leaves the client and the path as it was sent in the scope."""
        path = scope.get("raw_path") or scope["path"].encode()
        if len(path) > LONGEST_PATH or len(scope["query_string"]) > LONGEST_QUERY:
            raise Problem(414, f"the path is longer than {LONGEST_PATH} bytes, or the query than {LONGEST_QUERY}: an id has 128 at most")
        scope["path"] = path.decode("latin-1")  # percent-encoded: an id may hold a slash, which would end it for the router
        if self._clients.local is not None and not _is_local(headers.get(b"host", b"")):
            raise Problem(421, "without gateway.keys only requests to 127.0.0.1 or localhost are answered: set keys")
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding not in (b"", b"identity"):
            raise Problem(415, "Content-Encoding: compressed bodies are not read; send it as it is", field="Content-Encoding")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            raise Problem(400, "Content-Length: got no whole number", field="Content-Length")
        if int(length[:19]) > self._settings.body_bytes:
            raise too_large(self._settings.body_bytes)
        client = None if scope["path"] in OPEN_PATHS else self._clients.of(headers)
        if client is not None and (wait_s := client.requests.take()):
            raise Problem(429, f"client {client.name} asks for more than gateway.requests_per_s: wait", retry_after_s=wait_s)
        scope["state"]["client"] = client


class _Answer:
    """Sends an answer with the request's id, and without a body to HEAD; knows the status."""

    def __init__(self, send: Send, request_id: str, is_head: bool) -> None:
        self._send, self._request_id, self._is_head = send, request_id, is_head
        self.status, self._has_begun = 500, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self._has_begun = message["status"], True
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self._request_id.encode())]
        elif message["type"] == "http.response.body" and self._is_head:
            message = {**message, "body": b""}
        await self._send(message)

    async def send_body(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer."""
        await self({"type": "http.response.start", "status": status, "headers": [*headers, (b"content-length", b"%d" % len(body))]})
        await self({"type": "http.response.body", "body": body})

    async def refuse(self, problem: Problem) -> None:
        """Send a problem, unless an answer has begun."""
        if self._has_begun:
            return
        body = problem.body(self._request_id)
        headers = {"content-type": JSON, "cache-control": "no-store", **problem.headers}
        await self.send_body(problem.status, [(name.encode(), text.encode("latin-1", "replace")) for name, text in headers.items()], body)


def too_large(limit: int) -> Problem:
    """Return the answer to a body that is too large."""
    return Problem(413, f"body: larger than {limit} bytes; send smaller batches, or raise gateway.body_bytes", field="body")


def _bounded(receive: Receive, limit: int) -> Receive:
    """Return a reader of the body that raises Problem once there is more than `limit`, whatever its length was said to be."""
    n_bytes = 0

    async def bounded() -> Message:
        nonlocal n_bytes
        message = await receive()
        n_bytes += len(message.get("body", b""))
        if n_bytes > limit:
            raise too_large(limit)
        return message

    return bounded


def _request_id(given: bytes | None) -> str:
    return given.decode() if given is not None and REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


@lru_cache(256)
def _is_local(host: bytes) -> bool:
    """Return whether a Host header names this machine: a page of another site may have a name that leads here."""
    name = host.decode("latin-1")
    name = name[: name.rfind("]") + 1] if name.startswith("[") else name.partition(":")[0]
    return is_loopback(name)
