"""`recsys up` writes its settings for scripts that wait for the file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from workers.cli.stack import _quoted, _write_whole


def test_a_file_that_is_waited_for_is_there_with_all_of_its_text_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, moved = tmp_path / "env", os.replace
    before: list[tuple[bool, str]] = []

    def replace(whole: str, to: str) -> None:
        before.append((path.exists(), Path(whole).read_text()))
        moved(whole, to)

    monkeypatch.setattr(os, "replace", replace)
    _write_whole(path, "export A='1'\n")
    assert before == [(False, "export A='1'\n")]
    _write_whole(path, "export A='2'\n")
    assert path.read_text() == "export A='2'\n" and list(tmp_path.iterdir()) == [path]


def test_a_device_stays_a_device() -> None:
    _write_whole(Path("/dev/null"), "export A='1'\n")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("value", ["/tmp/a b", "/tmp/it's", "/tmp/\x1b[31m'\\x1b", "/tmp/\u202egnp", "/tmp/上原", "$HOME `id` \\", "a\nb"])
def test_an_export_is_read_by_a_shell_as_it_was_and_shows_every_character(value: str) -> None:
    word = _quoted(value)
    assert word.isprintable()
    env = os.environ | {"LC_ALL": "C.UTF-8"}
    read = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True, env=env)
    assert read.stdout.decode() == value
