"""`recsys topics create | list`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from workers.cli.console import CommandFailed, JsonOption, print_json, settings, tell_rows, warn

app = typer.Typer(help="Create, check and list the topics.", no_args_is_help=True)


def _rows(states: Any, before: set[str] | None = None) -> list[dict[str, Any]]:
    return [
        {
            **asdict(state.spec),
            "found_partitions": state.partitions,
            "topic_id": state.topic_id,
            "problem": state.problem,
            **({} if before is None else {"created": state.spec.name not in before}),
        }
        for state in states
    ]


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    shown = []
    for row in rows:
        found = row["found_partitions"]
        state = "created" if row.get("created") else "missing" if found is None else "differs" if row["problem"] else "ok"
        shown.append((row["name"], row["role"], str(found or row["partitions"]), row["configs"]["cleanup.policy"], state))
    tell_rows(("topic", "for", "partitions", "cleanup", "state"), shown)


@app.command("create")
def create(as_json: JsonOption = False) -> None:
    """Create the topics that are missing and check the others; safe to run again."""
    from workers.kafka.topics import describe, provision

    chosen = settings()
    before = {state.spec.name for state in describe(chosen) if state.partitions is not None}
    _show(_rows(provision(chosen), before), as_json)


@app.command("list")
def list_topics(as_json: JsonOption = False) -> None:
    """Show the topics of the settings and what is there. Exit code 1 if one is missing or differs."""
    from workers.kafka.topics import describe

    rows = _rows(describe(settings()))
    _show(rows, as_json)
    problems = [row["problem"] for row in rows if row["problem"]]
    for problem in problems:
        warn(problem)
    if problems:
        raise CommandFailed
