"""The commands, in the order in which help shows them. A command's module is imported when that command is called or completed."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command or a group of commands lies, and its help text in a list of commands (the first line of its own help)."""

    module: str
    attribute: str
    help: str
    is_group: bool = True


def _command(module: str, attribute: str, text: str) -> Entry:
    return Entry(module, attribute, text, is_group=False)


COMMANDS: dict[str, Entry] = {
    "demo": _command("stack", "demo", "MovieLens 100K through broker, state, trainer and lists on this machine, with figures at the end."),
    "up": _command(
        "stack", "up", "Start broker, Valkey, topics and workers on this machine; runs until Ctrl-C or SIGTERM, then stops all of it."
    ),
    "traffic": _command(
        "traffic",
        "traffic",
        "Publish what visitors of a made-up shop do, at a rate, until Ctrl-C: something to look at on a system without data.",
    ),
    "init": _command(
        "init",
        "init",
        "Write recsys.toml and docker-compose.override.yml for a kind of service: weights of events, repeats, half-lives, rules, rows.",
    ),
    "status": _command(
        "status",
        "status",
        "Show on one screen how everything is: workers, lag, freshness, models, lists, dead letters, Redis, what is wrong and what to do.",
    ),
    "logs": _command(
        "logs",
        "logs",
        "Show what the processes of `recsys up` wrote, of all of them in the order of time; or those of `docker compose`.",
    ),
    "dashboard": _command(
        "worker",
        "dashboard",
        "Show pages for people: figures, any user's homepage, models, the catalogue and dead letters. Needs the extra `web`.",
    ),
    "worker": Entry("worker", "app", "Run a worker in this process."),
    "topics": Entry("topics", "app", "Create, check and list the topics."),
    "import": _command(
        "importing", "import_files", "Publish files of anybody: guess what they hold, show it with examples, ask, and publish."
    ),
    "export": Entry("exporting", "app", "Write lists, models, state, events, items or users to a Parquet file."),
    "events": Entry("events", "app", "Publish events from files."),
    "items": Entry("inspection", "items", "Publish the catalogue; look at what goes with what."),
    "users": Entry("inspection", "users", "Publish profiles; look at what is known of a user."),
    "lists": Entry("lists", "app", "Read the lists that were published."),
    "rules": Entry("rules", "app", "See what rules do to lists, and publish rules to running workers."),
    "state": Entry("state", "app", "Rebuild the state from the log, and check it against the log."),
    "models": Entry("models", "app", "List, show, train, promote, roll back and retire models."),
    "dlq": Entry("dlq", "app", "Dead letters: see what was refused and why; send records again that are accepted now."),
    "explain": _command(
        "explain",
        "explain",
        "Make a user's list now and say why it is as it is: sources, features, filters, stages and rules, and why an item is not there.",
    ),
    "evaluate": _command(
        "evaluate", "evaluate", "Train kinds of models on one part of the data and judge them on the other, which is looked at once."
    ),
    "doctor": _command("diagnosis", "doctor", "Check versions, settings, Kafka, topics, Redis and the stored layout, and say what to do."),
    "settings": _command("diagnosis", "show_settings", "Print every setting that is in force, with secrets masked."),
    "completion": _command("completion", "completion", "Print what makes a shell complete commands and options at the Tab key."),
    "man": _command("manual", "manual", "Write a manual page for each command: recsys.1, recsys-lists-get.1 and so on."),
}
"""Name of a command ▸ where it lies. A test compares the help texts with those of the commands."""


def load(name: str) -> Any:
    """Import a command and return it."""
    entry = COMMANDS[name]
    found = getattr(importlib.import_module(f"workers.cli.{entry.module}"), entry.attribute)
    holder = typer.Typer(add_completion=False)
    holder.callback()(_nothing)
    if entry.is_group:
        holder.add_typer(found, name=name)
    else:
        holder.command(name)(found)
    group: Any = typer.main.get_command(holder)
    return group.commands[name]


def _nothing() -> None:
    """Make the holder of one command a group."""


class CommandTree(TyperGroup):
    """The group `recsys`: it lists stand-ins with their help texts, and resolves to the commands themselves."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self._loaded: set[str] = set()
        for name, entry in COMMANDS.items():
            stand_in: Any = TyperGroup(name=name, help=entry.help) if entry.is_group else TyperCommand(name, help=entry.help)
            self.commands[name] = stand_in

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command that the arguments name, imported."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, found if name is None else self.loaded(name), rest

    def loaded(self, name: str) -> Any:
        """Return a command, imported."""
        if name in COMMANDS and name not in self._loaded:
            self.commands[name] = load(name)
            self._loaded.add(name)
        return self.commands[name]

    def load_all(self) -> CommandTree:
        """Import every command: for documents and tests."""
        for name in COMMANDS:
            self.loaded(name)
        return self
