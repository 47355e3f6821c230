"""Open a file, a folder of part files, or standard input as rows, after a look at its start."""

from __future__ import annotations

import dataclasses
import io
import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from workers.errors import SettingsError
from workers.producer.bad_rows import is_name, is_side_file, returned_rows
from workers.producer.extent import Extent
from workers.producer.json_rows import json_rows
from workers.producer.lines import Lines
from workers.producer.mapping import REQUIRED, RowMapping, check_columns
from workers.producer.names import listed, nearest
from workers.producer.parquet_rows import exported_kind, open_parquet, parquet_rows
from workers.producer.repeats import Repeats, check_repeats, merged_rows
from workers.producer.rows import BadRow, DamagedFile, Format, Row
from workers.producer.sniff import check_delimiter, check_is_header, check_json, declared_delimiter
from workers.producer.source import Source, check_path, format_of, open_text
from workers.producer.table_rows import Table, header_cells, is_quoted
from workers.producer.times import TIME_FIELDS
from workers.producer.values import IDS, is_missing, is_null, number

SAMPLE_ROWS = 200
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Reading:
    """Options for reading a file, where it does not say so itself.

    `header`: names of the columns of a table without a header line. `repeats`: what rows of one item or user that follow each other become.
    """

    form: Format | None = None
    encoding: str | None = None
    delimiter: str | None = None
    header: tuple[str, ...] = ()
    repeats: Repeats | None = None


@dataclass(frozen=True)
class Part:
    """One file; `label` is its path within the folder, `constants` the columns that a Hive folder keeps in its path."""

    path: str
    form: Format
    label: str = ""
    constants: tuple[tuple[str, str], ...] = ()


@contextmanager
def open_rows(path: str, reading: Reading, mapping: RowMapping, extent: Extent | None = None) -> Iterator[Iterator[Row]]:
    """Open the rows of a file or folder, one after the other, in bounded memory.

    The start of every file is looked at first. Raises SettingsError when one cannot be opened, is not what it is taken for, lacks a column
    that `mapping` needs, or has times that the options do not explain; the iterator raises DamagedFile. `extent` is kept up to date.
    """
    parts = parts_of(path, reading)
    extent = Extent() if extent is None else extent
    if parts[0].form != "parquet":
        extent.measure([part.path for part in parts])
    if parts[0].label:
        for part in parts:
            with _open_part(part, reading, mapping, Extent()) as rows:
                if rows.n_rows is not None:
                    extent.measure_rows((extent.total or 0) + rows.n_rows)
        _look_at_dates(parts, reading, mapping)
        yield _merged(_rows_of(parts, reading, mapping, extent), reading, mapping)
        return
    with _open_part(parts[0], reading, mapping, extent) as opened:
        if opened.n_rows is not None:
            extent.measure_rows(opened.n_rows)
        _look_at_dates(parts, reading, mapping)
        yield _merged(opened.rows, reading, mapping)


def _merged(rows: Iterator[Row], reading: Reading, mapping: RowMapping) -> Iterator[Row]:
    return merged_rows(rows, mapping) if reading.repeats == "merge" and mapping.kind != "events" else rows


def _look_at_dates(parts: list[Part], reading: Reading, mapping: RowMapping) -> None:
    """Read the files to their end where only that says which of day and month comes first. Raises SettingsError."""
    can_be_read_twice = all(part.path != "-" and stat.S_ISREG(check_path(part.path).st_mode) for part in parts)
    if mapping.times.needs_whole_column() and can_be_read_twice:
        with suppress(DamagedFile):  # met again when the rows are sent
            for row in _rows_of(parts, reading, dataclasses.replace(mapping, left_out=set()), Extent()):
                if row.columns is not None:
                    mapping.times.add_orders(row.columns, row.line)
    mapping.times.decide()


def parts_of(path: str, reading: Reading) -> list[Part]:
    """Return the files that a path stands for. Raises SettingsError for a folder without any."""
    if path == "-":
        return [Part(path, reading.form or format_of(path))]
    found = check_path(path)
    if not stat.S_ISDIR(found.st_mode):
        form = reading.form or format_of(path)
        if found.st_size == 0 and stat.S_ISREG(found.st_mode) and form != "jsonl":
            raise SettingsError("FILE: is empty")
        if form == "parquet" and not stat.S_ISREG(found.st_mode):
            raise SettingsError("FILE: Parquet needs a file, not a pipe")
        return [Part(path, form)]
    parts = [_part(Path(path), file, reading) for file in _files_in(path)]
    if not parts:
        raise SettingsError("FILE: the folder holds no files with rows (names that begin with _ or ., and files of bad rows, are left out)")
    forms = sorted({part.form for part in parts})
    if len(forms) > 1:
        raise SettingsError(f"FILE: the folder holds files of several formats ({', '.join(forms)}): pass --format, or one file")
    return parts


def _files_in(folder: str) -> list[Path]:
    """Return the files that are not empty, in order, without marks such as _SUCCESS, hidden files, and bad rows of an earlier import."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")) or "=" in name)
        for name in sorted(names):
            file = Path(place, name)
            if not name.startswith((".", "_")) and not is_name(name) and file.is_file() and file.stat().st_size:
                found.append(file)
    return found


def _part(folder: Path, file: Path, reading: Reading) -> Part:
    label = file.relative_to(folder)
    pairs = [piece.partition("=") for piece in label.parts[:-1] if "=" in piece]
    constants = tuple((name, unquote(value)) for name, _, value in pairs if value != HIVE_NULL)
    try:
        return Part(str(file), reading.form or format_of(file.name), str(label), constants)
    except SettingsError as error:
        raise SettingsError(f"{error}; found in the folder: {label}") from None


def _rows_of(parts: list[Part], reading: Reading, mapping: RowMapping, extent: Extent) -> Iterator[Row]:
    for part in parts:
        constants = {name: value for name, value in part.constants if mapping.uses(name)}
        mapping.left_out |= {name for name, _ in part.constants} - constants.keys()
        with _open_part(part, reading, mapping, extent) as opened:
            try:
                for row in opened.rows:
                    yield _in_part(row, part.label, constants)
            except DamagedFile as error:
                raise DamagedFile(f"{part.label}: {error}" if part.label else str(error)) from None


def _in_part(row: Row, label: str, constants: dict[str, str]) -> Row:
    """Return a row with the columns that the path of its file gives it."""
    if row.columns is not None:
        return dataclasses.replace(row, columns=constants | row.columns, file=label)
    raw = None if row.raw is None else dataclasses.replace(row.raw, beside=constants)
    return dataclasses.replace(row, raw=raw, file=label)


@dataclass
class _Opened:
    """The rows of one part; `n_rows` is their number where the file says it."""

    rows: Iterator[Row]
    n_rows: int | None = None


@contextmanager
def _open_part(part: Part, reading: Reading, mapping: RowMapping, extent: Extent) -> Iterator[_Opened]:
    with ExitStack() as opened:
        try:
            rows = _checked(part, reading, mapping, extent, opened)
        except DamagedFile as error:
            rows = _Opened(_damaged(str(error)))
        except SettingsError as error:
            raise SettingsError(f"{error} (in {part.label})" if part.label else str(error)) from None
        yield rows


def _damaged(reason: str) -> Iterator[Row]:
    """Yield nothing: not even the start can be read."""
    yield from ()
    raise DamagedFile(reason)


def _checked(part: Part, reading: Reading, mapping: RowMapping, extent: Extent, opened: ExitStack) -> _Opened:
    """Return the rows of a file whose start is what the mapping needs. Raises SettingsError or DamagedFile."""
    if part.form == "parquet":
        if part.path == "-":
            raise SettingsError("FILE: Parquet cannot be read from standard input: name a file")
        file = opened.enter_context(open_parquet(part.path))
        return _Opened(_counted(_checked_parquet(file, part, reading, mapping), file.metadata.num_rows, extent), file.metadata.num_rows)
    source = open_text(part.path, part.form, reading.encoding)
    opened.callback(source.close)
    try:
        rows = _checked_json(source, part, reading, mapping) if part.form == "jsonl" else _checked_table(source, part, reading, mapping)
    except SettingsError:
        source.check_whole()
        raise
    if extent.total is not None:
        extent.begin(os.stat(part.path).st_size, source.position)
    return _Opened(rows)


def _counted(rows: Iterator[Row], n_rows: int, extent: Extent) -> Iterator[Row]:
    """Yield rows and say how many of the part were read."""
    n_read = 0
    extent.begin(n_rows, lambda: n_read)
    for row in rows:
        n_read += 1
        yield row


def _look(sample: list[Row], mapping: RowMapping, reading: Reading) -> None:
    """Look at the first rows. Raises SettingsError for numbers and repeated ids that the options do not explain."""
    readable = [(row.line, row.columns) for row in sample if row.columns is not None]
    columns = [row for _, row in readable]
    mapping.times.add(mapping.time_columns(), readable)
    for name in [*mapping.columns, *{name for row in columns for name in row if name not in mapping.columns and mapping.uses(name)}]:
        if name == "value" or name.startswith("numeric_attributes."):
            _check_numbers(name, [row.get(mapping.column_of(name)) for row in columns], mapping)
    if reading.repeats is None:
        check_repeats(columns, mapping)


def _check_numbers(name: str, values: list[object], mapping: RowMapping) -> None:
    """Raise SettingsError when no value of a column is a number."""
    reason = ""
    for value in values:
        if not is_missing(value) and mapping.means_something(value):
            try:
                number(value, mapping.rules.decimal)
            except BadRow as error:
                reason = reason or str(error)
                continue
            return
    if reason:
        raise SettingsError(f"{name}: no value of the column {mapping.column_of(name)} is a number: {reason}; or leave it out of --map")


def _checked_json(source: Source, part: Part, reading: Reading, mapping: RowMapping) -> Iterator[Row]:
    check_json(source.start)
    rows_of = returned_rows if is_side_file(source.start) else json_rows
    sample = _sample(rows_of(Lines(_whole_lines(source.start))))
    rows = [row.columns for row in sample if row.columns is not None]
    names = {name: None for row in rows for name in row} | {name: None for name, _ in part.constants}
    if rows:
        _check_json_names(mapping, list(names))
    if any(mapping.column_of("event_ts_ms") in row for row in rows):
        mapping.needs_time = True
    _look(sample, mapping, reading)
    return rows_of(source.lines)


def _check_json_names(mapping: RowMapping, names: list[str]) -> None:
    """Raise SettingsError for fields that no row at the start has, where they are needed or look misspelt; others may be rare."""
    absent = [
        f"{column} for {name}{nearest(column, names)}"
        for name, columns in mapping.columns.items()
        for column in columns
        if column not in names and (name in (*REQUIRED[mapping.kind], *TIME_FIELDS) or nearest(column, names))
    ]
    if absent:
        raise SettingsError(f"--map: no row at the start of the file has a field {', '.join(absent)}; they have {listed(names)}")
    lacking = [
        name for name in REQUIRED[mapping.kind] if name not in mapping.columns and name not in mapping.defaults and name not in names
    ]
    if lacking:
        missing = ", ".join(f"{name}{nearest(name, names)}" for name in lacking)
        raise SettingsError(
            f"FILE: no row at the start has a field {missing}: pass --map {','.join(f'{name}=FIELD' for name in lacking)}"
            f"{' (or --type play)' if 'type' in lacking else ''}. The fields are {listed(names)}"
        )


def _checked_table(source: Source, part: Part, reading: Reading, mapping: RowMapping) -> Iterator[Row]:
    look = Lines(_whole_lines(source.start))
    declared = skip_declaration(look) and skip_declaration(source.lines)
    delimiter = reading.delimiter or declared or ("\t" if part.form == "tsv" else ",")
    quoted = is_quoted(delimiter)
    header = list(reading.header)
    if not header:
        line = source.lines.next()
        while line is not None and line.content is not None and not line.content.strip():
            line = source.lines.next()
        if line is None or line.content is None:
            raise SettingsError("FILE: is empty" if line is None else "FILE: has no header line that names the columns")
        header = _header(line.content, delimiter, quoted, mapping, part)
    _check_names(header, part, mapping)
    table = Table(delimiter, quoted, header, _single_line_columns(mapping))
    if not reading.header:
        look.next()
    _look(_sample(table.rows(look)), mapping, reading)
    return table.rows(source.lines)


def _single_line_columns(mapping: RowMapping) -> frozenset[str]:
    """Return the columns in which a line end is a mistake: ids, types, times and numbers."""
    names = (*IDS, "type", "value", "position", "available", *TIME_FIELDS)
    columns = [column for name, given in mapping.columns.items() if name.startswith("numeric_attributes.") for column in given]
    return frozenset([*columns, *(mapping.column_of(name) for name in names if name in mapping.fields)])


def skip_declaration(lines: Lines) -> str | None:
    """Take Excel's line `sep=;` before a table, if it is there, and return its character. Raises SettingsError, DamagedFile."""
    line = lines.next()
    declared = None if line is None or line.content is None else declared_delimiter(line.content)
    if declared is None and line is not None:
        lines.give_back([line])
    return declared


def _header(content: bytes, delimiter: str, quoted: bool, mapping: RowMapping, part: Part) -> list[str]:
    """Return the names of the columns. Raises SettingsError when the line is rather data, JSON, or cut by another delimiter."""
    text = content.decode(errors="replace").strip("\r\n")
    if text.lstrip().startswith(("{", "[")):
        raise SettingsError("FILE: looks like JSON, not a table: pass --format jsonl")
    try:
        cells = header_cells(content, delimiter, quoted=quoted)
    except ValueError as error:
        raise SettingsError(f"FILE: the header line cannot be read: {error}") from None
    names = {*cells, *(name for name, _ in part.constants)}
    if any(mapping.column_of(name) not in names and name not in mapping.defaults for name in REQUIRED[mapping.kind]):
        check_delimiter(text, delimiter, len(cells))
        check_is_header(cells)
    return cells


def _check_names(header: list[str], part: Part, mapping: RowMapping) -> None:
    twice = [name for name, n in Counter(header).items() if n > 1 and mapping.uses(name)]
    if twice:
        raise SettingsError(f"FILE: the header names {twice[0]} twice: rename one of the columns")
    check_columns(mapping, [*header, *(name for name, _ in part.constants if name not in header)])


def _checked_parquet(file: Any, part: Part, reading: Reading, mapping: RowMapping) -> Iterator[Row]:
    present: list[str] = list(file.schema_arrow.names)
    exported = exported_kind(file)
    if exported and exported != mapping.kind:
        other = "" if exported in REQUIRED else ", of which no records can be made"
        raise SettingsError(f"FILE: is an export of {exported}, not of {mapping.kind}{other}")
    if exported and not mapping.columns:
        mapping.exact = True
    _check_names(present, part, mapping)
    wanted = [name for name in present if mapping.uses(name)]
    mapping.left_out |= set(present) - set(wanted)
    is_absent = is_null if mapping.exact else is_missing
    _look(_sample(parquet_rows(file, wanted, is_absent)), mapping, reading)
    return parquet_rows(file, wanted, is_absent)


def _sample(rows: Iterator[Row]) -> list[Row]:
    """Return the first rows."""
    found: list[Row] = []
    with suppress(DamagedFile):
        found.extend(islice(rows, SAMPLE_ROWS))
    return found


def _whole_lines(start: bytes) -> io.BytesIO:
    cut = start.rfind(b"\n")
    return io.BytesIO(start if cut < 0 else start[: cut + 1])
