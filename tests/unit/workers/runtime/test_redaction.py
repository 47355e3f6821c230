"""S3: no secret in any encoding leaves the process through logging, a traceback or the last line of a command."""

from __future__ import annotations

import base64
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.kafka.connection import aiokafka_arguments, kafka_python_arguments
from workers.runtime import redaction
from workers.runtime.redaction import MASK, MaskedStr, Redactor, hide_secrets, secrets_of
from workers.settings import load_settings

PASSWORD = "p@ss:w/rd 7%é\n"
SECTIONS = {
    "kafka": {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "u", "sasl_password": PASSWORD},
    "redis": {"url": f"rediss://u:{quote('url@pass', safe='')}@localhost/0?password=query-pass", "password": "redis-pass"},
    "trainer": {"log_url": "s3://key:bucket-pass@host/log"},
}


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a handler of another library's logger writes, after `hide_secrets`."""
    monkeypatch.setattr(redaction, "_installed", None)
    before, hook = logging.getLogRecordFactory(), sys.excepthook
    hide_secrets(load_settings(**SECTIONS))
    stream = io.StringIO()
    log, handler = logging.getLogger("somebody.elses"), logging.StreamHandler(stream)
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    yield stream
    log.removeHandler(handler)
    logging.setLogRecordFactory(before)
    sys.excepthook = hook


def test_every_secret_of_the_settings_is_known() -> None:
    assert secrets_of(load_settings(**SECTIONS)) >= {PASSWORD, "url@pass", "query-pass", "redis-pass", "bucket-pass"}


@given(secret=st.text(min_size=1, max_size=40), before=st.text(max_size=10), after=st.text(max_size=10))
def test_no_spelling_of_a_secret_survives(secret: str, before: str, after: str) -> None:
    redact = Redactor([secret])
    octets = secret.encode("utf-8", "surrogatepass")
    spellings = [secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], repr(octets)[2:-1]]
    if not any("\ud800" <= letter <= "\udfff" for letter in secret):
        spellings += [quote(secret, safe=""), quote_plus(secret)]
    if len(secret) >= redaction.SHORT:
        spellings += [octets.hex(), base64.b64encode(octets).decode()]
    for spelling in spellings:
        shown = redact(f"{before} '{spelling}' {after}")
        assert MASK in shown
        if spelling not in f"{before} '' {after}" and spelling not in f"'{MASK}'":
            assert f"'{spelling}'" not in shown


def test_a_short_secret_does_not_mask_the_letters_of_words() -> None:
    assert Redactor(["a"])("a car at 'a'") == f"{MASK} car at '{MASK}'"


def test_messages_arguments_and_tracebacks_of_any_library_show_a_mask(hidden: io.StringIO) -> None:
    log = logging.getLogger("somebody.elses")
    log.debug("configuration %s, url %s", {"sasl_plain_password": PASSWORD}, f"redis://:{quote(PASSWORD, safe='')}@h")
    log.info("bytes %r", PASSWORD.encode())
    try:
        raise ValueError(f"cannot connect with {PASSWORD} to redis-pass")
    except ValueError:
        log.exception("failed")
    said = hidden.getvalue()
    assert said.count(MASK) >= 5 and "Traceback" in said
    for secret in (PASSWORD, quote(PASSWORD, safe=""), repr(PASSWORD)[1:-1], repr(PASSWORD.encode())[2:-1], "redis-pass"):
        assert secret not in said


def test_the_clients_get_a_password_that_shows_a_mask_where_it_is_printed() -> None:
    settings = load_settings(**SECTIONS)
    for arguments in (kafka_python_arguments(settings), aiokafka_arguments(settings)):
        assert arguments["sasl_plain_password"] == PASSWORD
        assert PASSWORD not in str(arguments) and repr(PASSWORD)[1:-1] not in str(arguments)
    assert "".join([MaskedStr("x"), "y"]) == "xy" and f"{MaskedStr('x')}" == "x", "it is the text itself for whoever sends it"


def test_an_uncaught_exception_shows_a_mask() -> None:
    program = """
from workers.runtime.redaction import hide_secrets
from workers.settings import load_settings
hide_secrets(load_settings(redis={"password": "hush-hush"}))
raise RuntimeError("the password is hush-hush")
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert run.returncode == 1 and "hush-hush" not in run.stderr.replace('"the password is hush-hush"', "") and MASK in run.stderr
