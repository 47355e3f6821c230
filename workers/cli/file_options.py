"""The options that `recsys events publish`, `items publish` and `users publish` share, and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from workers.errors import SettingsError

if TYPE_CHECKING:
    from workers.producer.files import Reading
    from workers.producer.mapping import Kind, RowMapping
    from workers.producer.times import TimeOptions

File = Annotated[
    str,
    typer.Argument(help="JSON lines, CSV, TSV or Parquet, also compressed (gz, bz2, xz, zst); a folder of them; - is standard input."),
]
Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        help="Columns with other names: user_id=userId,value=rating. An entry of an object is object.name: numeric_attributes.price=Price. "
        "May be repeated; a pair with a comma stands in double quotes.",
        metavar="FIELD=COLUMN,…",
    ),
]
Form = Annotated[str | None, typer.Option("--format", help="jsonl, csv, tsv or parquet; else the suffix says it.")]
Unit = Annotated[
    str | None,
    typer.Option("--time-unit", help="Unit of numeric times: ms, s, us, ns, yyyymmdd, or iso for text alone; else it is detected."),
]
TimeFormat = Annotated[
    str | None,
    typer.Option("--time-format", help="day-first or month-first, or a pattern such as '%d.%m.%y %H:%M'; else it is detected."),
]
Zone = Annotated[
    str | None,
    typer.Option("--time-zone", help="Zone of times that name none: Europe/Berlin, +08:00, UTC. Without it, such a file is refused."),
]
RepeatedHour = Annotated[
    str | None,
    typer.Option("--repeated-hour", help="first or second: which hour is meant where clocks were set back; else such a row is refused."),
]
Encoding = Annotated[
    str | None, typer.Option("--encoding", help="Encoding of a text file: cp1252, utf-16, …; utf-8 refuses damaged rows, not the file.")
]
Delimiter = Annotated[str | None, typer.Option("--delimiter", help="What separates the cells of a CSV file: ';', '|', '::', tab.")]
Header = Annotated[str | None, typer.Option("--header", help="Names of the columns of a table without a header line.", metavar="COLUMN,…")]
Decimal = Annotated[
    str | None,
    typer.Option("--decimal", help="comma for numbers such as 1.299,50, point for 1,299.50; else numbers have no thousands separators."),
]
Split = Annotated[
    list[str] | None,
    typer.Option("--split", help="What separates several values in a cell, where it is not |: 'Tags=,'.", metavar="COLUMN=SEPARATOR"),
]
Levels = Annotated[
    list[str] | None,
    typer.Option("--levels", help="What separates the levels of a category path, where it is not >: Path=/", metavar="COLUMN=SEPARATOR"),
]
Repeats = Annotated[
    str | None,
    typer.Option(
        "--repeats",
        help="merge: rows of one id that follow each other are one record (first value of each column, all categories); replace: the last "
        "one counts.",
    ),
]
Missing = Annotated[
    str | None,
    typer.Option("--missing", help="Words that stand for no value, in every column: 'NA,(not set),-1'.", metavar="WORD,…"),
]
Rate = Annotated[float | None, typer.Option("--rate", help="At most this many a second.", min=0.001)]
SkipRows = Annotated[int, typer.Option("--skip-rows", help="Leave out this many rows, which went out before.", min=0)]
Dry = Annotated[bool, typer.Option("--dry-run", help="Check every row and publish nothing; no broker is needed.")]
BadRows = Annotated[
    Path | None,
    typer.Option(
        "--bad-rows",
        help="Keep bad rows in this file, or in one in this folder: JSON lines with line, field and reason, to correct and import.",
        metavar="FILE",
    ),
]
Lenient = Annotated[bool, typer.Option("--ignore-unknown", help="Leave out unknown fields of JSON lines instead of refusing the row.")]

MAX_SEPARATOR_CHARS = 3


@dataclass(frozen=True)
class FileOptions:
    """Options of the command line for reading a file; `leave_out` and `exact` come from a guess or from bad rows."""

    columns: list[str] | None = None
    form: str | None = None
    time_unit: str | None = None
    time_format: str | None = None
    time_zone: str | None = None
    repeated_hour: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    header: str | None = None
    decimal: str | None = None
    split: list[str] | None = None
    levels: list[str] | None = None
    repeats: str | None = None
    ignore_unknown: bool = False
    event_type: str | None = None
    types: list[str] | None = None
    leave_out: list[str] | None = None
    exact: bool = False
    row_ids: bool = False
    missing: str | None = None

    def reading(self) -> Reading:
        """Return how the file is read. Raises SettingsError."""
        from workers.producer.files import Reading
        from workers.producer.repeats import REPEATS
        from workers.producer.rows import FORMATS
        from workers.producer.source import check_encoding

        names = tuple(name.strip() for name in self.header.split(",")) if self.header is not None else ()
        if self.header is not None and not all(names):
            raise SettingsError("--header: names of all columns, separated by commas")
        form = _one_of("--format", self.form, FORMATS)
        repeats = _one_of("--repeats", self.repeats, REPEATS)
        return Reading(form, check_encoding(self.encoding), checked_delimiter(self.delimiter), names, repeats)

    def mapping(self, kind: Kind, is_table: bool) -> RowMapping:
        """Return how rows become records. Raises SettingsError."""
        from workers.producer.mapping import RowMapping, parse_mapping
        from workers.producer.time_columns import TimeColumns
        from workers.producer.values import DECIMAL_SIGNS, CellRules

        event_types = _event_types()
        default = _one_of("--type", self.event_type, event_types)
        rules = CellRules(
            _one_of("--decimal", self.decimal, DECIMAL_SIGNS), _separators("--split", self.split), _separators("--levels", self.levels)
        )
        return RowMapping(
            kind,
            parse_mapping(self.columns or [], kind),
            is_table or self.ignore_unknown,
            TimeColumns(self._times()),
            {} if default is None else {"type": default},
            rules,
            self._types(event_types),
            frozenset(self.leave_out or []),
            self.exact,
            missing=_words("--missing", self.missing),
        )

    def _times(self) -> TimeOptions:
        from workers.producer.times import REPEATED_HOURS, TIME_UNITS, TimeOptions, time_format_of, zone_of

        unit = _one_of("--time-unit", self.time_unit, TIME_UNITS)
        order, pattern = time_format_of(self.time_format)
        return TimeOptions(unit, zone_of(self.time_zone), order, pattern, _one_of("--repeated-hour", self.repeated_hour, REPEATED_HOURS))

    def _types(self, event_types: list[str]) -> dict[str, str]:
        """Return event type of the file, in lower case ▸ ours."""
        from workers.producer.mapping import pairs_of

        found = {}
        for name, event_type in pairs_of("--types", self.types or []):
            found[name.lower()] = cast("str", _one_of(f"--types: {name}", event_type, event_types))
        return found


def _words(option: str, given: str | None) -> frozenset[str]:
    """Return words of `NA,(not set)` in lower case. Raises SettingsError for a blank one."""
    words = [] if given is None else [word.strip().lower() for word in given.split(",")]
    if not all(words):
        raise SettingsError(f"{option}: words, separated by commas, such as 'NA,(not set)'")
    return frozenset(words)


def _one_of(option: str, given: str | None, known: tuple[str, ...] | list[str]) -> Any:
    """Return what was given. Raises SettingsError for what is not known."""
    if given is not None and given not in known:
        raise SettingsError(f"{option}: one of {', '.join(known)}")
    return given


def _event_types() -> list[str]:
    from schemas import EventType

    return [member.value for member in EventType]


def _signs(option: str, name: str, most: int) -> str:
    """Return a separator, also by its name. Raises SettingsError for what is none."""
    chosen = {"tab": "\t", "\\t": "\t", "semicolon": ";", "comma": ",", "pipe": "|"}.get(name.lower(), name)
    if not 1 <= len(chosen) <= most or any(char in '"\r\n\0' or char.isalnum() for char in chosen):
        raise SettingsError(f"{option}: a separator of at most {most} characters, such as ';' or '|', or tab")
    return chosen


def checked_delimiter(name: str | None) -> str | None:
    """Return the delimiter of a table, also by its name. Raises SettingsError for what is none."""
    from workers.producer.table_rows import MAX_DELIMITER_CHARS

    return None if name is None else _signs("--delimiter", name, MAX_DELIMITER_CHARS)


def _separators(option: str, given: list[str] | None) -> dict[str, str]:
    """Return column ▸ character of `Tags=,`, each given by itself. Raises SettingsError."""
    found = {}
    for pair in given or []:
        column, separator, character = pair.rpartition("=")
        if not (separator and column.strip() and character.strip(" ")):
            raise SettingsError(f"{option}: COLUMN=SEPARATOR, such as 'Tags=,'")
        found[column.strip()] = _signs(option, character.strip(" "), MAX_SEPARATOR_CHARS)
    return found
