"""P7, S12: workers wait for what comes by itself and end at once for what does not, with one line."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from workers.cli.worker import NoFalseAlarms
from workers.errors import SettingsError, Transient
from workers.kafka import startup
from workers.kafka.startup import check_writable, wait_until_usable
from workers.retry import Backoff
from workers.runtime.status import WorkerStatus
from workers.settings import KafkaSettings, load_settings


class _Instant(threading.Event):
    """An event that is waited for in no time."""

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set()


def test_a_kafka_that_is_away_is_waited_for_and_said_at_growing_intervals(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [Transient("no Kafka broker answers at x:1 (Connection refused): start one")] * 50
    status = WorkerStatus()
    seen: list[str] = []

    def probe(kafka: KafkaSettings) -> None:
        seen.extend(status.reasons())
        if answers:
            raise answers.pop()

    monkeypatch.setattr(startup, "probe", probe)
    with caplog.at_level(logging.WARNING):
        wait_until_usable(load_settings(), "stream", status, stop=_Instant())
    assert answers == [] and any("no Kafka broker answers" in reason for reason in seen)
    assert not status.has("kafka")
    assert 1 <= len(caplog.records) <= 2, "the same problem is not said fifty times at once"


def test_a_wrong_setting_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(kafka: KafkaSettings) -> None:
        raise SettingsError("setting kafka.sasl_password: refused")

    monkeypatch.setattr(startup, "probe", probe)
    with pytest.raises(SettingsError):
        wait_until_usable(load_settings(), "stream", WorkerStatus(), stop=_Instant())


def test_a_worker_that_waits_ends_when_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()

    def probe(kafka: KafkaSettings) -> None:
        stop.set()
        raise Transient("away")

    monkeypatch.setattr(startup, "probe", probe)
    wait_until_usable(load_settings(), "trainer", WorkerStatus(), stop=stop)


def test_a_missing_right_is_waited_for_by_a_principal_that_kafka_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """S7."""
    problems: list[str | None] = ["User:x lacks Read on group g", None]
    monkeypatch.setattr(startup, "probe", lambda kafka: None)
    monkeypatch.setattr(startup, "access_problem", lambda settings, role: problems.pop(0))
    wait_until_usable(load_settings(), "stream", WorkerStatus(), stop=_Instant())
    assert problems == []


def test_a_problem_is_news_when_it_changes_and_then_ever_more_seldom() -> None:
    now = [0.0]
    backoff = Backoff(clock=lambda: now[0])
    said = []
    for second in range(200):
        now[0] = float(second)
        if backoff.is_news("a"):
            said.append(second)
    assert said == [0, 1, 3, 7, 15, 31, 63, 123, 183]
    assert backoff.is_news("b") and not backoff.is_news("b")
    backoff.reset()
    assert backoff.is_news("b")


@pytest.mark.parametrize("folder", ["/proc/foo", "/dev/null/x", "file:///proc/foo"])
def test_a_folder_that_cannot_be_written_is_named(folder: str) -> None:
    with pytest.raises(SettingsError, match=r"^setting trainer\.log_url: .* cannot be written \(.+\): choose"):
        check_writable("setting trainer.log_url", folder)


def test_folders_that_can_be_written_and_remote_ones_pass(tmp_path: Path) -> None:
    check_writable("x", str(tmp_path / "a" / "b"))
    check_writable("x", "memory://bucket/log")


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("kafka.cluster", "Metadata refresh: failed Cancelled", False),
        ("kafka.cluster", "Metadata refresh: failed KafkaConnectionError: gone", True),
        ("kafka.net.selector", "Task <x> ran for 0.118s", False),
        ("workers.stream.app", "Metadata refresh: failed Cancelled", True),
    ],
)
def test_only_what_is_no_error_is_not_shown_as_one(name: str, text: str, shown: bool) -> None:
    """P6."""
    record = logging.LogRecord(name, logging.ERROR, "", 0, text, None, None)
    logging.getLogger(name).setLevel(logging.WARNING)
    assert NoFalseAlarms().filter(record) is shown
    assert (record.levelno == logging.ERROR) is shown


@pytest.mark.parametrize(
    ("section", "values", "line"),
    [
        ("redis", {"ssl_ca_certs": "/x"}, "setting redis: ssl_ca_certs is set and url has no TLS: write rediss://"),
        ("redis", {"ssl_key_password": "x"}, "setting redis: ssl_key_password is set and url has no TLS"),
        ("kafka", {"ssl_cafile": "/x"}, "setting kafka: ssl_cafile is set and security_protocol is PLAINTEXT: choose SSL or SASL_SSL"),
        ("kafka", {"security_protocol": "SASL_SSL", "sasl_username": "u"}, "setting kafka: security_protocol needs sasl_username and"),
    ],
)
def test_security_that_would_not_be_used_is_refused(section: str, values: dict[str, str], line: str) -> None:
    """S11."""
    with pytest.raises(SettingsError) as refused:
        load_settings(**{section: values})
    assert str(refused.value).startswith(line)
