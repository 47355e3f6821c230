"""`recsys init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workers.cli.console import tell
from workers.errors import SettingsError

SCENARIOS = ("shop", "video", "news", "social")


def complete_scenario(incomplete: str) -> list[str]:
    """Return the scenarios that begin like this."""
    return [name for name in SCENARIOS if name.startswith(incomplete)]


def init(
    scenario: Annotated[str, typer.Argument(help="shop, video, news or social.", autocompletion=complete_scenario)],
    folder: Annotated[Path, typer.Option("--folder", help="Where the files go.")] = Path("."),
) -> None:
    """Write recsys.toml and docker-compose.override.yml for a kind of service: weights of events, repeats, half-lives, rules, rows.

    Each line says why it is there. Nothing that is there is replaced.
    """
    if scenario not in SCENARIOS:
        raise SettingsError(f"SCENARIO: one of {', '.join(SCENARIOS)}")
    from workers.operations.scenarios import write_files

    for path in write_files(scenario, folder):
        tell(f"{path} written")
    tell("next: recsys settings shows what is in force, recsys up or docker compose up starts it, recsys import FILE brings your data")
