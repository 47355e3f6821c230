"""The tree of commands, and the one place where errors become lines and exit codes."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated

import typer

from schemas.errors import SchemaError
from workers.cli import diagnosis, dlq, events, lists, rules, stack, state, topics, worker
from workers.cli import evaluate as evaluating
from workers.cli import explain as explaining
from workers.cli import inspection as inspect_commands
from workers.cli.arguments import dash_hint
from workers.cli.console import CommandFailed, encode_everything, warn
from workers.errors import SettingsError, WorkerError
from workers.runtime.redaction import redact

DEBUG_VARIABLE = "RECSYS_DEBUG"
LINE_BREAKS = re.compile(r"\s*[\r\n]\s*")  # libraries fold their messages; an error here is one line

app = typer.Typer(
    name="recsys",
    help="Streaming recommendations: events in Kafka, state in Redis, models retrained in the background, fresh lists on a topic.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"recsys {metadata.version('recsys-stream')}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    # no docstring: it would replace the help text of the application
    del version


app.command("demo")(stack.demo)
app.command("up")(stack.up)
app.add_typer(worker.app, name="worker")
app.add_typer(topics.app, name="topics")
app.add_typer(events.app, name="events")
app.add_typer(inspect_commands.items, name="items")
app.add_typer(inspect_commands.users, name="users")
app.add_typer(lists.app, name="lists")
app.add_typer(rules.app, name="rules")
app.add_typer(state.app, name="state")
app.add_typer(dlq.app, name="dlq")
app.command("explain")(explaining.explain)
app.command("evaluate")(evaluating.evaluate)
app.command("doctor")(diagnosis.doctor)
app.command("settings")(diagnosis.show_settings)


def _mount_models(arguments: Sequence[str]) -> None:
    """Mount `recsys models` only where it is asked for or listed: it brings the model store with it."""
    if importlib.util.find_spec("workers.cli.models") is None:
        return
    if "models" in arguments:
        app.add_typer(importlib.import_module("workers.cli.models").app, name="models")
    else:
        app.add_typer(typer.Typer(), name="models", help="List, show, train, promote, roll back and retire models.")


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code. No exception but MemoryError leaves here, and no traceback is printed."""
    encode_everything()
    _mount_models(arguments)
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
    line = redact(LINE_BREAKS.sub(" ", str(error)).strip()) or type(error).__name__
    warn(f"recsys: {line}", style="red")
    return code


def main() -> None:
    """Entry point of the `recsys` command."""
    sys.exit(run(sys.argv[1:]))
