"""Who uses the dashboard: a browser that signed in with a key of `gateway.keys`, or a program that sends one."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http.cookies import CookieError, SimpleCookie

from workers.gateway_settings import GatewaySettings
from workers.web.access import Client, Clients, TokenBucket
from workers.web.problems import Problem

COOKIE = "recsys_session"
LASTS_S = 12 * 3600
"""A browser signs in again after so long."""
MOST_SESSIONS = 1_000
TRIES_PER_S = 1.0
"""Keys that may be tried a second, by everybody together."""


class SignedInClients(Clients):
    """Clients by key, and by the cookie of a browser that has shown one."""

    def __init__(self, settings: GatewaySettings, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(settings, clock)
        self._clock = clock
        self._sessions: OrderedDict[bytes, tuple[float, Client]] = OrderedDict()
        self._tries = TokenBucket(TRIES_PER_S * 5, clock)

    def of(self, headers: Mapping[bytes, bytes]) -> Client | None:
        """Return who sent these headers; None for a browser that has not signed in. Raises Problem for a key that is not known."""
        if self.local is not None or b"authorization" in headers or b"x-api-key" in headers:
            return super().of(headers)
        held = self._sessions.get(_digest(cookie_of(headers)))
        return held[1] if held is not None and self._clock() < held[0] else None

    def sign_in(self, key: str) -> str:
        """Return the cookie of a new session. Raises Problem for a key that is not known, and where many are tried."""
        if wait_s := self._tries.take():
            raise Problem(429, "too many keys were tried: wait", retry_after_s=wait_s)
        client = super().of({b"x-api-key": key.strip().encode()})
        assert client is not None
        cookie = secrets.token_urlsafe(32)
        self._sessions[_digest(cookie)] = self._clock() + LASTS_S, client
        if len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return cookie

    def sign_out(self, headers: Mapping[bytes, bytes]) -> None:
        """End the session of these headers."""
        self._sessions.pop(_digest(cookie_of(headers)), None)


def cookie_of(headers: Mapping[bytes, bytes], name: str = COOKIE) -> str:
    """Return the value of a cookie; nothing where there is none."""
    try:
        held = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1")).get(name)
    except CookieError:
        return ""
    return "" if held is None else held.value


def check_same_origin(headers: Mapping[str, str]) -> None:
    """Raise Problem for a write that a page of another site may have sent: browsers say where a request comes from."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        allowed = site == "same-origin"
    elif origin is not None:
        allowed = origin.partition("://")[2] == headers.get("host")
    else:  # no browser: one sends at least one of them with a POST
        allowed = "authorization" in headers or "x-api-key" in headers or "cookie" not in headers
    if not allowed:
        raise Problem(403, "this request comes from a page of another site: use the dashboard's own pages")


def _digest(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode("utf-8", "replace")).digest()
