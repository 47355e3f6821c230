"""`recsys export lists | models | state | events | items | users`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from workers.cli.console import JsonOption, print_json, settings, tell, warn

app = typer.Typer(help="Write lists, models, state, events, items or users to a Parquet file.", no_args_is_help=True)
Out = Annotated[Path, typer.Option("--out", "-o", help="The file to write; one that is there is not replaced.", metavar="FILE")]


@app.command("lists")
def lists(out: Out = Path("lists.parquet"), as_json: JsonOption = False) -> None:
    """The newest list of every user: one row a place, with score, sources and reason."""
    _run("lists", out, as_json)


@app.command("models")
def models(out: Out = Path("models.parquet"), as_json: JsonOption = False) -> None:
    """The versions of the model store: one row each, with the figures that they were judged by, their options and the gate's decision."""
    _run("models", out, as_json)


@app.command("state")
def state(out: Out = Path("state.parquet"), as_json: JsonOption = False) -> None:
    """The histories of all users: one row for each item of each user. Holds personal data; a merged id keeps its own rows."""
    _run("state", out, as_json)


@app.command("events")
def events(out: Out = Path("events.parquet"), as_json: JsonOption = False) -> None:
    """The events of the topic: one row each, with the place in the log. Holds personal data. `recsys import` takes it back as it is."""
    _run("events", out, as_json)


@app.command("items")
def items(out: Out = Path("items.parquet"), as_json: JsonOption = False) -> None:
    """The catalogue: the newest record of each item that was not removed. `recsys import` takes it back as it is."""
    _run("items", out, as_json)


@app.command("users")
def users(out: Out = Path("users.parquet"), as_json: JsonOption = False) -> None:
    """The newest profile of each user, and which ids were merged. Holds personal data. `recsys import` takes it back as it is."""
    _run("users", out, as_json)


def _run(what: str, out: Path, as_json: bool) -> None:
    from workers.cli.progress import Progress
    from workers.operations import export as exporting

    chosen = settings()
    work: Any = getattr(exporting, f"export_{what}")
    with exporting.new_table(out, what) as table, Progress(f"exporting {what}") as bar:
        done = work(chosen, table, bar.total, bar.step)
        n_bad = asyncio.run(done) if asyncio.iscoroutine(done) else done
    if as_json:
        print_json({"what": what, "file": str(out), "rows": table.n_rows, "unreadable": n_bad, "bytes": out.stat().st_size})
        return
    tell(f"{out}: {table.n_rows:,} rows, {out.stat().st_size / 1e6:,.1f} MB")
    if n_bad:
        warn(f"{n_bad:,} records could not be read and were left out")
