"""Secured servers for the whole run, with one principal per role and exactly the rights of docs/security.md."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.secure.certificates import Certificates
from tests.secure.servers import SecureKafka, SecureRedis, allowed, redis_server
from workers.cli import app as tree
from workers.kafka.rights import ROLES, Right, Role, kafka_rights, redis_acl
from workers.local.embedded import environment
from workers.settings import Settings, load_settings

REDIS_PASSWORD = "r3d:is/pass 7%"
PARTITIONS = 2


def password_of(role: str) -> str:
    """Return a password with characters that are special in URLs, JSON and shells."""
    return f"{role}-p@ss:w/rd 7%"


class Secured:
    """Both servers, and the settings with which each role reaches them."""

    def __init__(self, kafka: SecureKafka, redis: SecureRedis, certificates: Certificates, folder: Path) -> None:
        self.kafka, self.redis, self.certificates, self.folder = kafka, redis, certificates, folder

    def sections(self, role: Role, **more: Mapping[str, Any]) -> dict[str, Any]:
        """Return setting sections of a role; `more` adds to them."""
        found: dict[str, Any] = {
            "kafka": {
                "bootstrap_servers": self.kafka.secure,
                "security_protocol": "SASL_SSL",
                "sasl_username": role,
                "sasl_password": password_of(role),
                "ssl_cafile": str(self.certificates.ca),
                "session_timeout_ms": 20_000,
            },
            "topics": {"partitions": PARTITIONS},
            "redis": {
                "url": f"rediss://localhost:{self.redis.port}/0",
                "ssl_ca_certs": str(self.certificates.ca),
                "username": "recsys",
                "password": REDIS_PASSWORD,
            },
            "state": {"item_groups": 2},
            "lists": {"weights": {"cooccurrence": 1.0, "content": 1.4, "popular": 0.0, "trending": 0.02, "new": 0.02}},
            "trainer": {
                "log_url": str(self.folder / "log"),
                "model_url": str(self.folder / "models"),
                "kinds": ["popular"],
                "min_events": 100,
                "min_targets": 1,
                "every_s": 5.0,
            },
        }
        for section, values in more.items():
            found[section] = {**found.get(section, {}), **values}
        return found

    def settings(self, role: Role, **more: Mapping[str, Any]) -> Settings:
        return load_settings(**self.sections(role, **more))

    def env(self, role: Role, **more: Mapping[str, Any]) -> dict[str, str]:
        """Return the whole environment of a child process."""
        outside = {name: value for name, value in os.environ.items() if not name.startswith("RECSYS_")}
        return {**outside, "RECSYS_CONFIG": os.devnull, **environment(self.sections(role, **more))}

    def take(self, role: Role, right: Right) -> None:
        """Revoke one right."""
        self.kafka.remove(allowed(role, right.operation, right.resource, right.name))

    def grant(self, role: Role, *rights: Right) -> None:
        """Grant rights."""
        self.kafka.allow([allowed(role, right.operation, right.resource, right.name) for right in rights])

    def set_redis_user(self, *more: str) -> None:
        """Create the Redis user of docs/security.md; `more` rules follow its own."""
        self.redis.command("ACL", "SETUSER", "recsys", "reset", "on", f">{REDIS_PASSWORD}", *redis_acl(self.settings("stream")), *more)


@dataclass(frozen=True)
class Ran:
    """The result of one command line."""

    code: int
    out: str
    err: str
    seconds: float


Run = Callable[..., Ran]


@pytest.fixture
def run(secured: Secured, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process as a role. `more` settings by section come on top; None removes one."""

    def running(role: Role, *arguments: str, **more: Any) -> Ran:
        for name, value in secured.env(role, **more).items():
            if name.startswith("RECSYS_"):
                monkeypatch.setenv(name, value)
        for section, values in more.items():
            for name, value in values.items():
                if value is None:
                    monkeypatch.delenv(f"RECSYS_{section}__{name}".upper(), raising=False)
        capfd.readouterr()
        started_s = time.monotonic()
        code = tree.run(list(arguments))
        seconds = time.monotonic() - started_s
        said = capfd.readouterr()
        return Ran(code, said.out, said.err, seconds)

    return running


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Start the servers with users and rights; topics do not exist yet."""
    home, program = os.environ.get("KAFKA_HOME"), redis_server()
    if not home or not (Path(home) / "bin" / "kafka-server-start.sh").exists():
        pytest.skip("KAFKA_HOME names no Apache Kafka")
    if shutil.which("java") is None:
        pytest.skip("Apache Kafka needs Java 17, and there is no java on the PATH")
    if program is None:
        pytest.skip("there is no Redis server with TLS: install redis-server, or set RECSYS_TEST_REDIS_SERVER")
    folder = tmp_path_factory.mktemp("secure")
    certificates = Certificates(folder / "certificates")
    with (
        SecureKafka(Path(home).resolve(), folder / "kafka", certificates) as kafka,
        SecureRedis(program, folder / "redis", certificates) as redis,
    ):
        made = Secured(kafka, redis, certificates, folder)
        made.set_redis_user()
        for role in ROLES:
            kafka.set_password(role, password_of(role))
            made.grant(role, *kafka_rights(made.settings(role), role))
        yield made
