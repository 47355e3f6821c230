"""Settings come from the environment, then TOML, then defaults; a wrong one is one line that names it; secrets are never shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from workers.cli.app import run
from workers.errors import SettingsError
from workers.runtime.shown_settings import masked
from workers.settings import Settings, load_settings


@pytest.fixture
def recsys(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return what runs a command in this process and returns its exit code, output and errors."""

    def command(*arguments: str, **env: str) -> tuple[int, str, str]:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        code = run(arguments)
        return code, *capsys.readouterr()

    return command


def test_the_environment_beats_the_file_and_the_file_beats_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "recsys.toml"
    file.write_text('[topics]\npartitions = 3\nevents = "from.file"\n')
    monkeypatch.setenv("RECSYS_CONFIG", str(file))
    monkeypatch.setenv("RECSYS_TOPICS__PARTITIONS", "5")
    topics = load_settings().topics
    assert (topics.partitions, topics.events, topics.items) == (5, "from.file", Settings().topics.items)


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("RECSYS_TOPICS__PARTITIONS", "0", "topics.partitions"),
        ("RECSYS_TOPICS__PARTITIONS", "many", "topics.partitions"),
        ("RECSYS_REDIS__NAMESPACE", "a b", "redis.namespace"),
        ("RECSYS_KAFKA__SECURITY_PROTOCOL", "SASL_SSL", "kafka"),
        ("RECSYS_STREAM__NO_SUCH", "1", "stream.no_such"),
    ],
)
def test_a_wrong_setting_is_named(variable: str, value: str, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=named):
        load_settings()


def test_a_wrong_setting_ends_every_command_with_one_line_and_code_2(recsys: Callable[..., tuple[int, str, str]]) -> None:
    for command in (["settings"], ["worker", "stream"], ["topics", "list"], ["doctor"]):
        code, out, err = recsys(*command, RECSYS_TOPICS__PARTITIONS="0")
        assert (code, out) == (2, "")
        assert err.startswith("recsys: setting topics.partitions") and err.count("\n") == 1


def test_a_wrong_setting_ends_a_process_with_one_line_and_code_2() -> None:
    env = {**os.environ, "RECSYS_CONFIG": os.devnull, "COLUMNS": "200", "RECSYS_TOPICS__PARTITIONS": "0"}
    command = [sys.executable, "-m", "workers.cli", "worker", "stream"]
    ended = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("recsys: setting topics.partitions") and ended.stderr.count("\n") == 1


def test_a_torn_settings_file_is_one_line_and_code_2(tmp_path: Path, recsys: Callable[..., tuple[int, str, str]]) -> None:
    file = tmp_path / "recsys.toml"
    file.write_text("[topics\n")
    code, _, err = recsys("settings", RECSYS_CONFIG=str(file))
    assert code == 2 and err.count("\n") == 1


def test_secrets_are_masked_wherever_settings_are_shown(
    monkeypatch: pytest.MonkeyPatch, recsys: Callable[..., tuple[int, str, str]]
) -> None:
    secrets = {
        "RECSYS_REDIS__URL": "rediss://user:SECRET1@redis.example:6380/2",
        "RECSYS_REDIS__PASSWORD": "SECRET2",
        "RECSYS_KAFKA__SASL_PASSWORD": "SECRET3",
        "RECSYS_TRAINER__LOG_URL": "s3://key:SECRET4@bucket/log?token=SECRET5",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    chosen = load_settings()
    shown = masked(chosen)
    assert shown["redis"]["url"] == "rediss://user:********@redis.example:6380/2"
    assert "SECRET" not in json.dumps(shown)
    assert all(f"SECRET{n}" not in repr(chosen) + str(chosen) for n in (1, 2, 3))
    for command in (["settings"], ["settings", "--json"]):
        code, out, err = recsys(*command)
        assert code == 0 and len(out) > 1_000 and "SECRET" not in out + err


def test_every_setting_can_be_printed_as_json(recsys: Callable[..., tuple[int, str, str]]) -> None:
    _, out, _ = recsys("settings", "--json")
    assert json.loads(out) == masked(load_settings())
