"""`recsys users show`, `publish`, `merge` and `erase`, `recsys items similar`, `bought-together` and `publish`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from workers.cli.arguments import ItemId, UserId, checked_id, refuse_ids_of_no_user
from workers.cli.console import JsonOption, print_json, settings, tell, tell_rows, utc
from workers.cli.erasing import erase
from workers.cli.file_options import (
    BadRows,
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
    Missing,
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
    missing: Missing = None,
    rate: Rate = None,
    skip_rows: SkipRows = 0,
    dry_run: Dry = False,
    bad_rows: BadRows = None,
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
        ignore_unknown, missing=missing,
    )  # fmt: skip
    publish_file(file, "items", options, PublishOptions(rate, skip_rows, dry_run, as_json, bad_rows))


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


@items.command("bought-together")
def bought_together(
    item_id: ItemId,
    k: Annotated[int, typer.Option("-k", "--count", help="How many.", min=1, max=1000)] = 20,
    as_json: JsonOption = False,
) -> None:
    """The items that the same users chose as this one, by events of related.event_types.

    Pairs of fewer users than related.least_users are left out. Items that may not be listed now are shown too.
    """
    from workers.operations.lookup import bought_together_items

    found = asyncio.run(bought_together_items(settings(), item_id, k))
    if as_json:
        print_json(found)
        return
    rows = [
        (item["item_id"], item["title"], f"{item['support']:,}", f"{item['confidence']:.1%}", f"{item['lift']:.3g}") for item in found
    ]
    tell_rows(("item", "title", "users", "of this item's", "lift"), rows, folding=("title",), title=f"bought together with {item_id}")


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
    missing: Missing = None,
    rate: Rate = None,
    skip_rows: SkipRows = 0,
    dry_run: Dry = False,
    bad_rows: BadRows = None,
    ignore_unknown: Lenient = False,
    as_json: JsonOption = False,
) -> None:
    """Publish profiles of users (attributes, preferred categories); a later record of a user replaces the whole of the earlier one.

    Files are read as those of items: --map user_id=id,categorical_attributes.country=Country,numeric_attributes.age=Age.
    """
    options = FileOptions(
        columns, form, time_unit, time_format, time_zone, repeated_hour, encoding, delimiter, header, decimal, split, levels, repeats,
        ignore_unknown, missing=missing,
    )  # fmt: skip
    publish_file(file, "users", options, PublishOptions(rate, skip_rows, dry_run, as_json, bad_rows))


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
    if found.get("merged_into"):
        tell(f"merged into {found['merged_into']}: this id has no list")
    if found.get("merge_ignored"):
        tell("merged into another id in a circle, or over too many others: this counts for nothing; publish a profile of one of them")
    if found.get("merged_from"):
        tell(f"joined with the histories of {', '.join(found['merged_from'])}")
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


@users.command("merge")
def merge(
    ended_id: Annotated[str, typer.Argument(help="The id that ends.", metavar="ENDED_ID", callback=checked_id)],
    account_id: Annotated[str, typer.Argument(help="The id that goes on.", metavar="ACCOUNT_ID", callback=checked_id)],
    as_json: JsonOption = False,
) -> None:
    """Say that a user goes on with another id: what both have done counts for it, and the ended id has no list any more.

    Publishes one record to the users topic; it takes the place of the ended id's profile. To take it back, publish a profile of the ended
    id with `recsys users publish`.
    """
    from workers.client import EventPublisher

    if ended_id == account_id:
        raise typer.BadParameter("an id cannot go on as itself: name the account's id", param_hint="ACCOUNT_ID")
    refuse_ids_of_no_user([ended_id, account_id], settings())
    with EventPublisher(settings()) as publisher:
        record = publisher.merge_users(ended_id, account_id)
    if as_json:
        print_json(record.model_dump(exclude_none=True))
    else:
        tell(f"user {ended_id} goes on as {account_id}")


users.command("erase")(erase)


def _strength(weight: float) -> str:
    return f"{'liked' if weight > 0 else 'disliked'} {abs(weight):.4g}"
