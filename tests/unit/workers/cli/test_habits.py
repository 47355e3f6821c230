"""Habits of the command line: completion, manual pages, colours, exit codes."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from workers.cli import app as application
from workers.cli.manual import CODES, all_pages, page
from workers.cli.tree import COMMANDS

ROOT = Path(__file__).resolve().parents[4]
COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-9]|9[0-7])[0-9;]*m")


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RECSYS_", "NO_COLOR", "FORCE_COLOR", "GITHUB_"))}
    return kept | {"PYTHONPATH": str(ROOT), "RECSYS_CONFIG": os.devnull, "TERM": "xterm-256color", "COLUMNS": "120"} | more


def recsys(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "workers.cli", *arguments], capture_output=True, text=True, env=environment(**more))


def on_a_terminal(*arguments: str, **more: str) -> str:
    """Run a command whose output is a terminal, and return what it printed."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "workers.cli", *arguments]
    with subprocess.Popen(command, stdout=slave, stderr=slave, env=environment(**more)) as process:
        os.close(slave)
        printed = b""
        while True:
            try:
                chunk = os.read(master, 65_536)
            except OSError:  # Linux ends a terminal so
                break
            if not chunk:
                break
            printed += chunk
        process.wait()
    os.close(master)
    return printed.decode()


def path_with_recsys(folder: Path) -> str:
    """Return a PATH on which `recsys` is this program."""
    program = folder / "recsys"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m workers.cli "$@"\n')
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    path = path_with_recsys(tmp_path)
    asked = "source <(recsys completion bash); complete -p recsys; "
    for words in ("(recsys li)", "(recsys lists g)", "(recsys lists get --lang)"):
        asked += f'COMP_WORDS={words}; COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _recsys_completion recsys; echo "${{COMPREPLY[*]}}"; '
    done = subprocess.run(["bash", "--norc", "-c", asked], capture_output=True, text=True, env=environment(PATH=path))
    assert done.stdout.splitlines() == ["complete -o default -F _recsys_completion recsys", "lists", "get", "--language"], done


@pytest.mark.parametrize(
    ("shell", "asked", "answer"),
    [
        ("zsh", {"_TYPER_COMPLETE_ARGS": "recsys dl"}, '"dlq":"Dead letters'),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "recsys init s"}, '"shop"\n"social"'),
        ("fish", {"_TYPER_COMPLETE_ARGS": "recsys topics ", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}, "create\t"),
    ],
)
def test_zsh_and_fish_get_the_words_that_may_follow(shell: str, asked: dict[str, str], answer: str) -> None:
    done = recsys(**{"_RECSYS_COMPLETE": f"complete_{shell}"}, **asked)
    assert done.returncode == 0 and answer in done.stdout, done
    script = recsys("completion", shell).stdout
    assert f"_RECSYS_COMPLETE=complete_{shell}" in script and "recsys" in script


COMPLETED = {
    "recsys dl": "recsys dlq",
    "recsys lists g": "recsys lists get",
    "recsys lists get --lang": "recsys lists get --language",
    "recsys init sh": "recsys init shop",
    "recsys import FOLDER/rec": "recsys import FOLDER/recsys",
}
"""Lines of which one word is left to complete, and what the Tab key makes of them."""


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish")
def test_fish_completes_commands_options_values_and_files(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "PATH": path_with_recsys(tmp_path)}
    completions = tmp_path / "fish" / "completions" / "recsys.fish"
    completions.parent.mkdir(parents=True)
    completions.write_text(recsys("completion", "fish").stdout)
    lines = {line.replace("FOLDER", str(tmp_path)): done.replace("FOLDER", str(tmp_path)) for line, done in COMPLETED.items()}
    asked = "; ".join(f"complete --do-complete '{line}'" for line in lines)
    done = subprocess.run(["fish", "-c", asked], capture_output=True, text=True, env=environment(**home))
    offered = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert offered == [completed.split()[-1] for completed in lines.values()], done


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
def test_zsh_completes_commands_options_values_and_files(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "ZDOTDIR": str(tmp_path), "PATH": path_with_recsys(tmp_path)}
    (tmp_path / ".zshrc").write_text("PS1='ready '; autoload -U compinit; compinit -u -D; source <(recsys completion zsh)\n")
    terminal, other = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 400, 0, 0))  # rows and columns: no line is broken
    with subprocess.Popen(
        ["zsh", "-i"], stdin=other, stdout=other, stderr=other, env=environment(**home), start_new_session=True
    ) as shell:
        os.close(other)
        try:
            printed_until(terminal, "ready ")
            for line, completed in COMPLETED.items():
                os.write(terminal, f"{line.replace('FOLDER', str(tmp_path))}\t".encode())
                printed_until(terminal, completed.replace("FOLDER", str(tmp_path)))
                os.write(terminal, b"\x15")  # Ctrl-U: an empty line again
        finally:
            shell.kill()
            os.close(terminal)


def printed_until(terminal: int, wanted: str) -> None:
    """Read what a program writes to its terminal, without the codes that move the cursor, until it has written `wanted`."""
    printed = b""
    while wanted not in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", printed.decode("utf-8", "replace")):
        ready, _, _ = select.select([terminal], [], [], 60)
        assert ready, (wanted, printed)
        printed += os.read(terminal, 65_536)


def test_colours_are_for_terminals_that_want_them() -> None:
    assert COLOUR.search(on_a_terminal("--help"))
    assert not COLOUR.search(on_a_terminal("--help", NO_COLOR="1"))
    assert "\x1b" not in recsys("--help").stdout
    failed = ("lists", "get", "")  # an id has at least one byte
    assert COLOUR.search(on_a_terminal(*failed)) and not COLOUR.search(on_a_terminal(*failed, NO_COLOR="1"))
    assert "\x1b" not in recsys(*failed).stderr


def test_the_exit_codes_of_the_documents_are_those_of_the_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert tuple(re.findall(r"^\| (\d+) \| (.*) \|$", text, re.M)) == CODES
    assert application.run(["--version"]) == 0
    monkeypatch.setenv("RECSYS_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    assert application.run(["topics", "list"]) == 1
    assert application.run(["no-such-command"]) == 2
    monkeypatch.setenv("RECSYS_LISTS__SIZE", "0")
    assert application.run(["settings"]) == 2
    monkeypatch.delenv("RECSYS_LISTS__SIZE")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("workers.kafka.topics.describe", interrupt)
    assert application.run(["topics", "list"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_every_command_has_a_manual_page_with_all_its_options() -> None:
    tree: Any = application.whole_tree()
    pages = dict(all_pages())
    assert {f"recsys-{name}" for name in COMMANDS} < pages.keys() and len(pages) > 40
    for name, text in pages.items():
        command = tree
        for part in name.split("-", 1)[1:]:
            while part:
                longest_first = sorted(command.commands, key=len, reverse=True)
                known = next(word for word in longest_first if part == word or part.startswith(f"{word}-"))
                command, part = command.commands[known], part[len(known) + 1 :]
        sections = re.findall(r"^\.SH (.*)$", text, re.M)
        assert {"NAME", "SYNOPSIS", "OPTIONS", "EXIT STATUS", "ENVIRONMENT"} <= set(sections), name
        for parameter in command.params:
            if not getattr(parameter, "hidden", False):
                for option in parameter.opts if parameter.param_type_name == "option" else ():
                    assert option.replace("-", "\\-") in text, (name, option)
        assert not re.search(r"^\.(?!TH|SH|TP|B|BR|PP)\w", text, re.M), f"{name}: a request that the text brought"


def test_a_manual_page_escapes_what_help_says() -> None:
    class Command:
        help = "Say .so /etc/passwd\n\n.so /etc/passwd and back\\slash"
        params: tuple[Any, ...] = ()

    text = page(Command(), ("recsys", "say"), "1")
    assert "\\&.so /etc/passwd and back\\eslash" in text and "\n.so" not in text


def test_groff_reads_the_pages(tmp_path: Path) -> None:
    if shutil.which("groff") is None:
        pytest.skip("there is no groff")
    for name, text in all_pages():
        done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z"], input=text, capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, (name, done.stderr)
