"""`recsys events publish` and the same for the catalogue."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast, get_args

import typer

from workers.cli.console import CommandFailed, JsonOption, err, print_json, settings, tell, warn
from workers.errors import SettingsError

app = typer.Typer(help="Publish events from files.", no_args_is_help=True)
MAX_SHOWN = 20  # bad rows shown one by one; the rest is counted

File = Annotated[str, typer.Argument(help="JSON lines, CSV, TSV or Parquet (also .gz for text); - is standard input.")]
Map = Annotated[str | None, typer.Option("--map", help="Columns with other names: user_id=userId,value=rating", metavar="FIELD=COLUMN,…")]
Form = Annotated[str | None, typer.Option("--format", help="jsonl, csv, tsv or parquet; else the suffix says it.")]
Unit = Annotated[str, typer.Option("--time-unit", help="Unit of numeric times: ms, s, us, or iso for text.")]
Rate = Annotated[float | None, typer.Option("--rate", help="At most this many a second.", min=0.001)]
Lenient = Annotated[bool, typer.Option("--ignore-unknown", help="Leave out unknown fields of JSON lines instead of refusing the row.")]


@app.command("publish")
def publish(
    file: File,
    columns: Map = None,
    form: Form = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Type of rows that have none.")] = None,
    time_unit: Unit = "ms",
    rate: Rate = None,
    catalogue: Annotated[bool, typer.Option("--catalogue", help="The file holds items, not events.")] = False,
    ignore_unknown: Lenient = False,
    as_json: JsonOption = False,
) -> None:
    """Publish every valid row in order. Bad rows are reported with their line and exit code 1; the others still go out.

    Rows without an event_id get one made from their content, so that publishing a file twice counts once.
    """
    publish_file(file, "items" if catalogue else "events", columns, form, event_type, time_unit, rate, ignore_unknown, as_json)


def publish_file(
    file: str,
    kind: Literal["events", "items"],
    columns: str | None,
    form: str | None,
    event_type: str | None,
    time_unit: str,
    rate: float | None,
    ignore_unknown: bool,
    as_json: bool,
) -> None:
    """What both publish commands do; the arguments are those of the command line."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from workers import publishing
    from workers.client import EventPublisher

    if form is not None and form not in get_args(publishing.Format):
        raise SettingsError(f"--format: one of {', '.join(get_args(publishing.Format))}")
    if time_unit not in get_args(publishing.TimeUnit):
        raise SettingsError(f"--time-unit: one of {', '.join(get_args(publishing.TimeUnit))}")
    _check_type(event_type)
    chosen_form = cast("publishing.Format", form or publishing.format_of(file))
    unit = cast("publishing.TimeUnit", time_unit)
    fields = publishing.ITEM_FIELDS if kind == "items" else publishing.EVENT_FIELDS
    mapped = publishing.parse_mapping(columns, fields)
    if kind == "items":
        mapping = publishing.item_mapping(chosen_form, mapped, time_unit=unit, ignore_unknown=ignore_unknown)
    else:
        mapping = publishing.event_mapping(chosen_form, mapped, event_type=event_type, time_unit=unit, ignore_unknown=ignore_unknown)

    shown = 0

    def on_bad(line: int, reason: str) -> None:
        nonlocal shown
        shown += 1
        if shown <= MAX_SHOWN:
            warn(f"{file}:{line}: {reason}")

    chosen = settings()
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=err, disable=not err.is_terminal
    )
    with publishing.open_rows(file, chosen_form) as rows, EventPublisher(chosen) as publisher, bar:
        task = bar.add_task(f"publishing {kind}", total=None)
        report = publishing.publish_rows(rows, mapping, publisher, kind, rate=rate, on_bad=on_bad, on_row=lambda: bar.advance(task))
    _report(report, kind, as_json)


def _check_type(event_type: str | None) -> None:
    from schemas import EventType

    names = [member.value for member in EventType]
    if event_type is not None and event_type not in names:
        raise SettingsError(f"--type: one of {', '.join(names)}")


def _report(report: Any, kind: str, as_json: bool) -> None:
    if report.bad > MAX_SHOWN:
        warn(f"… and {report.bad - MAX_SHOWN} more bad rows")
    if report.ignored_columns:
        warn(f"columns that are no field were left out: {', '.join(report.ignored_columns)}")
    per_s = report.published / report.seconds if report.seconds > 0 else 0.0
    if as_json:
        print_json(
            {
                "published": report.published,
                "bad": report.bad,
                "seconds": round(report.seconds, 3),
                "per_s": round(per_s, 1),
                "ignored_columns": report.ignored_columns,
                "bad_rows": [{"line": line, "reason": reason} for line, reason in report.bad_rows],
            }
        )
    else:
        tell(f"published {report.published:,} {kind} in {report.seconds:.1f} s ({per_s:,.0f}/s), {report.bad:,} bad rows")
    if report.bad:
        raise CommandFailed
