"""A heartbeat is there as long as rounds end well, and a check of it needs nothing but the file."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workers.runtime.health import MAX_AGE_S, Heartbeat, check, main


def test_a_worker_is_alive_from_its_first_round_until_its_last_is_too_old(tmp_path: Path) -> None:
    file = tmp_path / "beat"
    assert check(file)[0] is False
    Heartbeat(file).beat()
    assert check(file)[0] is True
    old_s = time.time() - MAX_AGE_S - 1
    os.utime(file, (old_s, old_s))
    assert check(file)[0] is False and check(file, 2 * MAX_AGE_S)[0] is True


def test_beats_within_a_second_touch_the_file_once(tmp_path: Path) -> None:
    heartbeat = Heartbeat(tmp_path / "beat")
    heartbeat.beat()
    (tmp_path / "beat").unlink()
    heartbeat.beat()
    assert not (tmp_path / "beat").exists()


def test_without_a_file_there_is_no_beat_and_no_error() -> None:
    Heartbeat(None).beat()


def test_a_file_that_cannot_be_written_stops_no_worker(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Heartbeat(tmp_path / "missing" / "beat").beat()
    assert "health.heartbeat_file" in caplog.text


def test_settings_name_the_file_where_the_command_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 1 and "health.heartbeat_file is not set" in capsys.readouterr().err
    monkeypatch.setenv("RECSYS_HEALTH__HEARTBEAT_FILE", str(tmp_path / "beat"))
    assert main([]) == 1
    Heartbeat(tmp_path / "beat").beat()
    assert main([]) == 0
    assert main(["a", "b"]) == 2


def test_the_check_of_a_file_imports_no_settings(tmp_path: Path) -> None:
    (tmp_path / "beat").touch()
    program = "import sys; from workers.runtime.health import main; code = main(sys.argv[1:]); sys.exit(code or 'pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path / "beat")]).returncode == 0


def test_containers_ask_by_the_module_s_public_name(tmp_path: Path) -> None:
    """`python -m workers.health FILE` is written in users' compose files."""
    beat = tmp_path / "beat"
    beat.touch()
    for path, code in ((beat, 0), (tmp_path / "none", 1)):
        done = subprocess.run([sys.executable, "-m", "workers.health", str(path)], capture_output=True, text=True, timeout=60)
        assert done.returncode == code and "Traceback" not in done.stderr
