"""GET /live, /ready and /metrics of one worker, on `metrics.port`; every other path is 404.

`/live`: 503 when the event loop has stood still for `health.max_age_s`: restart the worker. `/ready`: 503, with the reasons, while the
worker waits for something: Kafka, Redis, a right, its partitions, or deferred lists. A worker that is not ready recovers by itself.
"""

from __future__ import annotations

import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client.exposition import choose_encoder

from workers.errors import SettingsError
from workers.runtime.redaction import redact
from workers.runtime.status import WorkerStatus
from workers.settings import MetricsSettings

REQUEST_S = 10.0
"""A client that sends its request slower than this is cut off."""


class StatusServer:
    """Answers in a thread of its own from `start` to `stop`. Listens nowhere when `metrics.port` is 0."""

    def __init__(self, status: WorkerStatus, settings: MetricsSettings, *, max_stall_s: float) -> None:
        self._status, self._settings, self._max_stall_s = status, settings, max_stall_s
        self._server: ThreadingHTTPServer | None = None

    @property
    def port(self) -> int | None:
        """The port it listens on."""
        return None if self._server is None else int(self._server.server_address[1])

    def start(self) -> None:
        """Listen. Raises SettingsError when the port cannot be had."""
        if not self._settings.port:
            return
        handler = type("Handler", (_Handler,), {"status": self._status, "max_stall_s": self._max_stall_s})
        try:
            self._server = _Server((self._settings.host, self._settings.port), handler)
        except OSError as error:
            at = f"{self._settings.host}:{self._settings.port}"
            raise SettingsError(
                f"setting metrics.port: {at} cannot be listened on ({error.strerror or type(error).__name__}): choose another port or host"
            ) from None
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, name="status", daemon=True).start()

    def stop(self) -> None:
        """Stop listening."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error of ours."""


class _Handler(BaseHTTPRequestHandler):
    status: WorkerStatus
    max_stall_s: float
    server_version, sys_version = "recsys", ""
    protocol_version = "HTTP/1.1"
    timeout = REQUEST_S

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/live":
            self._live()
        elif path == "/ready":
            reasons = [redact(reason) for reason in self.status.reasons()]
            code = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
            self._say(code, {"ready": not reasons, "reasons": reasons, **self.status.facts})
        elif path == "/metrics" and self.status.registry is not None:
            encoder, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._send(HTTPStatus.OK, encoder(self.status.registry), content_type)
        elif path == "/metrics":
            self._send(HTTPStatus.OK, b"", "text/plain; charset=utf-8")
        else:
            self._say(HTTPStatus.NOT_FOUND, {"error": "there are /live, /ready and /metrics"})

    do_HEAD = do_GET

    def _live(self) -> None:
        stalled_s = self.status.stalled_s()
        if stalled_s > self.max_stall_s:
            self._say(HTTPStatus.SERVICE_UNAVAILABLE, {"live": False, "reasons": [f"the event loop has stood still for {stalled_s:.0f} s"]})
        else:
            self._say(HTTPStatus.OK, {"live": True, "reasons": []})

    def _say(self, code: HTTPStatus, body: dict[str, Any]) -> None:
        self._send(code, json.dumps(body, ensure_ascii=False).encode() + b"\n", "application/json")

    def _send(self, code: HTTPStatus, body: bytes, content_type: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Requests are not logged."""
