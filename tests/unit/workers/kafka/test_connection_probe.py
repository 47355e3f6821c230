"""S8, S12: what a connection fails at is named. Servers here are a TLS echo and a few bytes of Kafka; tests/secure asks a real one."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.secure.certificates import KEY_PASSWORD, Certificates
from workers.errors import SettingsError, Transient, WorkerError
from workers.kafka.probe import probe
from workers.runtime.tls import tls_context
from workers.settings import load_settings

SASL = {"sasl_username": "u", "sasl_password": "hush"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@contextlib.contextmanager
def server(answer: Callable[[socket.socket], None], context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that hands each connection to `answer`, after a handshake if there is a context."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), connection:
                if context is not None:
                    connection = context.wrap_socket(connection, server_side=True)
                with connection:
                    answer(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def kafka(codes: dict[int, bytes]) -> Callable[[socket.socket], None]:
    """Answers requests by their key; hangs up at others."""

    def answer(connection: socket.socket) -> None:
        connection.settimeout(5)
        while True:
            head = connection.recv(4)
            if len(head) < 4:
                return
            (size,) = struct.unpack(">i", head)
            if size > 10_000:
                return
            request = connection.recv(size)
            key, _, number = struct.unpack_from(">hhi", request)
            if key not in codes:
                return
            body = struct.pack(">i", number) + codes[key]
            connection.sendall(struct.pack(">i", len(body)) + body)

    return answer


VERSIONS = struct.pack(">hi", 0, 2) + struct.pack(">hhh", 18, 0, 4) + struct.pack(">hhh", 3, 0, 12)
METADATA = b"\x00" * 20


def failure(port: int, host: str = "127.0.0.1", **settings: Any) -> str:
    """What the probe says; empty when all is well."""
    try:
        probe(load_settings(kafka={"bootstrap_servers": f"{host}:{port}", **settings}).kafka)
    except WorkerError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def test_a_broker_that_answers_passes() -> None:
    with server(kafka({18: VERSIONS, 3: METADATA})) as port:
        assert failure(port) == ""
        assert failure(port, bootstrap_servers=f"127.0.0.1:1,127.0.0.1:{port}") == "", "one of several is enough"


def test_servers_that_are_away_are_waited_for_and_no_setting_is_blamed() -> None:
    assert failure(1).startswith("Transient: no Kafka broker answers at 127.0.0.1:1 (Connection refused)")
    assert "has no address" in failure(1, host="nowhere.invalid")


@pytest.mark.parametrize("servers", ["", "nowhere", "host:port", "host:0", "host:99999", ":9092", "host:９"])
def test_an_address_that_is_none_is_a_wrong_setting(servers: str) -> None:
    assert failure(0, bootstrap_servers=servers).startswith("SettingsError: setting kafka.bootstrap_servers")


def test_tls_against_no_tls_names_the_protocol(files: Certificates) -> None:
    with server(kafka({18: VERSIONS, 3: METADATA}), server_context(files.authority.issue_cert("localhost"))) as port:
        assert "uses TLS: choose SSL or SASL_SSL" in failure(port)
    with server(kafka({18: VERSIONS, 3: METADATA})) as port:
        assert "does not use TLS: choose PLAINTEXT" in failure(port, security_protocol="SSL")


def test_certificates_name_ca_and_host(files: Certificates) -> None:
    with server(kafka({18: VERSIONS, 3: METADATA}), server_context(files.authority.issue_cert("localhost"))) as port:
        assert failure(port, "localhost", security_protocol="SSL", ssl_cafile=str(files.ca)) == ""
        assert "setting kafka.ssl_cafile" in failure(port, "localhost", security_protocol="SSL", ssl_cafile=str(files.other_ca))
        assert "setting kafka.ssl_cafile" in failure(port, "localhost", security_protocol="SSL")
        assert "another host name" in failure(port, "127.0.0.1", security_protocol="SSL", ssl_cafile=str(files.ca))


def test_a_missing_login_a_superfluous_one_and_another_mechanism_are_told_apart() -> None:
    offered = struct.pack(">hi", 33, 1) + struct.pack(">h", 13) + b"SCRAM-SHA-512"
    with server(kafka({18: VERSIONS})) as port:
        assert "wants a login: choose SASL_PLAINTEXT" in failure(port)
    with server(kafka({18: VERSIONS, 17: struct.pack(">hi", 34, 0)})) as port:
        assert "takes no login: choose PLAINTEXT" in failure(port, security_protocol="SASL_PLAINTEXT", **SASL)
    with server(kafka({18: VERSIONS, 17: offered})) as port:
        assert "choose SCRAM-SHA-512" in failure(port, security_protocol="SASL_PLAINTEXT", **SASL)


def test_a_refused_password_names_the_user_and_not_the_password() -> None:
    taken = struct.pack(">hi", 0, 1) + struct.pack(">h", 5) + b"PLAIN"
    refused = struct.pack(">hh", 58, -1) + struct.pack(">i", 0)
    with server(kafka({18: VERSIONS, 17: taken, 36: refused})) as port:
        said = failure(port, security_protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN", **SASL)
    assert said.startswith("SettingsError: setting kafka.sasl_password") and "user u" in said and "hush" not in said


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x00\x00\x05\x00\x00\x00\x01\x00", b"\xff" * 64])
def test_a_server_of_another_kind_is_no_wrong_setting_and_no_traceback(answer: bytes) -> None:
    def say(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(answer)

    with server(say) as port:
        assert failure(port).startswith("Transient: ")


def test_each_way_in_which_certificate_files_are_wrong_is_named(files: Certificates, tmp_path: Path) -> None:
    """S12: an encrypted key never waits for a terminal."""
    pair = {"ssl_certfile": files.client_certificate, "ssl_keyfile": files.client_key}
    encrypted = {"ssl_certfile": files.client_certificate, "ssl_keyfile": files.encrypted_key}
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for values, setting in (
        ({"ssl_cafile": tmp_path / "none.pem"}, "kafka.ssl_cafile"),
        ({"ssl_cafile": empty}, "kafka.ssl_cafile"),
        ({"ssl_cafile": tmp_path}, "kafka.ssl_cafile"),
        ({"ssl_keyfile": files.client_key}, "kafka.ssl_keyfile"),
        ({**pair, "ssl_keyfile": files.server_key}, "kafka.ssl_keyfile"),
        ({**pair, "ssl_certfile": empty}, "kafka.ssl_certfile"),
        (encrypted, "kafka.ssl_key_password"),
        ({**encrypted, "ssl_key_password": "wrong"}, "kafka.ssl_key_password"),
        ({**encrypted, "ssl_key_password": "x" * 5000}, "kafka.ssl_key_password"),
    ):
        settings = load_settings(kafka={"security_protocol": "SSL", **values}).kafka
        with pytest.raises(SettingsError, match=f"^setting {setting}: "):
            tls_context("kafka", settings)
    for values in (pair, {**encrypted, "ssl_key_password": KEY_PASSWORD}):
        assert tls_context("kafka", load_settings(kafka={"security_protocol": "SSL", **values}).kafka)


def test_a_server_that_never_answers_is_given_up_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.kafka.probe.SERVER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Transient, match="does not answer"):
        probe(load_settings(kafka={"bootstrap_servers": f"127.0.0.1:{silent.getsockname()[1]}"}).kafka)
