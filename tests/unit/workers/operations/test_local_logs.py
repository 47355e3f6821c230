"""Logs of local processes are parsed, merged in time, filtered and followed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from workers.cli import app as application
from workers.errors import SettingsError
from workers.operations.local_logs import Wanted, compose_entries, follow, log_files, newest, note_stack, noted_folder, parse

PLAIN = "2026-11-30 06:00:0{n},250 {level} workers.stream.service: {text}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = [PLAIN.format(n=1, level="INFO", text="first"), PLAIN.format(n=3, level="ERROR", text="it failed")]
    (tmp_path / "stream-1.log").write_text("".join(lines) + "Traceback (most recent call last):\n  File …\nValueError: x\n")
    entry = {"ts": "2026-11-30T06:00:02.000Z", "level": "WARNING", "logger": "workers.trainer", "worker": "trainer", "message": "slow"}
    (tmp_path / "trainer-1.log").write_text(json.dumps(entry | {"exception": "Traceback\nOSError"}) + "\nno log line\n")
    (tmp_path / "valkey.log").write_text("12:M 30 Nov 2026 06:00:00.123 # WARNING overcommit\n")
    (tmp_path / "broker.log").write_text(  # as Tansu writes it
        "\x1b[2m2026-11-30T06:00:00.000001Z\x1b[0m \x1b[32m INFO\x1b[0m \x1b[2mtansu::broker\x1b[0m: ready\n"
    )
    return tmp_path


def shown(folder: Path, **wanted: object) -> list[tuple[str, str, str]]:
    chosen = Wanted(**wanted)  # type: ignore[arg-type]
    return [(entry.worker, entry.level, entry.message) for entry in newest(log_files(folder), chosen, 50)]


def test_entries_of_all_files_come_in_the_order_of_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    found = [entry for entry in newest(log_files(folder), Wanted(), 50) if entry.worker in ("stream-1", "trainer-1")]
    assert [entry.message for entry in found] == ["first", "slow", "it failed"]
    assert found[2].more == ["Traceback (most recent call last):", "  File …", "ValueError: x"]
    assert found[1].more == ["Traceback", "OSError", "no log line"], "what begins no entry belongs to the one before"


def test_entries_are_chosen_by_worker_and_level(folder: Path) -> None:
    assert shown(folder, workers=("stream",)) == [("stream-1", "info", "first"), ("stream-1", "error", "it failed")]
    assert shown(folder, workers=("stream-2",)) == []
    assert {worker for worker, _, _ in shown(folder, level="warning")} == {"stream-1", "trainer-1", "valkey"}
    assert shown(folder, workers=("broker",)) == [("broker", "info", "ready")]
    assert len(newest(log_files(folder), Wanted(), 2)) == 2


def test_a_line_that_is_none_is_shown_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "stream-1.log").write_text("Fatal Python error: Segmentation fault\n")
    assert shown(tmp_path) == [("stream-1", "", "Fatal Python error: Segmentation fault")]
    for line in ('{"no": "message"}', "{broken", "2026-11-30 06:00:01 HELLO a: b"):
        assert parse("w", line) is None


def test_following_sees_new_lines_new_files_and_emptied_files(folder: Path) -> None:
    rounds = iter(range(100))

    def stop() -> bool:
        n = next(rounds)
        if n == 1:
            with (folder / "stream-1.log").open("a") as file:
                file.write(PLAIN.format(n=5, level="INFO", text="second") + "2026-11-30 06:00:06,000 IN")
            (folder / "stream-2.log").write_text(PLAIN.format(n=6, level="INFO", text="another"))
        if n == 3:
            with (folder / "stream-1.log").open("a") as file:
                file.write("FO a: torn\n")
            (folder / "stream-2.log").write_text("")
        if n == 5:
            (folder / "stream-2.log").write_text(PLAIN.format(n=7, level="INFO", text="again"))
        return n > 8

    got = [entry.message for entry in follow(folder, Wanted(("stream",)), stop)]
    assert got == ["second", "another", "torn", "again"]


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr("workers.operations.local_logs.POLL_S", 0.0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("tmp")))


def test_the_stack_that_started_last_is_found(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="name its folder"):
        noted_folder()
    note_stack(tmp_path / "gone")
    with pytest.raises(SettingsError):
        noted_folder()
    note = note_stack(folder)
    assert noted_folder() == folder and oct(note.stat().st_mode & 0o777) == "0o600"
    note.unlink()
    note.symlink_to(folder / "stream-1.log")
    with pytest.raises(SettingsError):
        noted_folder()


def test_logs_of_compose_are_read_by_service(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text(
        "#!/bin/sh\n"
        'echo "stream-1   | 2026-11-30 06:00:01,000 ERROR a.b: broken"\n'
        'echo "stream-1   | Traceback"\n'
        'echo "kafka-1    | [2026-11-30] started"\n'
        'echo "$@" >&2\nexit ${FAIL:-0}\n'
    )
    docker.chmod(0o755)
    found = list(compose_entries(Wanted(level="warning"), 10, False, str(docker)))
    assert [(entry.worker, entry.message) for entry in found] == [("stream", "broken"), ("stream", "Traceback")]
    os.environ["FAIL"] = "3"
    try:
        with pytest.raises(SettingsError, match="code 3: compose logs"):
            list(compose_entries(Wanted(), 10, False, str(docker)))
    finally:
        del os.environ["FAIL"]
    with pytest.raises(SettingsError, match="install Docker"):
        list(compose_entries(Wanted(), 10, False, str(tmp_path / "nothing")))


def test_the_command_prints_json_lines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert application.run(["logs", "--folder", str(folder), "-w", "trainer", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["level"] == "warning" and json.loads(line)["message"].startswith("slow\n")
    assert application.run(["logs", "--folder", str(folder), "--level", "loud"]) == 2
    assert application.run(["logs", "--folder", str(folder / "no")]) == 2
