"""Files of events or items to topics: JSON lines, CSV, Parquet, standard input.

A row that cannot be read or is refused is counted and reported with its line, and the next one goes on.
"""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import hashlib
import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import orjson

from schemas import Event, Item, SchemaError
from workers.client import EventPublisher
from workers.errors import SettingsError

Format = Literal["jsonl", "csv", "tsv", "parquet"]
TimeUnit = Literal["ms", "s", "us", "iso"]
SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
MAX_LINE_BYTES = 1_048_576  # a longer line is a bad row; it is skipped without being held
MAX_REPORTED = 1_000  # bad rows kept for the caller; all are counted
PARQUET_BATCH_ROWS = 8_192
TIME_FIELDS = ("event_ts_ms", "published_ts_ms", "expires_ts_ms")
EVENT_FIELDS = frozenset(Event.model_fields)
ITEM_FIELDS = frozenset(Item.model_fields)


class BadRow(Exception):
    """A row that no mapping can make a record of; the message says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its line (Parquet: row) from 1, and its columns, or why it could not be read."""

    line: int
    columns: dict[str, Any] | None
    reason: str = ""


@dataclass
class PublishReport:
    """What became of a file. `bad_rows` holds the first thousand (line, reason)."""

    published: int = 0
    bad: int = 0
    seconds: float = 0.0
    ignored_columns: list[str] = field(default_factory=list)
    bad_rows: list[tuple[int, str]] = field(default_factory=list)

    def refuse(self, line: int, reason: str) -> None:
        self.bad += 1
        if len(self.bad_rows) < MAX_REPORTED:
            self.bad_rows.append((line, reason))


def format_of(path: str) -> Format:
    """The format that a file name stands for; `-` (standard input) is JSON lines. Raises SettingsError for an unknown suffix."""
    if path == "-":
        return "jsonl"
    name = Path(path).name.lower().removesuffix(".gz")
    suffix = Path(name).suffix
    if suffix not in SUFFIXES:
        raise SettingsError(f"FILE: the suffix {suffix or '(none)'} names no format: pass --format jsonl, csv, tsv or parquet")
    return SUFFIXES[suffix]


def parse_mapping(text: str | None, fields: frozenset[str]) -> dict[str, str]:
    """`user_id=userId,item_id=movieId` ▸ {field: column}. Raises SettingsError for an unknown field or a torn pair."""
    mapping: dict[str, str] = {}
    for pair in (text or "").split(","):
        if not pair.strip():
            continue
        name, separator, column = (part.strip() for part in pair.partition("="))
        if not (separator and name and column):
            raise SettingsError("--map: each pair is FIELD=COLUMN, pairs are separated by commas")
        if name not in fields:
            raise SettingsError(f"--map: {name} is no field; the fields are {', '.join(sorted(fields))}")
        mapping[name] = column
    return mapping


@contextmanager
def open_rows(path: str, form: Format) -> Iterator[Iterator[Row]]:
    """The rows of a file, one after the other, in bounded memory. Raises SettingsError when the file cannot be opened."""
    if form == "parquet":
        yield _parquet_rows(path)
        return
    stream: IO[bytes]
    if path == "-":
        stream = sys.stdin.buffer
    else:
        try:
            stream = gzip.open(path, "rb") if path.lower().endswith(".gz") else open(path, "rb")  # type: ignore[assignment]  # noqa: SIM115
        except OSError as error:
            raise SettingsError(f"FILE: cannot be opened ({error.strerror or type(error).__name__})") from None
    try:
        yield _json_rows(stream) if form == "jsonl" else _table_rows(stream, "\t" if form == "tsv" else ",")
    finally:
        if path != "-":
            stream.close()


def _json_rows(stream: IO[bytes]) -> Iterator[Row]:
    line = 0
    while True:
        raw = stream.readline(MAX_LINE_BYTES)
        if not raw:
            return
        line += 1
        if len(raw) >= MAX_LINE_BYTES and not raw.endswith(b"\n"):
            while raw and not raw.endswith(b"\n"):
                raw = stream.readline(MAX_LINE_BYTES)
            yield Row(line, None, f"record: more than {MAX_LINE_BYTES} bytes in one line; shorten it")
            continue
        if not raw.strip():
            continue
        try:
            columns = orjson.loads(raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw)
        except orjson.JSONDecodeError:
            yield Row(line, None, "record: not JSON; write one JSON object a line")
            continue
        if isinstance(columns, dict):
            yield Row(line, columns)
        else:
            yield Row(line, None, f"record: a JSON {type(columns).__name__}; write one JSON object a line")


def _table_rows(stream: IO[bytes], delimiter: str) -> Iterator[Row]:
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    try:
        header = next(reader)
    except (StopIteration, csv.Error):
        raise SettingsError("FILE: has no header line that names the columns") from None
    try:
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Row(reader.line_num, None, f"record: broken CSV ({error})")
                continue
            if not cells:
                continue
            if len(cells) != len(header):
                yield Row(reader.line_num, None, f"record: {len(cells)} cells, the header names {len(header)}")
                continue
            yield Row(reader.line_num, {name: cell for name, cell in zip(header, cells, strict=True) if cell != ""})
    finally:
        text.detach()


def _parquet_rows(path: str) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path == "-":
        raise SettingsError("FILE: Parquet cannot be read from standard input: name a file")
    try:
        with pq.ParquetFile(path) as file:
            line = 0
            for batch in file.iter_batches(batch_size=PARQUET_BATCH_ROWS):
                for columns in batch.to_pylist():
                    line += 1
                    yield Row(line, {name: value for name, value in columns.items() if value is not None})
    except (OSError, pa.ArrowException) as error:
        raise SettingsError(f"FILE: is no readable Parquet file ({type(error).__name__})") from None


def to_ms(value: Any, unit: TimeUnit) -> Any:
    """A time as whole Unix milliseconds, from a number in `unit`, ISO 8601 text, or a datetime (no zone: UTC). Raises BadRow."""
    if isinstance(value, dt.datetime):
        moment = value if value.tzinfo is not None else value.replace(tzinfo=dt.UTC)
        return (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)
    if unit == "iso":
        try:
            return to_ms(dt.datetime.fromisoformat(value), unit)
        except (TypeError, ValueError):
            raise BadRow("not an ISO 8601 time") from None
    if isinstance(value, str):
        try:
            value = int(value) if value.strip().lstrip("-").isdigit() else float(value)
        except ValueError:
            raise BadRow(f"not a number of {unit}; pass --time-unit") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRow(f"a {type(value).__name__}, not a time")
    scaled = value * {"ms": 1, "s": 1_000, "us": 0.001}[unit]
    return scaled if isinstance(scaled, int) else int(scaled) if abs(scaled) < 1e18 else scaled


def _number(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise BadRow("not a number") from None
    return value


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            raise BadRow("not a whole number") from None
    return value


def _flag(value: Any) -> Any:
    if isinstance(value, str):
        known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if value.strip().lower() not in known:
            raise BadRow("neither true nor false")
        return known[value.strip().lower()]
    return value


def _identity(value: Any) -> Any:
    # numeric ids of tables: 17 and 17.0 are both the id "17"
    if isinstance(value, bool):
        return value
    return str(value) if isinstance(value, int) else str(int(value)) if isinstance(value, float) and value.is_integer() else value


def _strings(value: Any) -> Any:
    return [part.strip() for part in value.split("|") if part.strip()] if isinstance(value, str) else value


def _json(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            raise BadRow("not JSON") from None
    return value


CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "event_id": _identity, "user_id": _identity, "item_id": _identity, "list_id": _identity,
    "value": _number, "position": _whole, "schema_version": _whole, "context": _json,
    "available": _flag, "categories": _strings, "numeric_attributes": _json, "categorical_attributes": _json, "embeddings": _json,
}  # fmt: skip


@dataclass(frozen=True)
class RowMapping:
    """How the columns of a file become the fields of a record.

    `columns`: field ▸ column, for fields whose column has another name. `lenient`: columns that are no field are left out (tables) instead
    of refused (JSON lines, where they may be a misspelt field).
    """

    fields: frozenset[str]
    columns: Mapping[str, str]
    lenient: bool
    time_unit: TimeUnit = "ms"
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def record(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of one row. Raises BadRow naming the field that cannot be converted."""
        taken = set(self.columns.values())
        same_name = {
            name: value
            for name, value in row.items()
            if name not in taken and name not in self.columns and (name in self.fields or not self.lenient)
        }
        mapped = {name: row[column] for name, column in self.columns.items() if column in row}
        found = {**self.defaults, **same_name, **mapped}
        for name in found:
            try:
                if name in TIME_FIELDS:
                    found[name] = to_ms(found[name], self.time_unit)
                elif name in CONVERTERS:
                    found[name] = CONVERTERS[name](found[name])
            except BadRow as error:
                raise BadRow(f"{name}: {error}") from None
        return found


def event_mapping(
    form: Format, columns: Mapping[str, str], *, event_type: str | None = None, time_unit: TimeUnit = "ms", ignore_unknown: bool = False
) -> RowMapping:
    """Mapping of an events file; `event_type` is the type of rows that name none."""
    defaults = {} if event_type is None else {"type": event_type}
    return RowMapping(EVENT_FIELDS, columns, form != "jsonl" or ignore_unknown, time_unit, defaults)


def item_mapping(form: Format, columns: Mapping[str, str], *, time_unit: TimeUnit = "ms", ignore_unknown: bool = False) -> RowMapping:
    """Mapping of a catalogue file. In tables `categories` are separated by `|`, attributes and embeddings are JSON."""
    return RowMapping(ITEM_FIELDS, columns, form != "jsonl" or ignore_unknown, time_unit)


def row_event_id(fields: Mapping[str, Any]) -> str:
    """An event id from what the event says, so that a file that is published twice counts once (within the duplicate window)."""
    names = ("user_id", "item_id", "type", "value", "event_ts_ms", "list_id", "position")
    text = "\x1f".join(f"{name}={fields.get(name)!r}" for name in names)
    return f"row-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}"


class Pace:
    """Holds a loop to `per_s` steps a second, without catching up after a stall."""

    def __init__(self, per_s: float | None) -> None:
        self._step_s = 0.0 if not per_s else 1.0 / per_s
        self._next = time.monotonic()

    def wait(self) -> None:
        if self._step_s:
            now = time.monotonic()
            self._next = max(self._next + self._step_s, now - 0.1)
            if self._next - now > 0.002:
                time.sleep(self._next - now)


def publish_rows(
    rows: Iterable[Row],
    mapping: RowMapping,
    publisher: EventPublisher,
    kind: Literal["events", "items"],
    *,
    rate: float | None = None,
    on_bad: Callable[[int, str], None] | None = None,
    on_row: Callable[[], None] | None = None,
) -> PublishReport:
    """Publish rows in their order at `rate` a second at most, and flush.

    Raises PublishError when the broker did not take some, Transient when it is away. `on_bad` hears of each bad row, `on_row` of every row.
    """
    report = PublishReport()
    start = time.monotonic()
    pace = Pace(rate)
    ignored: set[str] = set()
    for row in rows:
        if on_row is not None:
            on_row()
        try:
            if row.columns is None:
                raise BadRow(row.reason)
            fields = mapping.record(row.columns)
            if mapping.lenient and len(ignored) < 100:
                ignored |= set(row.columns) - mapping.fields - set(mapping.columns.values())
            if kind == "items":
                publisher.publish_item(fields)
            else:
                fields.setdefault("event_ts_ms", time.time_ns() // 1_000_000)
                if "event_id" not in fields:
                    fields["event_id"] = row_event_id(fields)
                publisher.publish(fields)
        except (BadRow, SchemaError, UnicodeError) as error:
            report.refuse(row.line, str(error))
            if on_bad is not None:
                on_bad(row.line, str(error))
            continue
        report.published += 1
        pace.wait()
    publisher.flush()
    report.seconds = time.monotonic() - start
    report.ignored_columns = sorted(ignored)
    return report
