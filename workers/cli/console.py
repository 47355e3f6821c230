"""Holds what all commands share: where output goes, the settings, and the arguments that are ids."""

from __future__ import annotations

import datetime as dt
import io
import os
import sys
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.runtime.text import json_text

if TYPE_CHECKING:
    from rich.text import Text

    from workers.runtime.terminal import Cell, DataConsole
    from workers.settings import Settings

PIPED_WIDTH = 200
"""Columns of a table that goes to a file or another program, which would otherwise be folded at 80."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


class CommandFailed(Exception):
    """The command did what it could and reported why that was not all; the exit code says so. Nothing more is printed."""

    def __init__(self, code: int = 1) -> None:
        super().__init__(code)
        self.code = code


@cache
def output() -> DataConsole:
    """Return the console of standard output."""
    from workers.runtime.terminal import DataConsole

    return DataConsole(soft_wrap=False, width=None if sys.stdout.isatty() or os.environ.get("COLUMNS") else PIPED_WIDTH)


@cache
def errors() -> DataConsole:
    """Return the console of standard error."""
    from workers.runtime.terminal import DataConsole

    return DataConsole(stderr=True)


def settings() -> Settings:
    """Settings of this process, whose secrets no log or message shows from here on. Raises SettingsError (exit code 2)."""
    from workers.runtime.redaction import hide_secrets
    from workers.settings import load_settings

    chosen = load_settings()
    hide_secrets(chosen)
    return chosen


def reachable_settings() -> Settings:
    """Return `settings()` once Kafka takes them: said before a command loads the libraries of the models, which takes seconds.

    Raises Transient, SettingsError.
    """
    from workers.kafka.connection import check_reachable

    chosen = settings()
    check_reachable(chosen.kafka)
    return chosen


def encode_everything() -> None:
    """Let standard output and error escape what their encoding lacks, instead of failing in the middle of a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_json(value: Any) -> None:
    """Print one JSON document in ASCII on one line of standard output."""
    sys.stdout.write(json_text(value) + "\n")
    sys.stdout.flush()


def print_document(value: Any) -> None:
    """Print one JSON document for people: indented, in ASCII."""
    sys.stdout.write(json_text(value, indent=2) + "\n")
    sys.stdout.flush()


def tell(text: str | Text) -> None:
    """Print one line on standard output; a string is data."""
    from workers.runtime.terminal import print_line

    print_line(output(), text)


def warn(text: str | Text, style: str | None = None) -> None:
    """Print one line on standard error; a string is data."""
    from workers.runtime.terminal import print_line

    print_line(errors(), text, style if errors().is_terminal else None)


def tell_rows(columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, folding: Collection[str] = (), title: str | None = None) -> None:
    """Print rows on standard output: a table where it fits, else blocks of lines. `folding` names the columns of prose."""
    from workers.runtime.terminal import print_rows

    print_rows(output(), columns, rows, folding=folding, title=title)


def utc(ts_ms: float, timespec: str = "milliseconds") -> str:
    """Return a time as ISO 8601 in UTC; a number that no calendar has stays a number."""
    try:
        return dt.datetime.fromtimestamp(ts_ms / 1000, dt.UTC).isoformat(timespec=timespec).replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return str(ts_ms)
