"""The tree of commands, and the one place where errors become lines and exit codes."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from schemas.errors import SchemaError
from workers.cli.arguments import dash_hint
from workers.cli.console import CommandFailed, encode_everything, warn
from workers.cli.tree import CommandTree
from workers.errors import SettingsError, WorkerError

DEBUG_VARIABLE = "RECSYS_DEBUG"
COMPLETION_VARIABLE = "_RECSYS_COMPLETE"
LINE_BREAKS = re.compile(r"\s*[\r\n]\s*")  # libraries fold their messages; an error here is one line

app = typer.Typer(
    name="recsys",
    cls=CommandTree,
    help="Streaming recommendations: events in Kafka, state in Redis, models retrained in the background, fresh lists on a topic.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        print(f"recsys {metadata.version('recsys-stream')}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    # no docstring: it would replace the help text of the application
    del version


def whole_tree() -> Any:
    """Return the tree with every command imported: for documents and tests."""
    return typer.main.get_command(app).load_all()  # type: ignore[attr-defined]


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code. No exception but MemoryError leaves here, and no traceback is printed."""
    encode_everything()
    if COMPLETION_VARIABLE in os.environ:  # a shell asks at the Tab key
        from typer._completion_classes import completion_init

        completion_init()
    try:
        result = typer.main.get_command(app).main(list(arguments), prog_name="recsys", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except CommandFailed as failure:
        return failure.code
    except SettingsError as error:
        return _say(error, 2)
    except (WorkerError, SchemaError) as error:
        return _say(error, 1)
    except typer.Exit as done:
        return done.exit_code
    except KeyboardInterrupt:
        return 130
    except typer.Abort as abort:  # click's name for Ctrl-C, and for an EOFError from anywhere
        if isinstance(abort.__cause__, EOFError):
            return _say("unexpected EOFError: something that was read ended too early", 1)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes it once more
        return 1
    except Exception as error:
        usage = getattr(error, "format_message", None)
        if usage is not None:  # click's own: a wrong option or argument
            return _say(f"{usage()}{dash_hint(error, arguments)} (see `recsys --help`)", int(getattr(error, "exit_code", 2)))
        if os.environ.get(DEBUG_VARIABLE):
            raise
        return _say(f"unexpected {type(error).__name__}: {error} (set {DEBUG_VARIABLE}=1 for the traceback)", 1)


def _say(error: object, code: int) -> int:
    from workers.runtime.redaction import redact

    line = redact(LINE_BREAKS.sub(" ", str(error)).strip()) or type(error).__name__
    warn(f"recsys: {line}", style="red")
    return code


def main() -> None:
    """Entry point of the `recsys` command."""
    sys.exit(run(sys.argv[1:]))
