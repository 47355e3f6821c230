"""A Kafka with SASL_SSL, SCRAM and an authorizer, and a Redis with TLS and ACL users, for `make test-secure`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    KafkaAdminClient,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.kafka_home import KafkaHome, wait_until_listening
from tests.secure.certificates import HOST_NAME, Certificates
from workers.local.embedded import HOST, Child, free_port

LOGIN_MODULE = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
START_TIMEOUT_S = 15.0


class SecureKafka:
    """One node: `secure` (SASL_SSL, SCRAM-SHA-256), `tls` (client certificates), `sasl` (SASL_PLAINTEXT), and a plain listener
    whose anonymous user may do everything, for the tests' own administration."""

    def __init__(self, home: Path, folder: Path, certificates: Certificates) -> None:
        self.secure, self.tls, self.sasl = (f"{HOST_NAME}:{free_port()}" for _ in range(3))
        store = {"type": "PEM", "location": certificates.key_store}
        self.node = KafkaHome(
            home,
            folder,
            listeners=[f"SASL_SSL://{self.secure}", f"SSL://{self.tls}", f"SASL_PLAINTEXT://{self.sasl}"],
            more={
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS",
                "sasl.enabled.mechanisms": "SCRAM-SHA-256",
                "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": LOGIN_MODULE,
                "listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config": LOGIN_MODULE,
                "ssl.keystore.type": store["type"],
                "ssl.keystore.location": store["location"],
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": certificates.ca,
                "listener.name.ssl.ssl.client.auth": "required",
            },
        )
        self._admin: KafkaAdminClient | None = None

    @property
    def plain(self) -> str:
        return self.node.bootstrap_servers

    @property
    def admin(self) -> KafkaAdminClient:
        if self._admin is None:
            self._admin = KafkaAdminClient(bootstrap_servers=self.plain)
        return self._admin

    def set_password(self, user: str, password: str) -> None:
        """Create a SCRAM user or change its password."""
        self.admin.alter_user_scram_credentials([UserScramCredentialUpsertion(user, ScramMechanism.SCRAM_SHA_256, password)])

    def allow(self, acls: Iterable[ACL]) -> None:
        """Grant rights. Raises: AssertionError when the broker refuses one."""
        answer = self.admin.create_acls(list(acls))
        assert not answer["failed"], answer

    def deny_all(self, principal: str | None = None) -> None:
        """Remove all rights of one principal, or of everyone."""
        self.admin.delete_acls([acl_filter(principal)])

    def remove(self, acl: ACL) -> None:
        """Revoke one right."""
        pattern = acl.resource_pattern
        self.admin.delete_acls([ACLFilter(acl.principal, acl.host, acl.operation, acl.permission_type, pattern)])

    def __enter__(self) -> Self:
        self.node.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._admin is not None:
            self._admin.close()
        self.node.kill()


def acl_filter(principal: str | None) -> ACLFilter:
    anything = ResourcePatternFilter(ResourceType.ANY, None, pattern_type=ACLResourcePatternType.ANY)
    return ACLFilter(principal, "*", ACLOperation.ANY, ACLPermissionType.ANY, anything)


def allowed(user: str, operation: str, resource: str, name: str) -> ACL:
    """Return an ACL entry that allows one operation."""
    return ACL(
        f"User:{user}",
        "*",
        ACLOperation["DESCRIBE_CONFIGS" if operation == "DescribeConfigs" else operation.upper()],
        ACLPermissionType.ALLOW,
        ResourcePattern(ResourceType[resource.upper()], name),
    )


def redis_server() -> Path | None:
    """Return a Redis server with TLS: RECSYS_TEST_REDIS_SERVER, `redis-server`, or Debian's redis-tools (one program for all)."""
    for name in (os.environ.get("RECSYS_TEST_REDIS_SERVER"), "redis-server", "redis-check-rdb"):
        if name and (found := shutil.which(name)):
            return Path(found)
    return None


class SecureRedis:
    """A Redis with a TLS port, a plain port and ACL users; `admin` may do everything."""

    ADMIN = ("admin", "adm1n")

    def __init__(self, program: Path, folder: Path, certificates: Certificates) -> None:
        self.port, self.plain_port = free_port(), free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._certificates = folder, certificates
        self._program = folder / "redis-server"
        self._program.symlink_to(program.resolve())  # the program goes by its name
        self.child: Child | None = None

    def start(self) -> Self:
        """Start the server and wait until it accepts connections."""
        files = self._certificates
        command: list[str | Path] = [
            self._program,
            str(self._users()),
            *("--port", str(self.plain_port), "--tls-port", str(self.port), "--bind", HOST, "--dir", str(self._folder)),
            *("--tls-cert-file", str(files.server_certificate), "--tls-key-file", str(files.server_key)),
            *("--tls-ca-cert-file", str(files.ca), "--tls-auth-clients", "optional", "--save", "", "--appendonly", "no"),
        ]
        self.child = Child.start("redis", command, self._folder / "redis.log", dict(os.environ))
        wait_until_listening(self.child, self.plain_port)
        return self

    def _users(self) -> Path:
        """Write a file with the two initial users: arguments must not contain spaces."""
        name, password = self.ADMIN
        file = self._folder / "redis.conf"
        file.write_text(f"user default off\nuser {name} on >{password} ~* &* +@all\n")
        return file

    def command(self, *words: str) -> Any:
        """Run one command as the administrator."""
        import redis

        with redis.Redis(host=HOST, port=self.plain_port, username=self.ADMIN[0], password=self.ADMIN[1], decode_responses=True) as client:
            return client.execute_command(*words)

    def kill(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()
