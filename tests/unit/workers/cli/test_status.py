"""The screen of `recsys status` fits a terminal and says what is wrong."""

from __future__ import annotations

import json

import pytest

from workers.cli import app as application
from workers.operations.finding import Finding
from workers.operations.status_report import Status

FULL = Status(
    brokers=3, workers=2, lag={n: n * 1_000 for n in range(64)}, newest_list_age_s=7_300.0, freshness_ms={"p50": 26.0, "p95": 70.0},
    lists=120_000, dead_letters=12, recent_dead_letters={"not_json": 2},
    models={"ials": "ials-000003", "recipe": "recipe-000001"}, items=4_000,
    redis=[{"server": "valkey 9.1.0", "used_mb": 120.5, "max_mb": 768.0}],
    problems=[Finding("lag", "warning", "group recsys-stream is 2,016,000 events behind", "start more stream workers")],
)  # fmt: skip


def shown(found: Status, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    monkeypatch.setattr("workers.operations.status_report.look", lambda settings: found)
    code = application.run(["status", *options])
    return code, capsys.readouterr().out


def test_everything_is_on_one_screen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed = shown(FULL, monkeypatch, capsys)
    assert code == 0 and len(printed.splitlines()) <= 24
    for text in (
        *("2 stream workers, 3 brokers", "2,016,000 events", "63:63,000", "the largest 16 of 64", "26 ms from event to list (p50)"),
        *("ials ials-000003", "120,000 on the topic, 4,000 items", "12, within the last hour 2 not_json", "120 of 768 MB", "2 h ago"),
        "start more stream workers",
    ):
        assert text in printed, text
    assert "0:0 " not in printed, "partitions that are not behind make room for those that are"


def test_nothing_known_is_not_nothing_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    broken = Status(problems=[Finding("kafka", "wrong", "no broker answers", "start one")])
    code, printed = shown(broken, monkeypatch, capsys)
    assert code == 1 and "start one" in printed and "–" in printed
    code, printed = shown(Status(workers=1, lag={0: 0}), monkeypatch, capsys)
    assert code == 0 and "nothing is wrong" in printed and "no list yet" in printed


def test_json_has_all_of_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed = shown(FULL, monkeypatch, capsys, "--json")
    found = json.loads(printed)
    assert code == 0 and found["total_lag"] == 2_016_000 and found["problems"][0]["remedy"] == "start more stream workers"


def test_a_server_that_is_down_leaves_the_rest_of_the_screen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RECSYS_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("RECSYS_REDIS__URL", "redis://127.0.0.1:1/0")
    assert application.run(["status"]) == 1
    printed = capsys.readouterr().out
    assert "start one or set kafka.bootstrap_servers" in printed and "check that it runs" in printed
