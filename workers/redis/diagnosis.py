"""Says why a connection to Redis fails, where the client does not tell: TLS against no TLS, certificates, and rights by command and key."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from urllib.parse import urlsplit

from workers.errors import SettingsError, Transient, WorkerError
from workers.kafka.probe import certificate_problem, speaks_tls
from workers.runtime.tls import tls_context
from workers.settings import RedisSettings

STEP_S = 1.5
"""Most that one step may take: a Redis that hangs is not diagnosed, it is waited for."""
_LIBRARY_LINE = re.compile(r"user_function:(\d+)")
_CALL = re.compile(r"redis\.p?call\(\s*['\"](\w+)['\"]")
_COMMAND = re.compile(r"permissions to run the '([\w|-]+)' command")


def causes(error: BaseException) -> list[BaseException]:
    """Return an error and the errors that led to it."""
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    return chain


def tls_failure(error: BaseException) -> WorkerError | None:
    """Return what is wrong when an error comes from a handshake; None if it does not."""
    for cause in causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return certificate_problem(cause, "Redis' certificate", "redis.ssl_ca_certs", "redis.url")
        if isinstance(cause, ssl.SSLError) and "ALERT" in (cause.reason or ""):
            return SettingsError("setting redis.ssl_certfile: Redis refuses this client's certificate, or wants one: set the right one")
    return None


def diagnose(settings: RedisSettings) -> WorkerError | None:
    """Connect once, and return what is wrong with the address or the protocol; None where nothing more can be said. Blocks for seconds."""
    parts = urlsplit(settings.url.get_secret_value())
    if parts.hostname is None or parts.scheme not in ("redis", "rediss"):
        return None
    host, port = parts.hostname, parts.port or 6379
    try:
        socket.getaddrinfo(host, port)
        return _diagnose_tls(host, port, settings) if settings.uses_tls else _diagnose_plain(host, port)
    except socket.gaierror:
        return Transient(f"Redis is not reachable (the name {host} has no address): correct redis.url or the DNS")
    except SettingsError as error:
        return error
    except OSError:
        return None


def _diagnose_plain(host: str, port: int) -> WorkerError | None:
    if not _answers(host, port) and speaks_tls(host, port):
        return SettingsError(f"setting redis.url: {host}:{port} uses TLS: write rediss://, or the port without TLS")
    return None


def _diagnose_tls(host: str, port: int, settings: RedisSettings) -> WorkerError | None:
    context = tls_context("redis", settings)
    with socket.create_connection((host, port), STEP_S) as raw:
        try:
            with context.wrap_socket(raw, server_hostname=host) as stream:
                stream.sendall(b"PING\r\n")
                stream.recv(1)
        except (ssl.SSLCertVerificationError, ssl.SSLError) as error:
            if (known := tls_failure(error)) is not None:
                return known
        except OSError:
            pass
        else:
            return None
    if _answers(host, port):
        return SettingsError(f"setting redis.url: {host}:{port} does not use TLS: write redis://, or the port that does")
    return None


def _answers(host: str, port: int) -> bool:
    """Return whether a server without TLS answers a PING, even if it refuses it."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), STEP_S) as raw:
        raw.sendall(b"PING\r\n")
        return raw.recv(1) in (b"+", b"-")
    return False


def lacking_right(message: str, user: str | None, command: tuple[object, ...] | None, namespace: str, library: str) -> Transient:
    """Return one line that names the user, and the command or the keys that it lacks.

    `message` is the server's; a refusal inside a function names only the line of the library, which names the command.
    """
    who = f"the user {user}" if user else "the default user"
    named = _COMMAND.search(message)
    called = _LIBRARY_LINE.search(message)
    if named is not None:
        what = f"the command {named[1].upper()} (+{named[1].lower()})"
    elif "of the keys" in message:
        what = f"keys of the namespace {namespace} (~{{{namespace}:* ~{{{namespace}.g*)"
    elif called is not None:
        lines = library.splitlines()
        call = _CALL.search(lines[int(called[1]) - 1]) if int(called[1]) <= len(lines) else None
        what = "a command" if call is None else f"the command {call[1].upper()} (+{call[1].lower()})"
        what += ", which a function calls"
    else:
        what = f"the command {command[0]}" if command else "a command"
    return Transient(f"Redis denies a right: {who} lacks {what}: grant it (docs/security.md)")
