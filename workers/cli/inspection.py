"""`recsys users show`, `recsys items similar`, `recsys items publish`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from workers.cli.console import JsonOption, out, print_json, settings, table
from workers.cli.events import File, Form, Lenient, Map, Rate, Unit, publish_file
from workers.errors import SettingsError

items = typer.Typer(help="Publish the catalogue; look at what goes with what.", no_args_is_help=True)
users = typer.Typer(help="Look at what is known of a user.", no_args_is_help=True)
SIMILARITIES = ("directed", "cosine", "llr")


@items.command("publish")
def publish(
    file: File,
    columns: Map = None,
    form: Form = None,
    time_unit: Unit = "ms",
    rate: Rate = None,
    ignore_unknown: Lenient = False,
    as_json: JsonOption = False,
) -> None:
    """Publish items (title, categories, attributes). In tables, categories are separated by |."""
    publish_file(file, "items", columns, form, None, time_unit, rate, ignore_unknown, as_json)


@items.command("similar")
def similar(
    item_id: Annotated[str, typer.Argument(metavar="ITEM")],
    k: Annotated[int, typer.Option("-k", "--count", help="How many.", min=1, max=1000)] = 20,
    similarity: Annotated[str | None, typer.Option(help="directed, cosine or llr; else the one of the settings.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The items that most often go with this one, by live co-occurrence."""
    from workers.inspect import similar_items

    chosen = settings()
    if similarity is not None and similarity not in SIMILARITIES:
        raise SettingsError(f"--similarity: one of {', '.join(SIMILARITIES)}")
    found = asyncio.run(similar_items(chosen, item_id, k, similarity or chosen.state.similarity))
    if as_json:
        print_json(found)
    else:
        _print({f"similar to {item_id}": found})


@users.command("show")
def show(user_id: Annotated[str, typer.Argument(metavar="USER")], as_json: JsonOption = False) -> None:
    """A user's history, seen items, embeddings and profile as they lie in Redis."""
    from workers.inspect import show_user

    found = asyncio.run(show_user(settings(), user_id))
    if as_json:
        print_json(found)
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    """Scalars as lines, lists of dictionaries as tables."""
    for name, value in found.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            shown = table(*value[0], title=name)
            for row in value:
                shown.add_row(*(_text(cell) for cell in row.values()))
            out.print(shown)
        else:
            out.print(f"{name}: {_text(value)}", markup=False)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(_text(part) for part in value)
    return ", ".join(f"{k}={_text(v)}" for k, v in value.items()) if isinstance(value, dict) else str(value)
