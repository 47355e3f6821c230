"""`recsys events publish`."""

from __future__ import annotations

from typing import Annotated

import typer

from workers.cli.console import JsonOption
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

app = typer.Typer(help="Publish events from files.", no_args_is_help=True)


@app.command("publish")
def publish(
    file: File,
    columns: Map = None,
    form: Form = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Type of rows that have none.")] = None,
    types: Annotated[
        list[str] | None,
        typer.Option("--types", help="Event types with other names: view_item=view,select_item=click", metavar="NAME=TYPE,…"),
    ] = None,
    time_unit: Unit = None,
    time_format: TimeFormat = None,
    time_zone: Zone = None,
    repeated_hour: RepeatedHour = None,
    row_ids: Annotated[
        bool, typer.Option("--row-ids", help="Make event ids from rows also where the file has an event_id that rows share.")
    ] = False,
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
    catalogue: Annotated[bool, typer.Option("--catalogue", help="The file holds items, not events.")] = False,
    ignore_unknown: Lenient = False,
    as_json: JsonOption = False,
) -> None:
    """Publish every valid row in order. Bad rows are reported with their line and exit code 1; the others still go out.

    The start of the file is checked first: a wrong encoding, separator, header, or a format of times that it does not make clear ends with
    exit code 2, and nothing is sent. --dry-run checks all rows and sends nothing.

    Rows without an event_id get one made from what they say (user, item, type, value, time, list, position, session, context) and their
    number among equal rows, not from the clock. So a file published twice counts once, if the second time comes within the last
    state.duplicate_chunk events of each partition (32,768); later it counts again.

    Events of a file without times get the moment of publishing. In a file with times, a row without one is a bad row. The format of times
    is detected and reported: seconds to nanoseconds since 1970, ISO 8601, dates with names of months, day first or month first where the
    column makes it clear. Times that name no zone need --time-zone; a date without a time of day is midnight UTC without it. A time that
    the zone does not have, or has twice, is a bad row (--repeated-hour). Times in the future are bad rows.

    Ids are read alike in all formats: 17, 17.0 and "17.0" are the id 17; spaces around ids are cut off.
    """
    options = FileOptions(
        columns, form, time_unit, time_format, time_zone, repeated_hour, encoding, delimiter, header, decimal, split, levels, repeats,
        ignore_unknown, event_type, types, row_ids=row_ids, missing=missing,
    )  # fmt: skip
    how = PublishOptions(rate, skip_rows, dry_run, as_json, bad_rows)
    publish_file(file, "items" if catalogue else "events", options, how)
