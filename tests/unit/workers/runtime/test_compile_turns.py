"""Processes that compile the same functions take turns: each function is compiled once, and nobody waits forever."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from recsys import jit
from workers.runtime.compile_turns import turn

ROOT = Path(__file__).resolve().parents[4]
SUMS = '''
import sys
from recsys.jit import compile_in_turns, compiled
from workers.runtime.compile_turns import turn

@compiled
def inner(n):
    total = 0
    for i in range(n):
        total += i * i
    return total

@compiled
def outer(n):
    return inner(n) + inner(n + 1)

compile_in_turns(turn)
print("ready", flush=True)
sys.stdin.readline()
assert outer(3) == 19
print(sum(f.stats.cache_misses.total() for f in (inner, outer)))
'''
HOLDER = """
import sys
from workers.runtime.compile_turns import turn
with turn(sys.argv[1], "f"):
    print("held", flush=True)
    sys.stdin.readline()
"""
TRIED = """
import sys
from zlib import crc32
from workers.runtime.compile_turns import _locked
print(_locked(sys.argv[1], crc32(sys.argv[2].encode()), 0.0) is not None)
"""


def python(*arguments: str, **more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    return subprocess.Popen([sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def test_functions_that_several_processes_need_at_once_are_compiled_once(tmp_path: Path) -> None:
    (tmp_path / "sums.py").write_text(SUMS)
    running = [python(str(tmp_path / "sums.py"), NUMBA_CACHE_DIR=str(tmp_path / "kept")) for _ in range(3)]
    for process in running:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    compiled = [int(process.communicate(timeout=300)[0]) for process in running]
    assert sum(compiled) == 2, compiled  # the two functions


def test_a_turn_is_held_against_other_processes_for_its_function_alone(tmp_path: Path) -> None:
    with python("-c", HOLDER, str(tmp_path)) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        assert not is_free(tmp_path, "f")
        assert is_free(tmp_path, "g")
        with turn(str(tmp_path), "f", wait_s=0.2):  # the other may be suspended: this one goes on
            pass
        holder.communicate("end\n", timeout=60)
    assert is_free(tmp_path, "f")


def is_free(folder: Path, name: str) -> bool:
    """Return whether a process of its own gets the turn at once."""
    with python("-c", TRIED, str(folder), name) as process:
        return process.communicate(timeout=60)[0] == "True\n"


def test_without_a_folder_to_lock_in_nobody_waits(tmp_path: Path) -> None:
    with turn(str(tmp_path / "missing"), "f"):
        pass


class Kept:
    """A cache in which another process keeps the function while this one waits for its turn."""

    cache_path = "folder"

    def __init__(self, answers: list[Any]) -> None:
        self.answers, self.saved = answers, list[Any]()

    def load_overload(self, signature: Any, target: Any) -> Any:
        return self.answers.pop(0)

    def save_overload(self, signature: Any, made: Any) -> None:
        self.saved.append(made)


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record when turns begin and end."""
    seen: list[str] = []

    @contextmanager
    def recorded(folder: str, name: str) -> Iterator[None]:
        seen.append(f"{folder} {name}")
        yield
        seen.append("end")

    monkeypatch.setattr(jit, "_turns", [recorded])
    return seen


def test_a_turn_begins_where_nothing_is_kept_and_ends_once_it_is(turns: list[str]) -> None:
    kept = jit._KeptInTurns(there := Kept(["code", None, None, None, "of another"]), "f")
    assert kept.load_overload("()", None) == "code" and turns == []
    assert kept.load_overload("()", None) is None and turns == ["folder f"]
    kept.save_overload("()", "made")
    assert there.saved == ["made"] and turns == ["folder f", "end"]
    assert kept.load_overload("()", None) == "of another" and turns == ["folder f", "end"] * 2
    assert kept.cache_path == "folder"
