"""Asks a Kafka broker, over one short connection, whether these settings can talk to it, and says which of them is wrong if not.

The clients report a wrong password, certificate, host name, mechanism or protocol alike as "no connection", after half a minute. So the
same steps are taken here one by one, with a deadline of a few seconds: name, TCP, TLS, protocol, login. SASL's own messages come from
kafka-python; the requests that carry them are encoded here, since no client lets one look between its steps.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from workers.errors import SettingsError, Transient, WorkerError
from workers.runtime.tls import tls_context
from workers.settings import KafkaSettings

SERVER_S = 3.0
"""Most that one step at one server may take."""
TOTAL_S = 8.0
"""Most that all servers together may take."""
MAX_ANSWER_BYTES = 1_048_576
CLIENT_ID = b"recsys"
SASL_HANDSHAKE, API_VERSIONS, METADATA, SASL_AUTHENTICATE = 17, 18, 3, 36
UNSUPPORTED_MECHANISM, ILLEGAL_SASL_STATE, AUTHENTICATION_FAILED = 33, 34, 58
_CERTIFICATE_ALERTS = ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "UNKNOWN_CA", "CERTIFICATE_UNKNOWN", "HANDSHAKE_FAILURE", "ACCESS_DENIED")


class _Closed(Exception):
    """The other side ended the connection, or answered with something that is no Kafka."""


@dataclass(frozen=True, slots=True)
class _Place:
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def places_of(kafka: KafkaSettings) -> list[_Place]:
    """Return the bootstrap servers. Raises SettingsError when one is not host:port."""
    places = []
    for server in filter(None, (part.strip() for part in kafka.bootstrap_servers.split(","))):
        host, _, port = server.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
            raise SettingsError("setting kafka.bootstrap_servers: give host:port, separated by commas")
        places.append(_Place(host.strip("[]"), int(port)))
    if not places:
        raise SettingsError("setting kafka.bootstrap_servers: no address is given; give host:port, separated by commas")
    return places


def probe(kafka: KafkaSettings) -> None:
    """Return when some bootstrap server takes these settings.

    Raises: SettingsError naming the setting that is wrong, Transient when no server answers. Of several servers the most telling
    failure counts: a refused login says more than a server that is down.
    """
    context = tls_context("kafka", kafka) if kafka.security_protocol.endswith("SSL") else None
    deadline = time.monotonic() + TOTAL_S
    failures: list[WorkerError] = []
    for place in places_of(kafka):
        try:
            _probe_place(place, kafka, context, deadline)
            return
        except WorkerError as error:
            failures.append(error)
    raise next((failure for failure in failures if isinstance(failure, SettingsError)), failures[0])


def _probe_place(place: _Place, kafka: KafkaSettings, context: ssl.SSLContext | None, deadline: float) -> None:
    with _connected(place, deadline) as raw:
        if context is None:
            connection = _Connection(raw)
            stream: socket.socket = raw
        else:
            stream = _encrypted(raw, place, kafka, context)
            connection = _Connection(stream)
        try:
            _converse(connection, place, kafka)
        except ssl.SSLError as error:
            raise _after_handshake(error, place, kafka) from None
        except TimeoutError:
            raise _silent(place) from None
        except (_Closed, OSError):
            raise _unexpected_end(place, kafka) from None
        finally:
            if stream is not raw:
                stream.close()


@contextmanager
def _connected(place: _Place, deadline: float) -> Iterator[socket.socket]:
    """Connect by TCP. Raises Transient that says why it does not work."""
    left_s = max(0.2, min(SERVER_S, deadline - time.monotonic()))
    try:
        raw = socket.create_connection((place.host, place.port), left_s)
    except socket.gaierror:
        raise Transient(
            f"no Kafka broker answers at {place} (the name {place.host} has no address): correct kafka.bootstrap_servers or the DNS"
        ) from None
    except OSError as error:
        reason = "timed out" if isinstance(error, TimeoutError) else error.strerror or type(error).__name__
        raise Transient(f"no Kafka broker answers at {place} ({reason}): start one or set kafka.bootstrap_servers") from None
    try:
        yield raw
    finally:
        raw.close()


def _encrypted(raw: socket.socket, place: _Place, kafka: KafkaSettings, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Shake hands. Raises SettingsError, or Transient, that says what is wrong with the certificate or the port."""
    try:
        return context.wrap_socket(raw, server_hostname=place.host)
    except ssl.SSLCertVerificationError as error:
        raise certificate_problem(error, f"Kafka's certificate at {place}", "kafka.ssl_cafile", "kafka.bootstrap_servers") from None
    except TimeoutError:
        raise _silent(place) from None
    except (ssl.SSLError, OSError) as error:
        if isinstance(error, ssl.SSLError) and _is_about_client_certificate(error):
            raise _client_certificate(place, kafka) from None
        if _speaks_plain(place):
            plain = "SASL_PLAINTEXT" if kafka.security_protocol == "SASL_SSL" else "PLAINTEXT"
            raise SettingsError(
                f"setting kafka.security_protocol: {place} does not use TLS: choose {plain}, or the port that does"
            ) from None
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise Transient(f"the TLS handshake with {place} failed ({reason}): check that this port of Kafka uses TLS 1.2 or newer") from None


HOST_NAME_CODES, UNKNOWN_CA_CODES, EXPIRED, NOT_YET_VALID = (62, 64), (2, 18, 19, 20, 21), 10, 9


def certificate_problem(error: ssl.SSLCertVerificationError, whose: str, ca_setting: str, host_setting: str) -> WorkerError:
    """Return what is wrong with a server's certificate, naming the setting to change."""
    code = error.verify_code
    if code in HOST_NAME_CODES:
        return SettingsError(f"setting {host_setting}: {whose} is for another host name: use a name that the certificate holds")
    if code in UNKNOWN_CA_CODES:
        return SettingsError(f"setting {ca_setting}: {whose} is not signed by a CA that is known here: name the file of its CA")
    if code in (EXPIRED, NOT_YET_VALID):
        return Transient(f"{whose} {'has expired' if code == EXPIRED else 'is not valid yet'}: renew it, or correct this machine's clock")
    return SettingsError(f"setting {ca_setting}: {whose} is refused ({error.verify_message}): renew it or name its CA")


def _is_about_client_certificate(error: ssl.SSLError) -> bool:
    reason = error.reason or ""
    return "ALERT" in reason and any(word in reason for word in _CERTIFICATE_ALERTS)


def _client_certificate(place: _Place, kafka: KafkaSettings) -> SettingsError:
    if kafka.ssl_certfile is None:
        return SettingsError(
            f"setting kafka.ssl_certfile: {place} wants a client certificate: set kafka.ssl_certfile and kafka.ssl_keyfile"
        )
    return SettingsError(f"setting kafka.ssl_certfile: {place} refuses this client certificate: use one whose CA the broker trusts")


def _after_handshake(error: ssl.SSLError, place: _Place, kafka: KafkaSettings) -> WorkerError:
    """Return what is wrong when TLS breaks after the handshake: in TLS 1.3 the server checks the client's certificate only then."""
    if _is_about_client_certificate(error):
        return _client_certificate(place, kafka)
    return Transient(f"the TLS connection to {place} broke ({error.reason}): look into the broker's log")


def _silent(place: _Place) -> Transient:
    return Transient(f"{place} takes connections and does not answer within {SERVER_S:g} s: check that it is a Kafka broker, and its load")


def _unexpected_end(place: _Place, kafka: KafkaSettings) -> WorkerError:
    """Return what is wrong when the connection ends before the first answer."""
    if not kafka.security_protocol.endswith("SSL") and speaks_tls(place.host, place.port):
        wanted = "SASL_SSL" if kafka.security_protocol.startswith("SASL") else "SSL or SASL_SSL"
        return SettingsError(f"setting kafka.security_protocol: {place} uses TLS: choose {wanted}, or the port without TLS")
    return Transient(f"{place} ended the connection: check that it is a Kafka broker, and look into its log")


def _speaks_plain(place: _Place) -> bool:
    with contextlib.suppress(WorkerError, OSError, _Closed), _connected(place, time.monotonic() + SERVER_S) as raw:
        _Connection(raw).api_versions()
        return True
    return False


def speaks_tls(host: str, port: int) -> bool:
    """Return whether a server answers a TLS greeting. Its certificate is not checked, and nothing is sent to it."""
    place = _Place(host, port)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.suppress(WorkerError), _connected(place, time.monotonic() + SERVER_S) as raw:
        try:
            context.wrap_socket(raw, server_hostname=place.host).close()
            return True
        except ssl.SSLError as error:
            return "ALERT" in (error.reason or "")
        except OSError:
            return False
    return False


def _converse(connection: _Connection, place: _Place, kafka: KafkaSettings) -> None:
    """Greet and log in. Raises SettingsError, _Closed, OSError."""
    versions = connection.api_versions()
    if kafka.security_protocol.startswith("SASL"):
        _log_in(connection, place, kafka)
        return
    try:
        connection.metadata(versions)
    except (_Closed, ConnectionError):
        protocol = f"SASL_{'SSL' if kafka.security_protocol == 'SSL' else 'PLAINTEXT'}"
        raise SettingsError(
            f"setting kafka.security_protocol: {place} wants a login: choose {protocol}, with kafka.sasl_username and kafka.sasl_password"
        ) from None


def _log_in(connection: _Connection, place: _Place, kafka: KafkaSettings) -> None:
    from kafka.net.sasl import get_sasl_mechanism

    assert kafka.sasl_password is not None  # the settings' own validator
    code, offered = connection.sasl_handshake(kafka.sasl_mechanism)
    if code == ILLEGAL_SASL_STATE:
        protocol = "SSL" if kafka.security_protocol == "SASL_SSL" else "PLAINTEXT"
        raise SettingsError(f"setting kafka.security_protocol: {place} takes no login: choose {protocol}, or the port that does")
    if code == UNSUPPORTED_MECHANISM:
        raise SettingsError(f"setting kafka.sasl_mechanism: {place} does not offer {kafka.sasl_mechanism}: choose {' or '.join(offered)}")
    if code:
        raise Transient(f"{place} answers the login with error {code}: look into the broker's log")
    mechanism = get_sasl_mechanism(kafka.sasl_mechanism)(
        sasl_plain_username=kafka.sasl_username,
        sasl_plain_password=kafka.sasl_password.get_secret_value(),
        sasl_mechanism=kafka.sasl_mechanism,
        security_protocol=kafka.security_protocol,
        host=place.host,
    )
    while not mechanism.is_done():
        code, said = connection.sasl_authenticate(mechanism.auth_bytes())
        if code == AUTHENTICATION_FAILED:
            raise SettingsError(
                f"setting kafka.sasl_password: {place} refuses the user {kafka.sasl_username} or the password: "
                "check kafka.sasl_username and kafka.sasl_password"
            )
        if code:
            raise Transient(f"{place} answers the login with error {code}: look into the broker's log")
        mechanism.receive(said)
    if not mechanism.is_authenticated():
        raise SettingsError(f"setting kafka.sasl_password: {place} does not know the password itself: check whose server it is")


class _Connection:
    """Requests of Kafka's protocol in their oldest form that every broker takes; one at a time."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._n_requests = 0
        stream.settimeout(SERVER_S)

    def api_versions(self) -> dict[int, tuple[int, int]]:
        """Return the lowest and highest version of each request that the broker knows."""
        answer = self._ask(API_VERSIONS, 0, b"")
        code, count = struct.unpack_from(">hi", answer)
        if code or count < 0 or len(answer) < 6 + 6 * count:
            raise _Closed
        return {key: (low, high) for key, low, high in struct.iter_unpack(">hhh", answer[6 : 6 + 6 * count])}

    def metadata(self, versions: dict[int, tuple[int, int]]) -> None:
        """Ask for the brokers and no topic: the first request that needs a login where there is one."""
        low, high = versions.get(METADATA, (0, -1))
        version = min(high, 8)
        if version < max(low, 1):
            return  # a form that is not encoded here: nothing can be said
        self._ask(METADATA, version, struct.pack(">i", 0) + b"\x00" * ((version >= 4) + 2 * (version >= 8)))

    def sasl_handshake(self, mechanism: str) -> tuple[int, list[str]]:
        """Return the error code and the mechanisms that the broker offers."""
        answer = self._ask(SASL_HANDSHAKE, 1, _text(mechanism))
        code, count = struct.unpack_from(">hi", answer)
        offered, at = [], 6
        for _ in range(max(count, 0)):
            (length,) = struct.unpack_from(">h", answer, at)
            offered.append(answer[at + 2 : at + 2 + length].decode("utf-8", "replace"))
            at += 2 + length
        return code, offered

    def sasl_authenticate(self, said: bytes) -> tuple[int, bytes]:
        """Return the error code and the server's next message of the mechanism."""
        answer = self._ask(SASL_AUTHENTICATE, 0, struct.pack(">i", len(said)) + said)
        code, length = struct.unpack_from(">hh", answer)
        at = 4 + max(length, 0)
        (size,) = struct.unpack_from(">i", answer, at)
        return code, answer[at + 4 : at + 4 + max(size, 0)]

    def _ask(self, key: int, version: int, body: bytes) -> bytes:
        self._n_requests += 1
        header = struct.pack(">hhi", key, version, self._n_requests) + struct.pack(">h", len(CLIENT_ID)) + CLIENT_ID
        self._stream.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
        size, number = struct.unpack(">ii", self._read(8))
        if number != self._n_requests or not 4 <= size <= MAX_ANSWER_BYTES:
            raise _Closed
        answer = self._read(size - 4)
        if len(answer) < 2:
            raise _Closed
        return answer + b"\x00" * 8  # an answer that is shorter than its form reads as zeros, and is refused by its meaning

    def _read(self, n_bytes: int) -> bytes:
        parts = bytearray()
        while len(parts) < n_bytes:
            part = self._stream.recv(n_bytes - len(parts))
            if not part:
                raise _Closed
            parts += part
        return bytes(parts)


def _text(text: str) -> bytes:
    octets = text.encode()
    return struct.pack(">h", len(octets)) + octets
