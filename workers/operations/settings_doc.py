"""Writes the table of all settings in docs/configuration.md.

`python -m workers.operations.settings_doc` writes it, with `--check` it says whether it is stale.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from workers.runtime.shown_settings import masked
from workers.section import Section, docstrings_of
from workers.settings import Settings

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
HEAD = """# Configuration

<!-- Written by `python -m workers.operations.settings_doc` from workers/settings.py. Do not edit. -->

Each setting comes from the environment variable named here, else from a TOML file (`RECSYS_CONFIG`, or `./recsys.toml` if that is not
set), else it has its default. In the file a section below is a table: `RECSYS_LISTS__SIZE=30` is `size = 30` under `[lists]`. A variable
that holds a map or a list is JSON: `RECSYS_TRAINER__OPTIONS='{"sasrec": {"max_epochs": 20}}'` (it replaces the default map).

A value that breaks its constraint is refused at start, in one line that names the setting. `recsys settings` prints what is in force,
with secrets masked.

| environment variable | meaning |
| --- | --- |
| `RECSYS_CONFIG` | Path of the TOML file. |
| `RECSYS_DEBUG` | Any value: `recsys` shows the traceback of an unexpected error. |
"""
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
NAMES = {"integer": "whole number", "number": "number", "boolean": "`true` or `false`", "string": "text", "array": "list", "object": "map"}


def constraint(schema: dict[str, Any]) -> str:
    """Describe the values that a JSON schema allows, in words."""
    if "anyOf" in schema:
        branches = schema["anyOf"]
        named = list(dict.fromkeys(constraint(branch) for branch in branches if branch.get("type") != "null"))
        return " or ".join(named) + (", or not set" if any(branch.get("type") == "null" for branch in branches) else "")
    if "$ref" in schema:
        return "map"
    if "enum" in schema:
        return "one of " + ", ".join(f"`{choice}`" for choice in schema["enum"])
    if "$ref" in schema:
        return "map"
    kind = {"password": "secret", "path": "path"}.get(schema.get("format", ""), NAMES.get(schema.get("type", ""), "value"))
    if schema.get("type") == "array" and "items" in schema:
        kind += f" of {constraint(schema['items'])}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        kind += f" from text to {constraint(schema['additionalProperties'])}"
    bounds = [f"{sign} {schema[name]}" for name, sign in BOUNDS.items() if name in schema]
    if "pattern" in schema:
        bounds.append(f"matching `{schema['pattern']}`")
    return " ".join([kind, ", ".join(bounds)]).strip()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _default(value: Any) -> str:
    if value is None:
        return "not set"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def table() -> str:
    """The whole document: one table a section, one row a setting. Reads neither environment nor file."""
    defaults = masked(Settings.model_construct())
    parts = [HEAD]
    for section, field in Settings.model_fields.items():
        model = field.annotation
        assert isinstance(model, type) and issubclass(model, Section)
        schema = model.model_json_schema()
        parts.append(f"\n## `{section}`\n")
        if "description" in schema:
            parts.append(f"\n{_cell(schema['description'])}\n")
        parts.append("\n| environment variable | default | value | meaning |\n| --- | --- | --- | --- |\n")
        parts += _rows(f"RECSYS_{section}", model, defaults[section])
    return "".join(parts)


def _rows(prefix: str, model: type[BaseModel], defaults: dict[str, Any]) -> Iterator[str]:
    """Yield a row for each setting of a section, and for each of the sections in it."""
    described, meaning = model.model_json_schema()["properties"], docstrings_of(model)
    for name, field in model.model_fields.items():
        variable = f"{prefix}__{name}".upper()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _rows(variable, field.annotation, defaults[name])
            continue
        cells = (f"`{variable}`", _default(defaults[name]), constraint(described[name]), meaning.get(name, ""))
        yield "| " + " | ".join(_cell(cell) for cell in cells) + " |\n"


def stale(document: Path = DOCUMENT) -> bool:
    """Return whether the document is missing or differs from the code."""
    return not document.exists() or document.read_text("utf-8") != table()


def main(arguments: Sequence[str] | None = None, document: Path = DOCUMENT) -> int:
    """Write the document, or with `--check` only compare it: exit code 1 if it is stale."""
    parser = argparse.ArgumentParser(prog="python -m workers.operations.settings_doc", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the document is stale")
    if not parser.parse_args(arguments).check:
        document.write_text(table(), "utf-8")
        return 0
    if stale(document):
        print(f"{document.name} is stale: run python -m workers.operations.settings_doc", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
