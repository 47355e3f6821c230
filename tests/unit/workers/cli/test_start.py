"""A command loads the libraries that it needs and no other, so that each of them starts at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from workers.cli.app import app, whole_tree
from workers.cli.tree import COMMANDS

HEAVY = {
    *("torch", "numba", "scipy", "numpy", "pandas", "polars", "pyarrow", "safetensors", "faust", "aiokafka", "kafka", "redis", "fsspec"),
    *("pydantic_settings", "prometheus_client", "orjson", "cramjam", "lightgbm", "optuna", "s3fs", "sentence_transformers", "fastapi"),
}
PROGRAM = """
import json, sys
from workers.cli.app import run
heavy, lines = json.loads(sys.argv[1])
loaded = []
for line in lines:
    code = run(line)
    loaded.append([code, sorted(set(heavy) & sys.modules.keys())])
print(json.dumps(loaded))
"""
SERVERS = {"RECSYS_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1", "RECSYS_REDIS__URL": "redis://127.0.0.1:1/0"}
COMPILED = {"torch", "numba", "scipy", "pandas", "pyarrow", "faust"}
"""What no command loads that only reads from servers or files."""


def paths(command: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield above
    for name, below in getattr(command, "commands", {}).items():
        yield from paths(below, (*above, name))


def run_all(lines: list[list[str]], folder: Path) -> list[tuple[int, set[str]]]:
    """Run command lines one after another in one new process; return each one's exit code and what was loaded by then."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RECSYS_")}
    environment |= SERVERS | {"RECSYS_CONFIG": os.devnull, "PYTHONPATH": str(Path(__file__).resolve().parents[4])}
    command = [sys.executable, "-c", PROGRAM, json.dumps([sorted(HEAVY), lines])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder, env=environment)
    return [(code, set(loaded)) for code, loaded in json.loads(done.stdout.splitlines()[-1])]


def test_help_of_every_command_loads_no_library_that_takes_time(tmp_path: Path) -> None:
    lines = [["--version"], *([*path, "--help"] for path in paths(whole_tree()))]
    assert len(lines) > 40
    for line, (code, loaded) in zip(lines, run_all(lines, tmp_path), strict=True):
        assert (code, loaded) == (0, set()), line


def test_commands_that_read_load_no_library_of_the_models(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("user_id,item_id,type,event_ts_ms\nu1,i1,play,1763200000000\n")
    lines = [["settings"], ["models", "list"], ["events", "publish", "events.csv", "--dry-run"], ["topics", "list"], ["dlq", "list"]]
    lines += [["lists", "get", "u1"], ["state", "verify"], ["models", "rollback", "ials"]]
    found = run_all(lines, tmp_path)
    assert [code for code, _ in found] == [0, 0, 0, 1, 1, 1, 1, 1]
    assert found[0][1] == {"pydantic_settings"}
    assert found[1][1] <= {"pydantic_settings", "fsspec"}
    for line, (_, loaded) in zip(lines, found, strict=True):
        assert not loaded & COMPILED, line
    assert not run_all([["doctor"]], tmp_path)[0][1] & COMPILED


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_text_of_a_stand_in_is_that_of_the_command(name: str) -> None:
    listed: Any = typer.main.get_command(app)
    assert listed.commands[name].get_short_help_str(10_000) == whole_tree().commands[name].get_short_help_str(10_000)
