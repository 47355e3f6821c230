"""S8, S9, S11, S12: each broken credential gives one line that names it, within ten seconds, in every command and worker."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from typing import Any
from urllib.parse import quote

import pytest

from tests.secure.certificates import KEY_PASSWORD
from tests.secure.conftest import REDIS_PASSWORD, Run, Secured, password_of
from workers.kafka.rights import REDIS_COMMANDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
WITHIN_S = 10.0


def breakages(secured: Secured) -> dict[str, tuple[dict[str, Any], str]]:
    """Return by name: Kafka settings that replace the right ones (None removes), and the setting that the line must name."""
    port = secured.kafka.secure.rpartition(":")[2]
    files = secured.certificates
    tls = {"security_protocol": "SSL", "sasl_username": None, "sasl_password": None, "bootstrap_servers": secured.kafka.tls}
    return {
        "password": ({"sasl_password": "wrong"}, "kafka.sasl_password"),
        "user": ({"sasl_username": "nobody"}, "kafka.sasl_password"),
        "mechanism": ({"sasl_mechanism": "PLAIN"}, "kafka.sasl_mechanism"),
        "strength": ({"sasl_mechanism": "SCRAM-SHA-512"}, "kafka.sasl_mechanism"),
        "authority": ({"ssl_cafile": str(files.other_ca)}, "kafka.ssl_cafile"),
        "no authority": ({"ssl_cafile": None}, "kafka.ssl_cafile"),
        "host name": ({"bootstrap_servers": f"127.0.0.1:{port}"}, "kafka.bootstrap_servers"),
        "plaintext to a TLS port": ({"security_protocol": "SASL_PLAINTEXT", "ssl_cafile": None}, "kafka.security_protocol"),
        "TLS to a plaintext port": ({"bootstrap_servers": secured.kafka.plain}, "kafka.security_protocol"),
        "no login": ({"security_protocol": "SSL", "sasl_username": None, "sasl_password": None}, "kafka.security_protocol"),
        "no client certificate": (tls, "kafka.ssl_certfile"),
        "encrypted key": (
            {**tls, "ssl_certfile": str(files.client_certificate), "ssl_keyfile": str(files.encrypted_key)},
            "kafka.ssl_key_password",
        ),
        "pass phrase": (
            {
                **tls,
                "ssl_certfile": str(files.client_certificate),
                "ssl_keyfile": str(files.encrypted_key),
                "ssl_key_password": f"{KEY_PASSWORD}x",
            },
            "kafka.ssl_key_password",
        ),
    }


COMMANDS: tuple[tuple[str, ...], ...] = (
    ("topics", "list"),
    ("topics", "create"),
    ("events", "publish", "{file}"),
    ("items", "publish", "{file}"),
    ("lists", "get", "u1"),
    ("lists", "tail"),
    ("dlq", "list"),
    ("dlq", "redrive", "--all"),
    ("state", "verify"),
    ("state", "rebuild"),
)


def one_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) == 1, text
    return lines[0]


@pytest.mark.parametrize(
    "name",
    [
        *("password", "user", "mechanism", "strength", "authority", "no authority", "host name", "plaintext to a TLS port"),
        *("TLS to a plaintext port", "no login", "no client certificate", "encrypted key", "pass phrase"),
    ],
)
def test_a_broken_credential_is_named_in_one_line(name: str, secured: Secured, run: Run) -> None:
    broken, setting = breakages(secured)[name]
    ran = run("admin", "topics", "list", kafka=broken)
    assert ran.code == 2 and setting in one_line(ran.err) and ran.seconds < WITHIN_S, ran
    assert password_of("admin") not in ran.err and KEY_PASSWORD not in ran.err


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_names_a_wrong_password(command: tuple[str, ...], secured: Secured, run: Run, tmp_path: Any) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"user_id": "u", "item_id": "i", "type": "play", "event_ts_ms": 1795000000000}\n')
    arguments = [part.format(file=file) for part in command]
    ran = run("operator", *arguments, kafka={"sasl_password": "wrong"})
    assert ran.code == 2 and "kafka.sasl_password" in one_line(ran.err) and ran.seconds < WITHIN_S, ran


SECRETS = (*(password_of(role) for role in ("admin", "operator", "reader", "publisher")), REDIS_PASSWORD)


def test_no_command_logs_a_secret_at_any_level(secured: Secured, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """S3: kafka-python's admin client logs its whole configuration, so records of all libraries and levels are checked."""
    with caplog.at_level(logging.DEBUG):
        for role, command in (
            ("admin", ("topics", "list")),
            ("admin", ("topics", "create")),
            ("admin", ("doctor", "--json")),
            ("reader", ("lists", "get", "u1")),
            ("operator", ("dlq", "list")),
            ("operator", ("users", "show", "u1")),
        ):
            run(role, *command)
    said = caplog.text
    assert "sasl_plain_password" in said, "what was once logged with the password is still logged"
    for secret in SECRETS:
        for spelling in (secret, quote(secret, safe=""), repr(secret)[1:-1], secret.encode().hex()):
            assert spelling not in said


def test_doctor_names_a_wrong_password_too(secured: Secured, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("workers.cli.diagnosis.print_json", shown.append)
    ran = run("admin", "doctor", "--json", kafka={"sasl_password": "wr0ng-p@ss"})
    (kafka,) = (finding for finding in shown[0] if finding["name"] == "kafka")
    assert ran.code == 1 and kafka["state"] == "wrong" and "kafka.sasl_password" in kafka["text"], kafka
    assert "wr0ng-p@ss" not in str(shown)


@pytest.mark.parametrize(("kind", "level"), [("stream", "info"), ("trainer", "debug")])
def test_a_worker_with_a_wrong_password_ends_with_one_line_that_shows_no_secret(kind: Any, level: str, secured: Secured) -> None:
    """S3, S8."""
    env = secured.env(kind, kafka={"sasl_password": "wr0ng-p@ss"})
    command = [sys.executable, "-m", "workers.cli", "worker", kind, "--log-level", level]
    ended = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
    lines = [line for line in ended.stderr.splitlines() if " DEBUG " not in line]
    assert ended.returncode == 2 and "kafka.sasl_password" in one_line("\n".join(lines))
    assert "wr0ng-p@ss" not in ended.stderr


def test_redis_breakages_are_named_in_one_line(secured: Secured, run: Run) -> None:
    """S11."""
    import workers.operations.lookup  # noqa: F401  # its libraries take seconds to load

    files, port, plain = secured.certificates, secured.redis.port, secured.redis.plain_port
    for broken, named in (
        ({"url": f"redis://localhost:{plain}/0"}, r"setting redis: ssl_ca_certs .* rediss://"),
        ({"ssl_ca_certs": str(files.other_ca)}, r"setting redis\.ssl_ca_certs"),
        ({"ssl_ca_certs": None}, r"setting redis\.ssl_ca_certs"),
        ({"url": f"rediss://127.0.0.1:{port}/0"}, r"setting redis\.url: .* host name"),
        ({"url": f"redis://localhost:{port}/0", "ssl_ca_certs": None}, r"setting redis\.url: .* uses TLS"),
        ({"url": f"rediss://localhost:{plain}/0"}, r"setting redis\.url: .* does not use TLS"),
        ({"password": "wrong"}, r"setting redis\.password: Redis refuses"),
        ({"username": None, "password": None}, r"setting redis\.password: Redis wants"),
        ({"ssl_certfile": str(files.client_certificate), "ssl_keyfile": str(files.encrypted_key)}, r"setting redis\.ssl_key_password"),
    ):
        ran = run("operator", "users", "show", "u1", redis=broken)
        assert ran.code == 2 and re.search(named, one_line(ran.err)) and ran.seconds < WITHIN_S, (broken, ran)


def test_a_redis_command_or_key_that_is_not_allowed_is_named(secured: Secured, run: Run) -> None:
    """S11: `users show` and `doctor` run the documented commands; the commands of functions are read from their source."""
    named = []
    try:
        for command in REDIS_COMMANDS:
            secured.set_redis_user(f"-{command}")
            ran = run("operator", "users", "show", "u1")
            if "Redis denies a right" in ran.err:
                assert ran.code == 1
                assert f"the user recsys lacks the command {command.split('|')[0].upper()}" in one_line(ran.err)
                named.append(command)
        assert {"get", "info", "hget"} & set(named)
        secured.set_redis_user("resetkeys", "~other:*")
        ran = run("operator", "users", "show", "u1")
        assert ran.code == 1 and "lacks keys of the namespace rs" in one_line(ran.err)
    finally:
        secured.set_redis_user()


def test_rights_that_commands_lack_are_named(secured: Secured, run: Run, tmp_path: Any) -> None:
    """S9: for a principal without any right, never "the topic is missing"."""
    import workers.operations.verify  # noqa: F401  # its libraries take seconds to load

    secured.kafka.set_password("nothing", password_of("nothing"))
    file = tmp_path / "rows.jsonl"
    file.write_text('{"user_id": "u", "item_id": "i", "type": "play", "event_ts_ms": 1795000000000}\n')
    for command, right in (
        (("topics", "create"), "Create on topic recsys.events"),
        (("lists", "get", "u1"), "Describe on topic recsys.recommendations"),
        (("dlq", "list"), "Describe on topic recsys.dlq"),
        (("events", "publish", str(file)), "Write on topic recsys.events"),
        (("state", "verify"), "Describe on topic recsys.events"),
    ):
        ran = run("nothing", *command)
        assert ran.code == 1 and f"User:nothing lacks {right}" in ran.err and ran.seconds < WITHIN_S, (command, ran)
        assert "missing" not in ran.err


def test_client_certificates_with_a_pass_phrase_work(secured: Secured, run: Run) -> None:
    """S12."""
    files = secured.certificates
    ran = run(
        "admin",
        *("topics", "list"),
        kafka={
            "security_protocol": "SSL",
            "sasl_username": None,
            "sasl_password": None,
            "bootstrap_servers": secured.kafka.tls,
            "ssl_certfile": str(files.client_certificate),
            "ssl_keyfile": str(files.encrypted_key),
            "ssl_key_password": KEY_PASSWORD,
        },
    )
    assert ran.code == 1 and "lacks Describe" in ran.err, "it is known, and has no rights"
