"""Share options and the report of the outcome between `recsys events publish` and `recsys items publish`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from workers.cli.console import CommandFailed, err, print_json, settings, tell, warn
from workers.errors import SettingsError
from workers.runtime.text import visible

if TYPE_CHECKING:
    from workers.producer.files import Reading
    from workers.producer.mapping import Kind, RowMapping
    from workers.producer.publish import PublishReport
    from workers.producer.rows import Row

MAX_SHOWN = 20
"""Bad rows shown one by one; the rest is counted."""
EXIT_INTERRUPTED = 130

File = Annotated[
    str,
    typer.Argument(help="JSON lines, CSV, TSV or Parquet, also compressed (gz, bz2, xz); a folder of them; - is standard input."),
]
Map = Annotated[str | None, typer.Option("--map", help="Columns with other names: user_id=userId,value=rating", metavar="FIELD=COLUMN,…")]
Form = Annotated[str | None, typer.Option("--format", help="jsonl, csv, tsv or parquet; else the suffix says it.")]
Unit = Annotated[str, typer.Option("--time-unit", help="Unit of numeric times: ms, s, us, ns, or iso for text alone.")]
Zone = Annotated[
    str | None, typer.Option("--time-zone", help="Zone of times that name none: Europe/Berlin, +08:00; else they are read as UTC.")
]
Encoding = Annotated[
    str | None, typer.Option("--encoding", help="Encoding of a text file: cp1252, utf-16, …; utf-8 refuses damaged rows, not the file.")
]
Delimiter = Annotated[str | None, typer.Option("--delimiter", help="What separates the cells of a CSV file: ';', '|', tab.")]
Header = Annotated[
    str | None, typer.Option("--header", help="Names of the columns of a table without a header line.", metavar="COLUMN,…")
]
Rate = Annotated[float | None, typer.Option("--rate", help="At most this many a second.", min=0.001)]
Lenient = Annotated[bool, typer.Option("--ignore-unknown", help="Leave out unknown fields of JSON lines instead of refusing the row.")]


@dataclass(frozen=True)
class FileOptions:
    """The options of both publish commands, as the command line has them."""

    columns: str | None
    form: str | None
    time_unit: str
    time_zone: str | None
    encoding: str | None
    delimiter: str | None
    header: str | None
    ignore_unknown: bool

    def reading(self) -> Reading:
        """Return how the file is read. Raises SettingsError."""
        from workers.producer.files import Reading
        from workers.producer.rows import FORMATS, Format
        from workers.producer.source import check_encoding

        if self.form is not None and self.form not in FORMATS:
            raise SettingsError(f"--format: one of {', '.join(FORMATS)}")
        names = tuple(name.strip() for name in self.header.split(",")) if self.header is not None else ()
        if self.header is not None and not all(names):
            raise SettingsError("--header: names of all columns, separated by commas")
        return Reading(cast("Format | None", self.form), check_encoding(self.encoding), _delimiter(self.delimiter), names)

    def mapping(self, kind: Kind, event_type: str | None, is_table: bool) -> RowMapping:
        """Return how rows become records. Raises SettingsError."""
        from workers.producer.mapping import EVENT_FIELDS, ITEM_FIELDS, RowMapping, parse_mapping
        from workers.producer.times import TIME_UNITS, Clock, TimeUnit, zone_of

        if self.time_unit not in TIME_UNITS:
            raise SettingsError(f"--time-unit: one of {', '.join(TIME_UNITS)}")
        _check_type(event_type)
        columns = parse_mapping(self.columns, ITEM_FIELDS if kind == "items" else EVENT_FIELDS)
        clock = Clock(cast("TimeUnit", self.time_unit), zone_of(self.time_zone))
        return RowMapping(kind, columns, is_table or self.ignore_unknown, clock, {} if event_type is None else {"type": event_type})


def _delimiter(name: str | None) -> str | None:
    if name is None:
        return None
    chosen = {"tab": "\t", "\\t": "\t", "semicolon": ";", "comma": ",", "pipe": "|"}.get(name.lower(), name)
    if len(chosen) != 1 or chosen in '"\r\n\0' or chosen.isalnum():
        raise SettingsError("--delimiter: one character, such as ';' or '|', or tab")
    return chosen


def _check_type(event_type: str | None) -> None:
    from schemas import EventType

    names = [member.value for member in EventType]
    if event_type is not None and event_type not in names:
        raise SettingsError(f"--type: one of {', '.join(names)}")


def publish_file(
    file: str,
    kind: Kind,
    options: FileOptions,
    *,
    event_type: str | None = None,
    row_ids: bool = False,
    rate: float | None = None,
    as_json: bool = False,
) -> None:
    """Publish a file and show the outcome. Raises SettingsError before anything is sent, CommandFailed when not every row went out."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from workers import client
    from workers.producer.files import open_rows, parts_of
    from workers.producer.publish import publish_rows

    reading = options.reading()
    mapping = options.mapping(kind, event_type, parts_of(file, reading)[0].form != "jsonl")
    shown = _BadRows(file)
    chosen = settings()
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=err, disable=not err.is_terminal
    )
    report = None
    try:
        with open_rows(file, reading, mapping) as rows, client.EventPublisher(chosen) as publisher, bar:
            task = bar.add_task(f"publishing {kind}", total=None)
            report = publish_rows(rows, mapping, publisher, rate=rate, row_ids=row_ids, on_bad=shown, on_row=lambda: bar.advance(task))
    except client.PublishError as error:  # records that closing gave up
        if report is None:
            raise
        report.lose(error)
    report.warnings += [f"{n:,} times {name} was too long or had too many entries and was cut" for name, n in _trimmed(publisher)]
    _report(report, kind, as_json)


def _trimmed(publisher: Any) -> list[tuple[str, int]]:
    """Return the fields that the publisher cut, with counts."""
    trimmed = getattr(publisher, "trimmed", None)
    return [] if trimmed is None else sorted((name, n) for (_, name), n in trimmed.total.items())


class _BadRows:
    """Show the first bad rows as they come."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._n = 0

    def __call__(self, row: Row, reason: str) -> None:
        self._n += 1
        if self._n <= MAX_SHOWN:
            place = f"{self._file.rstrip('/')}/{row.file}" if row.file else self._file
            warn(f"{place}:{row.line}: {reason}")


def _report(report: PublishReport, kind: str, as_json: bool) -> None:
    if report.bad > MAX_SHOWN:
        warn(f"… and {report.bad - MAX_SHOWN:,} more bad rows")
    if report.ignored_columns:
        warn(f"columns that are no field were left out: {', '.join(report.ignored_columns)}")
    for warning in report.warnings:
        warn(warning)
    per_s = report.published / report.seconds if report.seconds > 0 else 0.0
    if as_json:
        print_json(_fields(report, per_s))
    else:
        counts = f"published {report.published:,} {kind} in {report.seconds:.1f} s ({per_s:,.0f}/s), {report.bad:,} bad rows"
        tell(counts + (f", {report.undelivered:,} not delivered" if report.undelivered else ""))
    if report.error:
        warn(f"recsys: {report.error}")
    if report.interrupted:
        raise CommandFailed(EXIT_INTERRUPTED)
    if report.bad or report.error:
        raise CommandFailed


def _fields(report: PublishReport, per_s: float) -> dict[str, Any]:
    return {
        "rows": report.rows,
        "published": report.published,
        "bad": report.bad,
        "undelivered": report.undelivered,
        "last_line": report.last_line,
        "error": report.error or None,
        "seconds": round(report.seconds, 3),
        "per_s": round(per_s, 1),
        "warnings": report.warnings,
        "ignored_columns": report.ignored_columns,
        "bad_rows": [
            {"line": line, "reason": reason} | ({"file": visible(file)} if file else {}) for file, line, reason in report.bad_rows
        ],
    }
