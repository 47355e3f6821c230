"""Keep rows that were refused in a file that can be corrected and published again.

One JSON object a line: `line`, `field` and `reason` say where the row stood and what is wrong; `read_as` holds the options that it was read
with, so that nothing has to be said again; `row` is the row as it was read, or `text` its text where it could not be cut into columns.
"""

from __future__ import annotations

import datetime as dt
import io
import json
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from workers.errors import SettingsError, WorkerError
from workers.producer.json_rows import TOO_LONG, columns_of, text_of
from workers.producer.lines import Line, Lines
from workers.producer.mapping import KEYS, Kind, RowMapping, is_field, pairs_of
from workers.producer.names import listed
from workers.producer.rows import BadRow, DamagedFile, RawText, Row, Unreadable
from workers.producer.source import open_text
from workers.producer.table_rows import MAX_DELIMITER_CHARS, Table, is_quoted

MEMBERS = frozenset({"line", "field", "reason", "read_as"})
_NAME = re.compile(r"(.+)\.bad(?:\.\d+)?\.jsonl")
_UNREADABLE = "unreadable"
OPTIONS: Mapping[str, type[Any]] = {
    "columns": list, "types": list, "split": list, "levels": list, "time_unit": str, "time_format": str, "time_zone": str,
    "repeated_hour": str, "decimal": str, "repeats": str, "event_type": str, "ignore_unknown": bool, "leave_out": list, "exact": bool,
    "row_ids": bool, "missing": str,
}  # fmt: skip
"""Options that say what columns mean ▸ their type. All but `kind` of `read_as` are such."""


class BadRowLostError(WorkerError):
    """A bad row cannot be kept; the message says which and why."""


def is_name(name: str) -> bool:
    """Return whether a file is called like those that hold bad rows."""
    return _NAME.fullmatch(name) is not None


def check_place(source: str, wanted: Path | None) -> None:
    """Raise SettingsError where bad rows of a source cannot be kept: the file is there already, or its folder cannot be written."""
    path = wanted if wanted is not None and not wanted.is_dir() else next(_names(source, wanted))
    if wanted is not None and not wanted.is_dir() and path.exists():
        raise SettingsError(f"--bad-rows: {path} is there already: name another file, or remove it")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise SettingsError(
            f"--bad-rows: bad rows cannot be kept in {path.parent} ({error.strerror or type(error).__name__}): name another file or folder"
        ) from None


def _names(source: str, folder: Path | None) -> Iterator[Path]:
    """Yield the names that the file of a source may have, the first one first."""
    path = Path(source)
    if path.name in ("", ".."):
        path = path.resolve()
    known = _NAME.fullmatch(path.name)
    stem = path.name if known is None else known[1]
    path = path if folder is None else folder / path.name
    at = 1
    while True:
        yield path.with_name(f"{stem}.bad.jsonl" if at == 1 else f"{stem}.bad.{at}.jsonl")
        at += 1


class BadRowFile:
    """Writes the bad rows of one source; the file is made at the first one, beside the source or where `wanted` says."""

    def __init__(self, source: str, wanted: Path | None, mapping: RowMapping, options: Mapping[str, Any]) -> None:
        self._source, self._wanted, self._mapping = source, wanted, mapping
        self._options = {name: value for name, value in options.items() if value and name in OPTIONS}
        self._read_as: dict[str, Any] = {}
        self._file: IO[str] | None = None
        self.path: Path | None = None
        self.n_rows = 0

    def write(self, row: Row, reason: str) -> None:
        """Write one bad row, and each of those that would have been part of its record. Raises BadRowLostError."""
        try:
            if self._file is None:
                self._file = self._opened()
                self._read_as = self._how_it_is_read()
            for part in row.parts or (row,):
                self._file.write(json.dumps(self._described(part, reason), ensure_ascii=False) + "\n")  # a line is written at once
                self.n_rows += 1
        except OSError as error:
            place = self.path or self._wanted or Path(self._source).parent
            why = error.strerror or type(error).__name__
            raise BadRowLostError(f"line {row.line:,} is bad ({reason}) and cannot be kept: {place} cannot be written ({why})") from None

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _opened(self) -> IO[str]:
        """Make the file; nothing that is there is replaced. Raises OSError."""
        if self._wanted is not None and not self._wanted.is_dir():
            self.path = self._wanted
            return _made(self._wanted)
        for path in _names(self._source, self._wanted):
            try:
                made = _made(path)
            except FileExistsError:
                continue
            self.path = path
            return made
        raise AssertionError("there is always another name")

    def _how_it_is_read(self) -> dict[str, Any]:
        lenient = {"ignore_unknown": True} if self._mapping.lenient else {}
        exact = {"exact": True} if self._mapping.exact else {}
        return {"kind": self._mapping.kind} | self._mapping.times.found() | lenient | exact | self._options

    def _described(self, row: Row, reason: str) -> dict[str, Any]:
        named = reason.partition(":")[0]
        field = named if is_field(self._mapping.kind, named) else "record"
        place = {"line": row.line} | ({"file": row.file} if row.file else {})
        head = place | {"field": field, "reason": reason, "read_as": self._read_as}
        if row.columns is not None:
            return head | {"row": self._with_gaps(row.columns)}
        if row.raw is None:
            return head | {"row": None}
        cut = {"names": list(row.raw.names), "delimiter": row.raw.delimiter} if row.raw.names else {}
        return head | ({"row": dict(row.raw.beside)} if row.raw.beside else {}) | {"text": row.raw.text} | cut

    def _with_gaps(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Return the columns of a row, and null for those that the mapping names and the row lacks: there is where to write."""
        mapping = self._mapping
        has_zone = mapping.times.options.zone is not None
        wanted = [column for given in mapping.columns.values() for column in given]
        wanted += [mapping.column_of(name) for name in (*KEYS[mapping.kind], *(("event_ts_ms",) if mapping.needs_time else ()))]
        return {name: _plain(value, has_zone) for name, value in columns.items()} | {name: None for name in wanted if name not in columns}


def _made(path: Path) -> IO[str]:
    # a lone surrogate becomes \udcff, which JSON reads as what it was
    return path.open("x", encoding="utf-8", errors="backslashreplace", buffering=1, newline="\n")


def _plain(value: Any, has_zone: bool) -> Any:
    """Return a value as JSON has it, such that it is read again as the value was."""
    if isinstance(value, Unreadable):
        return {_UNREADABLE: value.reason}
    if isinstance(value, dt.datetime):  # one without a zone is read as UTC where no zone is given
        return (value if value.tzinfo is not None or has_zone else value.replace(tzinfo=dt.UTC)).isoformat()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {_UNREADABLE: "binary that is not UTF-8 text"}
    if isinstance(value, dict):
        return {str(name): _plain(part, has_zone) for name, part in value.items()}
    if isinstance(value, list | tuple):
        if value and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):  # a map of Parquet
            return {str(name): _plain(part, has_zone) for name, part in value}
        return [_plain(part, has_zone) for part in value]
    if value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


def is_side_file(start: bytes) -> bool:
    """Return whether the start of a file is that of one that holds bad rows."""
    return _first(start) is not None


def _first(start: bytes) -> dict[str, Any] | None:
    lines = (line for line in start.split(b"\n") if line.strip())
    try:
        found = json.loads(next(lines, b""))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.keys() >= MEMBERS else None


def read_as(start: bytes) -> dict[str, Any] | None:
    """Return the options that the rows of a side file are read with, `kind` among them; None for any other file. Raises SettingsError."""
    found = _first(start)
    if found is None:
        return None
    options = found["read_as"]
    if not isinstance(options, dict) or options.get("kind") not in KEYS:
        raise SettingsError("FILE: read_as of its first row is not what an import wrote: take it from another row")
    return options


def options_of(path: str, kind: Kind | None, given: Mapping[str, Any]) -> tuple[Kind, dict[str, Any]] | None:
    """Return kind and options of a side file, of which the given ones replace theirs; None for any other file. Raises SettingsError."""
    found = _read_as_of(path)
    if found is None:
        return None
    if kind is not None and kind != found["kind"]:
        raise SettingsError(f"FILE: holds bad rows of {found['kind']}, not of {kind}")
    options: dict[str, Any] = {name: value for name, value in found.items() if _is_option(name, value)}
    if unlike := found.keys() - options.keys() - {"kind"}:
        raise SettingsError(f"FILE: read_as has {listed(sorted(unlike))}, which is no option of this version, or of another kind")
    chosen = {name: value for name, value in given.items() if value}
    if "columns" in options and "columns" in chosen:
        named = {name for name, _ in pairs_of("--map", chosen["columns"])}
        kept = [(name, column) for name, column in pairs_of("--map", options["columns"]) if name not in named]
        chosen["columns"] = [*(f'"{name}={column}"' for name, column in kept), *chosen["columns"]]
    return found["kind"], options | chosen


def _is_option(name: str, value: Any) -> bool:
    is_right = isinstance(value, OPTIONS.get(name, ()))
    return is_right and (not isinstance(value, list) or all(isinstance(part, str) for part in value))


def _read_as_of(path: str) -> dict[str, Any] | None:
    if path == "-" or not os.path.isfile(path):
        return None
    try:
        source = open_text(path, "jsonl", None)
    except (SettingsError, DamagedFile):
        return None
    source.close()
    return read_as(source.start)


def returned_rows(lines: Lines) -> Iterator[Row]:
    """Yield the rows of a side file. Raises DamagedFile where a row is to be read with other options than the first one."""
    options: Any = None
    while (line := lines.next()) is not None:
        if line.content is None:
            yield Row(line.number, None, TOO_LONG)
        elif line.content.strip():
            try:
                found = _object(line.content)
            except BadRow as error:
                yield Row(line.number, None, str(error), raw=RawText(text_of(line.content)))
                continue
            options = options or found["read_as"]
            if found["read_as"] != options:
                raise DamagedFile(f"line {line.number} has another read_as than the first row: publish rows of several imports one by one")
            yield _returned(line, found)


def _object(content: bytes | str) -> dict[str, Any]:
    """Return what one line of a side file says. Raises BadRow."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise BadRow("record: not JSON; write one JSON object a line") from None
    if not isinstance(found, dict) or not found.keys() >= MEMBERS:
        raise BadRow(f"record: not a row of this file; it has the members {', '.join(sorted(MEMBERS))}, and row or text")
    return found


def _returned(line: Line, found: Mapping[str, Any]) -> Row:
    row, text = found.get("row") or {}, found.get("text")
    names, delimiter = found.get("names") or [], found.get("delimiter") or ","
    cuts = isinstance(delimiter, str) and 1 <= len(delimiter) <= MAX_DELIMITER_CHARS
    is_whole = cuts and isinstance(row, dict) and isinstance(text, str | None)
    if not is_whole or not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        reason = "record: row is an object; text, names and delimiter are as an import wrote them"
        return Row(line.number, None, reason, raw=RawText(text_of(line.content or b"")))
    if text is None and not row:
        return Row(line.number, None, f"record: nothing of this row was kept: {found['reason']}")
    columns = {name: _value(value) for name, value in row.items()}
    if text is None:
        return Row(line.number, columns)
    raw = RawText(text, tuple(names), delimiter if names else "", row)
    try:
        return Row(line.number, columns | _cut(raw))
    except BadRow as error:
        return Row(line.number, None, str(error), raw=raw)


def _cut(raw: RawText) -> dict[str, Any]:
    """Return the columns of a text. Raises BadRow."""
    if "\ufffd" in raw.text:
        raise BadRow("record: the character U+FFFD stands where the text was not UTF-8; write what is meant")
    content = raw.text.encode("utf-8", "surrogatepass")
    if not raw.names:
        found = columns_of(content)
        if found.keys() >= MEMBERS:  # a line of an earlier side file that was no JSON
            again = _returned(Line(0, content), found)
            if again.columns is None:
                raise BadRow(again.reason)
            return again.columns
        return found
    rows = list(Table(raw.delimiter, is_quoted(raw.delimiter), raw.names).rows(Lines(io.BytesIO(content))))
    if len(rows) != 1 or rows[0].columns is None:
        raise BadRow(rows[0].reason if len(rows) == 1 else f"record: {len(rows)} rows in one text; write one")
    return rows[0].columns


def _value(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {_UNREADABLE}:
        return Unreadable(str(value[_UNREADABLE]))
    return value
