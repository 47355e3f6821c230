"""Settings of the HTTP gateway."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from workers.section import Positive, Section

Scope = Literal["read", "write", "admin"]
SHORTEST_KEY = 16


class ClientKey(Section):
    """One client of the gateway: its name in logs and metrics, its key, and what it may do."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    """Name of the client."""
    key: SecretStr
    """The key that the client sends, at least 16 characters."""
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)] = ("read",)
    """`read`: lists and lists of items. `write`: events, items and profiles. `admin`: both, explanations, and metrics."""

    @field_validator("key")
    @classmethod
    def _key_can_be_sent(cls, key: SecretStr) -> SecretStr:
        text = key.get_secret_value()
        if len(text) < SHORTEST_KEY or not all("!" <= character <= "~" for character in text):
            raise ValueError(f"key needs {SHORTEST_KEY} printable ASCII characters or more: make one with `openssl rand -hex 32`")
        return key


class GatewaySettings(Section):
    host: str = "127.0.0.1"
    """Address that the gateway is bound to. One beyond this machine needs `keys`."""
    port: Annotated[int, Field(ge=1, le=65_535)] = 8000
    """Port of the gateway."""
    keys: Annotated[tuple[ClientKey, ...], Field(max_length=1_000)] = ()
    """Clients and their keys: a list of maps with `name`, `key` (at least 16 characters) and `scopes` (`read`, `write`, `admin`). Without
    any, everybody on this machine may do everything, and only a loopback address can be bound."""
    requests_per_s: Annotated[float, Field(gt=0, le=1e6)] = 2_000.0
    """Requests a second of one client; beyond it, and a burst of two seconds, the answer is 429 with Retry-After."""
    records_per_s: Annotated[float, Field(gt=0, le=1e7)] = 20_000.0
    """Records a second that one client may post, with a burst of two seconds."""
    body_bytes: Annotated[int, Field(ge=65_536, le=1_073_741_824)] = 8_388_608
    """Largest body of a request; a larger one is refused with 413 before it is parsed."""
    batch_records: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    """Most records of one request."""
    unacknowledged: Positive = 50_000
    """Records that may wait for the broker at once, of all clients; beyond it the answer is 429."""
    cors_origins: tuple[Annotated[str, Field(pattern=r"^(https?://[^/*\s]+|\*)$")], ...] = ()
    """Origins of web pages whose scripts may call the gateway, such as ["https://shop.example"]. None: no page may."""
    held_mb: Annotated[int, Field(ge=1)] = 512
    """Memory for published lists, in MiB. Beyond it the lists that were read longest ago are dropped."""
    fresh_ms: Annotated[int, Field(ge=1, le=10_000)] = 50
    """How old the gateway's knowledge of the catalogue may be when it filters a list: availability, expiry and removals."""
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    """How long a request waits for Redis, or for room in the producer of Kafka, before the answer is 503 with Retry-After."""
    acknowledge_s: Annotated[float, Field(gt=0, le=300)] = 10.0
    """How long a request with records waits for the broker's acknowledgement, before the answer is 503 with Retry-After."""

    @model_validator(mode="after")
    def _keys_are_told_apart(self) -> GatewaySettings:
        names = [client.name for client in self.keys]
        if len(set(names)) < len(names) or len({client.key.get_secret_value() for client in self.keys}) < len(names):
            raise ValueError("keys has a name or a key twice: give each client its own")
        return self

    @model_validator(mode="after")
    def _a_batch_may_wait(self) -> GatewaySettings:
        if self.batch_records > self.unacknowledged:
            raise ValueError("batch_records is more than unacknowledged, so a full batch could never be taken: lower it")
        return self

    @model_validator(mode="after")
    def _strangers_need_a_key(self) -> GatewaySettings:
        if not self.keys and not is_loopback(self.host):
            raise ValueError("host is reached from other machines and keys is empty: set keys, or host to 127.0.0.1")
        return self


def is_loopback(host: str) -> bool:
    """Return whether an address or a name is this machine's own loopback."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
