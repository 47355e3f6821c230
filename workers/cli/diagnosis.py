"""`recsys doctor` and `recsys settings`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from rich.text import Text

from workers.cli.console import CommandFailed, JsonOption, print_json, settings, tell_rows
from workers.settings import Settings

MASK = "********"
STYLES = {"ok": "green", "warning": "yellow", "wrong": "red"}


def doctor(as_json: JsonOption = False) -> None:
    """Check versions, settings, Kafka, topics, Redis and the stored layout, and say what to do. Exit code 1 if something is wrong."""
    from workers.doctor import examine

    findings = examine(settings())
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        rows = [(found.name, Text(found.state, style=STYLES[found.state]), found.text, found.remedy) for found in findings]
        tell_rows(("check", "state", "found", "what to do"), rows, folding=("found", "what to do"))
    if any(finding.state == "wrong" for finding in findings):
        raise CommandFailed


def show_settings(as_json: JsonOption = False) -> None:
    """Print every setting that is in force, with secrets masked."""
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


def masked(chosen: Settings) -> dict[str, dict[str, Any]]:
    """Settings by section, as JSON values; of a URL with a password only the password is masked."""
    values: dict[str, dict[str, Any]] = chosen.model_dump(mode="json")
    for section, fields in values.items():
        for name, value in fields.items():
            secret = getattr(getattr(chosen, section), name)
            if hasattr(secret, "get_secret_value"):
                fields[name] = _masked_url(secret.get_secret_value()) if name.endswith("url") else MASK
            elif name.endswith("url") and isinstance(value, str):
                fields[name] = _masked_url(value)
    return values


def _masked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return MASK
    user = f"{parts.username or ''}:{MASK}@" if parts.password else f"{parts.username}@" if parts.username else ""
    query = MASK if parts.query else ""
    return urlunsplit((parts.scheme, f"{user}{host}{port}", parts.path, query, "")) if parts.scheme else url
