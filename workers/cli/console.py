"""What all commands share: where output goes, and the settings."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from workers.settings import Settings, load_settings

PIPED_WIDTH = 200
"""Columns of a table that goes to a file or another program, which would otherwise be folded at 80."""

out = Console(highlight=False, soft_wrap=False, width=None if sys.stdout.isatty() or os.environ.get("COLUMNS") else PIPED_WIDTH)
err = Console(stderr=True, highlight=False)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


class CommandFailed(Exception):
    """The command did what it could and reported why that was not all; the exit code says so. Nothing more is printed."""

    def __init__(self, code: int = 1) -> None:
        super().__init__(code)
        self.code = code


def settings() -> Settings:
    """Settings of this process. Raises SettingsError (exit code 2)."""
    return load_settings()


def print_json(value: Any) -> None:
    """One JSON document on one line of standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table with these column headings."""
    made = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made
