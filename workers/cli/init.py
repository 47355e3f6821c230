"""`recsys init`."""

from __future__ import annotations

import time
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
    with_data: Annotated[bool, typer.Option("--with-data", help="Add a small made-up data set that ends now, to try it with.")] = False,
) -> None:
    """Write recsys.toml and docker-compose.override.yml for a kind of service: weights of events, repeats, half-lives, rules, rows.

    Each line says why it is there. Nothing that is there is replaced. With --with-data there are also CSV files in the folder `sample`, and
    the commands that lead from them to a page in the dashboard.
    """
    if scenario not in SCENARIOS:
        raise SettingsError(f"SCENARIO: one of {', '.join(SCENARIOS)}")
    from workers.operations.scenarios import write_files

    if with_data:
        _with_data(scenario, folder)
        return
    for path in write_files(scenario, folder):
        tell(f"{path} written")
    tell("next: recsys settings shows what is in force, recsys up or docker compose up starts it, recsys import FILE brings your data")


def _with_data(scenario: str, folder: Path) -> None:
    """Write settings and data, and say what to do with them."""
    from workers.operations.sample_data.files import first_steps, sample_paths, write_sample
    from workers.operations.scenarios import write_files

    for path in write_files(scenario, folder, sample_paths(folder)):
        tell(f"{path} written")
    written = write_sample(scenario, folder, int(time.time()))
    for path in written.paths:
        tell(f"{path} written")
    tell("nothing in them is real: people, things and what happened are drawn at random. See them on a page:")
    for step in first_steps(folder, written.user_id):
        typer.echo(step)
