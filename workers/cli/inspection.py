"""`recsys users show`, `recsys users publish`, `recsys items similar`, `recsys items publish`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from workers.cli.arguments import ItemId, UserId
from workers.cli.console import JsonOption, print_json, settings, tell, tell_rows, utc
from workers.cli.file_options import (
    Decimal,
    Delimiter,
    Dry,
    Encoding,
    File,
    FileOptions,
    Form,
    Header,
    Lenient,
    Levels,
    Map,
    Rate,
    RepeatedHour,
    Repeats,
    SkipRows,
    Split,
    TimeFormat,
    Unit,
    Zone,
)
from workers.cli.publishing import PublishOptions, publish_file
from workers.errors import SettingsError

items = typer.Typer(help="Publish the catalogue; look at what goes with what.", no_args_is_help=True)
users = typer.Typer(help="Publish profiles; look at what is known of a user.", no_args_is_help=True)
SIMILARITIES = ("directed", "cosine", "llr")


@items.command("publish")
def publish(
    file: File,
    columns: Map = None,
    form: Form = None,
    time_unit: Unit = None,
    time_format: TimeFormat = None,
    time_zone: Zone = None,
    repeated_hour: RepeatedHour = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    header: Header = None,
    decimal: Decimal = None,
    split: Split = None,
    levels: Levels = None,
    repeats: Repeats = None,
    rate: Rate = None,
    skip_rows: SkipRows = 0,
    dry_run: Dry = False,
    ignore_unknown: Lenient = False,
    as_json: JsonOption = False,
) -> None:
    """Publish items (title, categories, attributes); a later record of an item replaces the whole of the earlier one.

    In tables, categories are separated by | (--split), and a path such as Home > Kitchen is its levels (--levels). Attributes have columns
    of their own with --map categorical_attributes.brand=Vendor,numeric_attributes.price=Price. Rows of one item that follow each other, as
    shops export variants, become one item with --repeats merge.
    """
    options = FileOptions(
        columns, form, time_unit, time_format, time_zone, repeated_hour, encoding, delimiter, header, decimal, split, levels, repeats,
        ignore_unknown,
    )  # fmt: skip
    publish_file(file, "items", options, PublishOptions(rate, False, skip_rows, dry_run, as_json))


@items.command("similar")
def similar(
    item_id: ItemId,
    k: Annotated[int, typer.Option("-k", "--count", help="How many.", min=1, max=1000)] = 20,
    similarity: Annotated[str | None, typer.Option(help="directed, cosine or llr; else the one of the settings.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The items that most often go with this one, by live co-occurrence."""
    from workers.operations.lookup import similar_items

    chosen = settings()
    if similarity is not None and similarity not in SIMILARITIES:
        raise SettingsError(f"--similarity: one of {', '.join(SIMILARITIES)}")
    found = asyncio.run(similar_items(chosen, item_id, k, similarity or chosen.state.similarity))
    if as_json:
        print_json(found)
        return
    rows = [(item["item_id"], item["title"], f"{item['score']:.4g}", f"{item['cooccurrence']:.4g}") for item in found]
    tell_rows(("item", "title", "score", "co-occurrence"), rows, folding=("title",), title=f"similar to {item_id}")


@users.command("publish")
def publish_users(
    file: File,
    columns: Map = None,
    form: Form = None,
    time_unit: Unit = None,
    time_format: TimeFormat = None,
    time_zone: Zone = None,
    repeated_hour: RepeatedHour = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    header: Header = None,
    decimal: Decimal = None,
    split: Split = None,
    levels: Levels = None,
    repeats: Repeats = None,
    rate: Rate = None,
    skip_rows: SkipRows = 0,
    dry_run: Dry = False,
    ignore_unknown: Lenient = False,
    as_json: JsonOption = False,
) -> None:
    """Publish profiles of users (attributes, preferred categories); a later record of a user replaces the whole of the earlier one.

    Files are read as those of items: --map user_id=id,categorical_attributes.country=Country,numeric_attributes.age=Age.
    """
    options = FileOptions(
        columns, form, time_unit, time_format, time_zone, repeated_hour, encoding, delimiter, header, decimal, split, levels, repeats,
        ignore_unknown,
    )  # fmt: skip
    publish_file(file, "users", options, PublishOptions(rate, False, skip_rows, dry_run, as_json))


@users.command("show")
def show(user_id: UserId, as_json: JsonOption = False) -> None:
    """A user's history (last touched first), older seen items, embeddings and profile as they are stored in Redis.

    A history has one entry per item. Its weight and type are those that count now: of the strongest event since the user last changed
    their mind, below 0 if that was a dislike.
    """
    from workers.operations.lookup import show_user

    found = asyncio.run(show_user(settings(), user_id))
    if as_json:
        print_json(found)
        return
    history = found.get("history", [])
    tell(f"user {user_id} · partition {found['partition']} · {len(history)} items touched last · {found.get('bytes', 0):,} bytes")
    if found["profile"] is not None:
        tell(f"profile: {found['profile']}")
    if history:
        rows = [
            (
                utc(row["event_ts_s"] * 1000, "seconds"),
                row["item_id"],
                row["title"],
                row["type"],
                _strength(row["weight"]),
                str(row["touches"]),
            )
            for row in history
        ]
        tell_rows(("last touch", "item", "title", "type", "weight", "touches"), rows, folding=("title",))
    if found.get("older_items"):
        tell_rows(("older items, newest first",), [(item_id,) for item_id in found["older_items"]])
    if found.get("embeddings"):
        held = [(row["model_tag"], str(row["dimensions"]), f"{row['norm']:.4g}") for row in found["embeddings"]]
        tell_rows(("embedding of model", "dimensions", "length"), held)


def _strength(weight: float) -> str:
    return f"{'liked' if weight > 0 else 'disliked'} {abs(weight):.4g}"
