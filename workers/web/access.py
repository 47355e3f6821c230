"""Who a request is from, and how much a client may ask for.

Keys are compared by their digests, all of them and in constant time, so that the time of an answer says nothing about a key.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from workers.gateway_settings import GatewaySettings, Scope
from workers.web.problems import Problem

BURST_S = 2.0
"""A client that was quiet may ask for so many seconds' worth at once."""
ALL_SCOPES: frozenset[Scope] = frozenset({"read", "write", "admin"})
LOCAL = "local"
"""Name of everybody on this machine, where there are no keys."""


class TokenBucket:
    """Allows `per_s` a second, and a burst of `BURST_S` seconds."""

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._most, self._clock = per_s, max(1.0, per_s * BURST_S), clock
        self._left, self._looked_s = self._most, clock()

    def take(self, n: float = 1.0) -> float:
        """Take `n` and return 0, or take nothing and return the seconds until they are there. More than a burst waits for a full one."""
        now_s = self._clock()
        self._left = min(self._most, self._left + (now_s - self._looked_s) * self._per_s)
        self._looked_s = now_s
        wanted = min(n, self._most)
        if self._left < wanted:
            return (wanted - self._left) / self._per_s
        self._left -= n
        return 0.0


@dataclass(slots=True)
class Client:
    """A client of the gateway, what it may do, and what is left of its rates."""

    name: str
    scopes: frozenset[Scope]
    requests: TokenBucket = field(repr=False)
    records: TokenBucket = field(repr=False)

    def may(self, scope: Scope) -> bool:
        """Return whether this client has a scope; admin has all."""
        return scope in self.scopes or "admin" in self.scopes


class Clients:
    """The clients of the settings."""

    def __init__(self, settings: GatewaySettings, clock: Callable[[], float] = time.monotonic) -> None:
        def client(name: str, scopes: frozenset[Scope]) -> Client:
            return Client(name, scopes, TokenBucket(settings.requests_per_s, clock), TokenBucket(settings.records_per_s, clock))

        self._by_digest = [(_digest(one.key.get_secret_value()), client(one.name, frozenset(one.scopes))) for one in settings.keys]
        self.local = None if settings.keys else client(LOCAL, ALL_SCOPES)
        """Everybody, where there are no keys."""

    def of(self, headers: Mapping[bytes, bytes]) -> Client | None:
        """Return who sent these headers; None without a key. Raises Problem for a key that is not known."""
        if self.local is not None:
            return self.local
        presented = _presented(headers)
        if presented is None:
            return None
        digest, found = hashlib.sha256(presented).digest(), None
        for known, client in self._by_digest:
            if hmac.compare_digest(known, digest):
                found = client
        if found is None:
            raise unauthorized("this key is not known: send one of gateway.keys")
        return found


def check_scope(client: Client | None, scope: Scope) -> Client:
    """Return the client if it may do what needs this scope. Raises Problem."""
    if client is None:
        raise unauthorized("a key is missing: send `Authorization: Bearer KEY`")
    if not client.may(scope):
        raise Problem(403, f"client {client.name} lacks the scope {scope}: add it in gateway.keys")
    return client


def unauthorized(message: str) -> Problem:
    """Return the answer to a request without a key that is known."""
    return Problem(401, message, headers={"www-authenticate": 'Bearer realm="recsys"'})


def _presented(headers: Mapping[bytes, bytes]) -> bytes | None:
    given = headers.get(b"authorization")
    if given is None:
        return headers.get(b"x-api-key")
    scheme, _, key = given.partition(b" ")
    if scheme.lower() != b"bearer":
        raise unauthorized("this kind of login is not known: send `Authorization: Bearer KEY`")
    return key.strip()


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
