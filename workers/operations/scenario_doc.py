"""Writes the tables of settings in docs/scenario-shop.md, -video.md, -news.md and -social.md, from what `recsys init` writes.

`python -m workers.operations.scenario_doc` writes them, with `--check` it says whether one is stale.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from workers.operations.scenarios import SCENARIOS, Scenario
from workers.row_settings import RowSettings
from workers.settings import Settings

FOLDER = Path(__file__).resolve().parents[2] / "docs"
BEGIN, END = "<!-- settings: written by `python -m workers.operations.scenario_doc` -->", "<!-- end of settings -->"


def page_of(name: str, folder: Path = FOLDER) -> Path:
    """Return the page of a scenario."""
    return folder / f"scenario-{name}.md"


def tables(name: str) -> str:
    """Return the generated part of a page: the settings that differ from the defaults, and the rows of the homepage."""
    scenario, defaults = SCENARIOS[name], Settings.model_construct().model_dump(mode="json")
    lines = ["| setting | default | here | why |", "| --- | --- | --- | --- |"]
    for section, written in scenario.sections:
        for key, value, why in _settings(written):
            usual = defaults[section][key]
            if key != "rows" and not _is_same(usual, value):
                lines.append(f"| `{section}.{key}` | {_shown(usual)} | {_shown(value)} | {_cell(why)} |")
    lines += ["", "The homepage has these rows, from the top:", "", "| row | title | items | why |", "| --- | --- | ---: | --- |"]
    return "\n".join([BEGIN, "", *lines, *_rows(scenario), "", END])


def _settings(written: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Any, str]]:
    """Yield key, value and reasons of each setting of a section; a value may take several lines."""
    reasons: list[str] = []
    text = ""
    for why, line in written:
        reasons += [why] if why else []
        text += line.strip() + "\n"
        try:
            ((key, value),) = tomllib.loads(text).items()
        except tomllib.TOMLDecodeError:  # a list that goes on
            continue
        yield key, value, " ".join(reasons)
        reasons, text = [], ""


def _rows(scenario: Scenario) -> Iterator[str]:
    usual = RowSettings.model_fields["size"].default
    for section, written in scenario.sections:
        for why, line in written:
            if section == "lists" and line.lstrip().startswith("{kind"):
                (row,) = tomllib.loads(f"rows = [{line}]")["rows"]
                yield f"| `{row['kind']}` | {row['title']} | {row.get('size', usual)} | {_cell(why)} |"


def _is_same(usual: Any, value: Any) -> bool:
    if isinstance(usual, dict) and isinstance(value, dict):
        return all(usual.get(key) == one for key, one in value.items())
    return bool(usual == value)


def _shown(value: Any) -> str:
    if value in ([], {}, ()):
        return "none"
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return f"`{', '.join(value)}`"
    return f"`{value if isinstance(value, str) else _plain(value)}`".replace("|", "\\|")


def _plain(value: Any) -> str:
    """Return a value in the words of TOML."""
    if isinstance(value, dict):
        return ", ".join(f"{key} = {_plain(one)}" if not isinstance(one, dict) else f"{key}: {_plain(one)}" for key, one in value.items())
    if isinstance(value, list):
        return "; ".join(_plain(one) for one in value)
    return value if isinstance(value, str) else json.dumps(value)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def with_tables(text: str, name: str) -> str:
    """Return a page with its generated part as it should be."""
    before, _, rest = text.partition(BEGIN)
    return before + tables(name) + rest.partition(END)[2]


def stale(folder: Path = FOLDER) -> list[str]:
    """Return the scenarios whose page is missing or differs from what `recsys init` writes."""
    found = {name: page_of(name, folder) for name in SCENARIOS}
    return [name for name, page in found.items() if not page.exists() or (text := page.read_text("utf-8")) != with_tables(text, name)]


def main(arguments: Sequence[str] | None = None, folder: Path = FOLDER) -> int:
    """Write the tables, or with `--check` only compare them: exit code 1 if one is stale."""
    parser = argparse.ArgumentParser(prog="python -m workers.operations.scenario_doc", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a page is stale")
    wrong = stale(folder)
    if parser.parse_args(arguments).check:
        for name in wrong:
            print(f"{page_of(name).name} is stale: run python -m workers.operations.scenario_doc", file=sys.stderr)
        return int(bool(wrong))
    for name in wrong:
        page = page_of(name, folder)
        page.write_text(with_tables(page.read_text("utf-8"), name), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
