"""`recsys events publish`."""

from __future__ import annotations

from typing import Annotated

import typer

from workers.cli.console import JsonOption
from workers.cli.publishing import (
    Delimiter,
    Encoding,
    File,
    FileOptions,
    Form,
    Header,
    Lenient,
    Map,
    Rate,
    Unit,
    Zone,
    publish_file,
)

app = typer.Typer(help="Publish events from files.", no_args_is_help=True)


@app.command("publish")
def publish(
    file: File,
    columns: Map = None,
    form: Form = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Type of rows that have none.")] = None,
    time_unit: Unit = "ms",
    time_zone: Zone = None,
    row_ids: Annotated[
        bool, typer.Option("--row-ids", help="Make event ids from rows also where the file has an event_id that rows share.")
    ] = False,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    header: Header = None,
    rate: Rate = None,
    catalogue: Annotated[bool, typer.Option("--catalogue", help="The file holds items, not events.")] = False,
    ignore_unknown: Lenient = False,
    as_json: JsonOption = False,
) -> None:
    """Publish every valid row in order. Bad rows are reported with their line and exit code 1; the others still go out.

    The start of the file is checked first: a wrong encoding, separator, time unit or header ends with exit code 2, and nothing is sent.

    Rows without an event_id get one made from what they say (user, item, type, value, time, list, position, session, context) and their
    number among equal rows, not from the clock. So a file published twice counts once, if the second time comes within the last
    state.duplicate_chunk events of each partition (32,768); later it counts again.

    Events of a file without times get the moment of publishing. In a file with times, a row without one is a bad row. Numbers are in
    --time-unit; ISO 8601 text is read in any case. Times that name no zone are UTC unless --time-zone names another zone. Times in the
    future are bad rows.

    Ids are read alike in all formats: 17, 17.0 and "17.0" are the id 17; spaces around ids are cut off.
    """
    options = FileOptions(columns, form, time_unit, time_zone, encoding, delimiter, header, ignore_unknown)
    publish_file(file, "items" if catalogue else "events", options, event_type=event_type, row_ids=row_ids, rate=rate, as_json=as_json)
