"""`recsys man`: manual pages of all commands, made from their help."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from workers.cli.console import tell

CODES = (
    ("0", "done"),
    ("1", "failed, or what was asked for is wrong or not there: one line on standard error says why"),
    ("2", "a wrong option, argument or setting; nothing was done"),
    ("130", "interrupted by Ctrl-C"),
)
"""Exit codes of every command; docs/cli.md has the same table."""
VARIABLES = (
    ("RECSYS_CONFIG", "a TOML file of settings, instead of recsys.toml in the working folder"),
    ("RECSYS_DEBUG", "1 shows the traceback of an unexpected error"),
    ("RECSYS_SECTION__NAME", "any setting, such as RECSYS_KAFKA__BOOTSTRAP_SERVERS; `recsys settings` prints all"),
    ("NO_COLOR", "any value switches colours off"),
    ("COLUMNS", "width of tables"),
)


def manual(folder: Annotated[Path, typer.Argument(help="Where the pages go, such as ~/.local/share/man/man1.")]) -> None:
    """Write a manual page for each command: recsys.1, recsys-lists-get.1 and so on. Then `man recsys-lists-get` shows one."""
    pages = dict(all_pages())
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (folder / f"{name}.1").write_text(text, "utf-8")
    tell(f"{len(pages)} manual pages are in {folder}")


def all_pages() -> Iterator[tuple[str, str]]:
    """Yield the name of each page and its text in the language of man."""
    from importlib import metadata

    from workers.cli.app import whole_tree

    version = metadata.version("recsys-stream")
    yield from _pages(whole_tree(), ("recsys",), version)


def _pages(command: Any, path: tuple[str, ...], version: str) -> Iterator[tuple[str, str]]:
    yield "-".join(path), page(command, path, version)
    for name, below in getattr(command, "commands", {}).items():
        yield from _pages(below, (*path, name), version)


def page(command: Any, path: tuple[str, ...], version: str) -> str:
    """Return the page of one command."""
    summary, *paragraphs = re.split(r"\n\s*\n", (command.help or "").strip()) or [""]
    below = getattr(command, "commands", {})
    synopsis = [f".B {_escaped(' '.join(path))}", *_usage(command, bool(below))]
    lines = [f'.TH "{"-".join(path).upper()}" "1" "" "recsys {_escaped(version)}" "recsys"', ".SH NAME"]
    lines += [f"{_escaped('-'.join(path))} \\- {_escaped(_one_line(summary).split('. ')[0].rstrip('.'))}", ".SH SYNOPSIS", *synopsis]
    if paragraphs:
        lines.append(".SH DESCRIPTION")
        lines += [line for text in paragraphs for line in (".PP", _escaped(_one_line(text)))]
    if below:
        lines.append(".SH COMMANDS")
        for name, each in below.items():
            short = each.get_short_help_str(10_000)
            lines += [".TP", f".B {_escaped('-'.join((*path, name)))}(1)", _escaped(_one_line(short))]
    lines += _parameters(command)
    lines += [".SH EXIT STATUS", *(line for code, text in CODES for line in (".TP", f".B {code}", _escaped(text)))]
    lines += [".SH ENVIRONMENT", *(line for name, text in VARIABLES for line in (".TP", f".B {_escaped(name)}", _escaped(text)))]
    if len(path) > 1:
        lines += [".SH SEE ALSO", f".BR {_escaped('-'.join(path[:-1]))} (1)"]
    return "\n".join(lines) + "\n"


def _usage(command: Any, is_group: bool) -> list[str]:
    arguments = [_name(parameter) for parameter in command.params if parameter.param_type_name == "argument"]
    return [_escaped(" ".join(["[OPTIONS]", *(["COMMAND [ARGS]..."] if is_group else arguments)]))]


def _parameters(command: Any) -> Iterator[str]:
    given = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    for title, kind in (("ARGUMENTS", "argument"), ("OPTIONS", "option")):
        chosen = [parameter for parameter in given if parameter.param_type_name == kind]
        if chosen or kind == "option":
            yield f".SH {title}"
        for parameter in chosen:
            names = [*parameter.opts, *parameter.secondary_opts] if kind == "option" else [_name(parameter)]
            takes = "" if kind == "argument" or parameter.is_flag else f" {parameter.metavar or parameter.name.upper()}"
            said = _escaped(_one_line(parameter.help or "")) + _default(parameter)
            yield from (".TP", f".B {_escaped(', '.join(names))}{_escaped(takes)}", said)
        if kind == "option":
            yield from (".TP", ".B \\-h, \\-\\-help", "Show the help and exit.")


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _default(parameter: Any) -> str:
    default = parameter.default
    if default is None or isinstance(default, bool) or callable(default) or parameter.required:
        return ""
    return _escaped(f" Default: {default}.")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _escaped(text: str) -> str:
    """Return text as man takes it: no escape and no request of its own."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    escaped = "".join(char if char.isascii() else f"\\[u{ord(char):04X}]" for char in escaped) or "\\&"
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
