"""`recsys doctor` and `recsys settings`."""

from __future__ import annotations

from dataclasses import asdict

from workers.cli.console import CommandFailed, JsonOption, print_json, settings, tell_rows

STYLES = {"ok": "green", "warning": "yellow", "wrong": "red"}


def doctor(as_json: JsonOption = False) -> None:
    """Check versions, settings, Kafka, topics, Redis and the stored layout, and say what to do. Exit code 1 if something is wrong."""
    from workers.operations.doctor import examine

    findings = examine(settings())
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        from rich.text import Text

        rows = [(found.name, Text(found.state, style=STYLES[found.state]), found.text, found.remedy) for found in findings]
        tell_rows(("check", "state", "found", "what to do"), rows, folding=("found", "what to do"))
    if any(finding.state == "wrong" for finding in findings):
        raise CommandFailed


def show_settings(as_json: JsonOption = False) -> None:
    """Print every setting that is in force, with secrets masked."""
    from workers.runtime.shown_settings import masked

    values = masked(settings())
    if as_json:
        print_json(values)
        return
    rows = [
        (f"{section}.{name}", "" if value is None else str(value), f"RECSYS_{section}__{name}".upper())
        for section, fields in values.items()
        for name, value in fields.items()
    ]
    tell_rows(("setting", "value", "environment variable"), rows)
