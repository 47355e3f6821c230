"""Publish rows in their order, and count what became of them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from schemas import Event, Item, Poison, SchemaError
from schemas.trimming import trim
from workers.client import PublishError
from workers.errors import Transient
from workers.producer.event_ids import GivenIds, RowIds
from workers.producer.mapping import RowMapping
from workers.producer.notes import n_rows
from workers.producer.rows import BadRow, DamagedFile, Row

MAX_REPORTED = 1_000
"""Bad rows kept for the caller; all are counted."""
_LIKE_A_TIME = re.compile(r"time|date|(^|_)(ts|at|when)(_|$)", re.IGNORECASE)
NOW = "the file has no event times: the moment of publishing was taken"


class Publisher(Protocol):
    """Where rows go: `workers.client.EventPublisher`, or what a test puts in its place."""

    def publish(self, event: Mapping[str, Any], /) -> Any: ...

    def publish_item(self, item: Mapping[str, Any]) -> Any: ...

    def flush(self) -> None: ...


@dataclass
class PublishReport:
    """Counts the rows of a file: rows = published + bad + undelivered.

    `bad_rows` holds the first thousand (file, line, reason); `file` is the part of a folder. `error` says why the file was not read to its
    end or not delivered, in one line; `last_line` is the last line or row that was read.
    """

    rows: int = 0
    published: int = 0
    bad: int = 0
    undelivered: int = 0
    seconds: float = 0.0
    last_line: int = 0
    interrupted: bool = False
    error: str = ""
    warnings: list[str] = field(default_factory=list)
    ignored_columns: list[str] = field(default_factory=list)
    bad_rows: list[tuple[str, int, str]] = field(default_factory=list)

    def lose(self, error: PublishError) -> None:
        """Count records that the broker did not take as not published."""
        self.undelivered += len(error.undelivered)
        self.published -= len(error.undelivered)
        self.error = self.error or str(error)

    def refuse(self, row: Row, reason: str) -> None:
        """Count a bad row."""
        self.bad += 1
        if len(self.bad_rows) < MAX_REPORTED:
            self.bad_rows.append((row.file, row.line, reason))


class Pace:
    """Hold a loop to `per_s` steps a second, without catching up after a stall."""

    def __init__(self, per_s: float | None) -> None:
        self._step_s = 0.0 if not per_s else 1.0 / per_s
        self._next = time.monotonic()

    def wait(self) -> None:
        """Sleep until the next step is due."""
        if self._step_s:
            now = time.monotonic()
            self._next = max(self._next + self._step_s, now - 0.1)
            if self._next - now > 0.002:
                time.sleep(self._next - now)


class _Sender:
    """Turn one row after the other into a record and hand it to the publisher."""

    def __init__(self, mapping: RowMapping, publisher: Publisher, *, row_ids: bool) -> None:
        self._mapping = mapping
        self._publisher = publisher
        self._always_row_ids = row_ids
        self.row_ids = RowIds()
        self.given_ids = GivenIds()
        self.took_now = False

    def send(self, row: Row) -> None:
        """Publish one row. Raises BadRow, SchemaError or UnicodeError when it is refused, Transient when the broker is away."""
        if row.columns is None:
            raise BadRow(row.reason)
        fields, trimmed = trim(Item if self._mapping.kind == "items" else Event, self._mapping.record(row.columns))
        self._mapping.note_left_out(row.columns)
        if self._mapping.kind == "items":
            self._publisher.publish_item(fields)
            self._note(trimmed)
            return
        given = fields.get("event_id")
        if given is None or self._always_row_ids:
            fields["event_id"] = self.row_ids.id_of(fields, row.line, str(given or "").encode("utf-8", "surrogatepass"))
        else:
            self.given_ids.add(fields)
        if "event_ts_ms" not in fields:
            self._mapping.notes.count(NOW)
            self.took_now = True
            fields["event_ts_ms"] = time.time_ns() // 1_000_000
        self._publisher.publish(fields)
        self._note(trimmed)

    def _note(self, trimmed: Iterable[str]) -> None:
        """Count what a published row lost: a fault in a field that is not essential costs that field, as it does on the topic."""
        for name in trimmed:
            self._mapping.notes.count(f"{name} was wrong, too long or had too many entries; what is valid of it was published")


def publish_rows(
    rows: Iterable[Row],
    mapping: RowMapping,
    publisher: Publisher,
    *,
    rate: float | None = None,
    row_ids: bool = False,
    on_bad: Callable[[Row, str], None] | None = None,
    on_row: Callable[[], None] | None = None,
) -> PublishReport:
    """Publish rows in their order at `rate` a second at most, and flush.

    A damaged file, a broker that is away and Ctrl-C end the loop; the report says so in `error`, and its counts hold. `row_ids`: ids are
    made from rows also where the file has some. `on_bad` hears of each bad row, `on_row` of every row.
    """
    report = PublishReport()
    start = time.monotonic()
    sender = _Sender(mapping, publisher, row_ids=row_ids)
    try:
        _send_all(rows, sender, report, Pace(rate), on_bad, on_row)
    except DamagedFile as error:
        place = f"the file cannot be read beyond row {report.rows:,} (line {report.last_line:,})" if report.rows else "no row can be read"
        counts = f"{report.published:,} published, {report.bad:,} bad"
        report.error = f"{place}: {error}; {counts}; repair the file and publish it again"
    except KeyboardInterrupt:
        report.interrupted = True
        report.rows = report.published + report.bad  # the row in hand is sent again next time
        counts = f"{report.published:,} published, {report.bad:,} bad"
        report.error = f"interrupted after row {report.rows:,} (line {report.last_line:,}): {counts}"
    except Transient as error:
        report.error = str(error)
        report.rows = report.published + report.bad  # the row in hand was not taken
    _flush(publisher, report)
    report.seconds = time.monotonic() - start
    report.ignored_columns = sorted(mapping.left_out)
    empty = [] if report.rows or report.error else ["the file holds no rows"]
    report.warnings = [*empty, *mapping.unseen(), *_time_notes(mapping, sender.took_now), *mapping.notes.lines(), *_id_notes(sender)]
    return report


def _send_all(
    rows: Iterable[Row],
    sender: _Sender,
    report: PublishReport,
    pace: Pace,
    on_bad: Callable[[Row, str], None] | None,
    on_row: Callable[[], None] | None,
) -> None:
    for row in rows:
        report.rows += 1
        report.last_line = row.line
        if on_row is not None:
            on_row()
        try:
            sender.send(row)
        except (BadRow, SchemaError, UnicodeError) as error:
            reason = _reason(error)
            report.refuse(row, reason)
            if on_bad is not None:
                on_bad(row, reason)
            continue
        report.published += 1
        pace.wait()


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "record: not UTF-8; convert the file or pass --encoding"
    if isinstance(error, Poison) and error.kind == "future_timestamp":
        return f"{error}; if the file's times are local, pass --time-zone"
    return str(error)


def _flush(publisher: Publisher, report: PublishReport) -> None:
    """Wait for the broker; what it did not take is not published."""
    try:
        publisher.flush()
    except PublishError as error:
        report.lose(error)
    except Transient as error:
        report.error = report.error or str(error)


def _time_notes(mapping: RowMapping, took_now: bool) -> list[str]:
    n = mapping.clock.n_without_zone
    unused = sorted(name for name in mapping.left_out if _LIKE_A_TIME.search(name)) if took_now else []
    notes = [f"the column {unused[0]} was left out: if it is the time of the event, pass --map event_ts_ms={unused[0]}"] if unused else []
    if not n:
        return notes
    return [*notes, f"{n:,} {'time names' if n == 1 else 'times name'} no time zone and {'was' if n == 1 else 'were'} read as UTC; "
            "if they are local, pass --time-zone, such as Europe/Berlin or +08:00"]  # fmt: skip


def _id_notes(sender: _Sender) -> list[str]:
    notes = []
    if sender.row_ids.n_equal:
        notes.append(f"{n_rows(sender.row_ids.n_equal)} the same as an earlier row: each counts as an event of its own")
    n_same, n_other = sender.given_ids.repeats()
    if n_same:
        notes.append(f"{n_rows(n_same)} with the event_id and the content of an earlier row: each event_id counts once")
    if n_other:
        notes.append(
            f"{n_rows(n_other)} with the event_id of an earlier row and other content: only the first of each counts; if they are events "
            "of their own (such as the lines of one order), pass --row-ids"
        )
    return notes
