"""Publish rows in their order, and count what became of them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from schemas import Poison, SchemaError
from schemas.trimming import trim
from workers.client import PublishError
from workers.errors import Transient
from workers.producer.bad_rows import BadRowLostError
from workers.producer.event_ids import GivenIds, RowIds
from workers.producer.mapping import KEYS, MODELS, RowMapping
from workers.producer.notes import n_rows
from workers.producer.repeats import RepeatedKeys
from workers.producer.report import PublishReport
from workers.producer.rows import BadRow, DamagedFile, Row

_LIKE_A_TIME = re.compile(r"time|date|(^|_)(ts|at|when)(_|$)", re.IGNORECASE)
INTERRUPTED_FLUSH_S = 10.0
"""How long an interrupted run waits for the broker to acknowledge what is on its way."""
NOW = "the file has no event times: the moment of publishing was taken"


class Publisher(Protocol):
    """Where rows go: `workers.client.EventPublisher`, or `DryRun`, which only checks them."""

    def publish(self, event: Mapping[str, Any], /) -> Any: ...

    def publish_item(self, item: Mapping[str, Any]) -> Any: ...

    def publish_profile(self, profile: Mapping[str, Any]) -> Any: ...

    def flush(self, timeout_s: float | None = None) -> None: ...

    @property
    def n_unacknowledged(self) -> int: ...


@dataclass(frozen=True)
class Run:
    """Options for sending rows: at most `rate` a second, `row_ids` also where the file has ids, from the row after `skip_rows` on.

    `dry`: the publisher only checks them. `on_bad` gets each bad row, `on_row` is called at every row.
    """

    rate: float | None = None
    row_ids: bool = False
    skip_rows: int = 0
    dry: bool = False
    on_bad: Callable[[Row, str], None] | None = None
    on_row: Callable[[], None] | None = None


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
        self._model = MODELS[mapping.kind]
        self._key = KEYS[mapping.kind][0]
        self._send = {"events": publisher.publish, "items": publisher.publish_item, "users": publisher.publish_profile}[mapping.kind]
        self._always_row_ids = row_ids
        self.row_ids = RowIds()
        self.given_ids = GivenIds()
        self.repeated = RepeatedKeys()
        self.took_now = False

    def send(self, row: Row) -> None:
        """Publish one row. Raises BadRow, SchemaError or UnicodeError when it is refused, Transient when the broker is away."""
        fields, trimmed = self._record(row)
        if self._mapping.kind == "events" and "event_ts_ms" not in fields:
            self._mapping.notes.count(NOW)
            self.took_now = True
            fields["event_ts_ms"] = time.time_ns() // 1_000_000
        self._send(fields)
        if self._mapping.kind != "events":
            self.repeated.add(str(fields[self._key]))
        for name in trimmed:  # a fault in a field that is not essential costs that field, as it does on the topic
            self._mapping.notes.count(f"{name} was wrong, too long or had too many entries; what is valid of it was published")

    def skip(self, row: Row) -> None:
        """Leave out a row that went out before, and number it: equal rows after it have the ids that they had then."""
        try:
            self._record(row)
        except (BadRow, SchemaError, UnicodeError):
            return

    def _record(self, row: Row) -> tuple[dict[str, Any], list[str]]:
        if row.columns is None:
            raise BadRow(row.reason)
        fields, trimmed = trim(self._model, self._mapping.record(row.columns))
        if self._mapping.kind == "events":
            given = fields.get("event_id")
            if given is None or self._always_row_ids:
                fields["event_id"] = self.row_ids.id_of(fields, row.line, str(given or "").encode("utf-8", "surrogatepass"))
            else:
                self.given_ids.add(fields)
        return fields, trimmed


def publish_rows(rows: Iterable[Row], mapping: RowMapping, publisher: Publisher, run: Run | None = None) -> PublishReport:
    """Publish rows in their order, and flush.

    A damaged file, a broker that is away and Ctrl-C end the loop; the report says so in `error`, and its counts hold.
    """
    run = run or Run()
    report = PublishReport()
    start = time.monotonic()
    sender = _Sender(mapping, publisher, row_ids=run.row_ids)
    try:
        _send_all(rows, sender, report, run)
    except BadRowLostError as error:
        report.error = f"{error}; {report.counts()}; the rows after it were not read: make room, and publish the file again"
    except DamagedFile as error:
        place = f"the file cannot be read beyond row {report.rows:,} (line {report.last_line:,})" if report.rows else "no row can be read"
        report.error = f"{place}: {error}; {report.counts()}; repair the file and publish it again"
    except KeyboardInterrupt:
        report.interrupted = True
        report.settle()  # the row in hand is sent again next time
    except Transient as error:
        report.error = str(error)
        report.settle()
    _flush(publisher, report)
    if report.interrupted:
        report.error = _how_to_go_on(report)
    report.seconds = time.monotonic() - start
    report.ignored_columns = sorted(mapping.left_out)
    empty = [] if report.rows or report.error or report.skipped else ["the file holds no rows"]
    report.warnings = [*empty, *mapping.unseen(), *_time_notes(mapping, sender.took_now), *mapping.notes.lines(), *_id_notes(sender)]
    return report


def _send_all(rows: Iterable[Row], sender: _Sender, report: PublishReport, run: Run) -> None:
    pace = Pace(run.rate)
    for row in rows:
        if run.on_row is not None:
            run.on_row()
        if report.skipped < run.skip_rows:
            sender.skip(row)
            report.skipped += 1 + row.joined
            continue
        report.rows += 1 + row.joined
        report.last_line = row.line
        try:
            sender.send(row)
        except (BadRow, SchemaError, UnicodeError) as error:
            reason = _reason(error)
            report.refuse(row, reason)
            if run.on_bad is not None:
                run.on_bad(row, reason)
            continue
        if run.dry:
            report.would_publish += 1
        else:
            report.published += 1
        report.merged += row.joined
        pace.wait()


def _how_to_go_on(report: PublishReport) -> str:
    """Return what an interrupted run did, and how to publish the rest."""
    where = f"interrupted after row {report.skip_rows:,} (line {report.last_line:,}): {report.counts()}"
    if report.undelivered:
        return f"{where}; to go on, publish the file again when the broker is back: what has the same id counts once"
    return f"{where}; to go on with the rest, run the same command with --skip-rows {report.skip_rows}"


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "record: not UTF-8; convert the file or pass --encoding"
    if isinstance(error, Poison) and error.kind == "future_timestamp":
        return f"{error}; if the file's times are local, pass --time-zone"
    if isinstance(error, Poison) and error.field == "type":
        return f"{error}; if the file has names of its own, pass --types NAME=TYPE"
    return str(error)


def _flush(publisher: Publisher, report: PublishReport) -> None:
    """Wait for the broker; what it did not take is not published. Ctrl-C ends the wait, and shortens it if it came before."""
    try:
        publisher.flush(INTERRUPTED_FLUSH_S) if report.interrupted else publisher.flush()
    except PublishError as error:
        report.lose(error)
    except Transient as error:
        report.error = report.error or str(error)
        report.lose_rows(publisher.n_unacknowledged)
    except KeyboardInterrupt:
        report.interrupted = True
        report.lose_rows(publisher.n_unacknowledged)


def _time_notes(mapping: RowMapping, took_now: bool) -> list[str]:
    n = mapping.times.n_as_utc()
    unused = sorted(name for name in mapping.left_out if _LIKE_A_TIME.search(name)) if took_now else []
    notes = [f"the column {unused[0]} was left out: if it is the time of the event, pass --map event_ts_ms={unused[0]}"] if unused else []
    if not n:
        return notes
    return [*notes, f"{n:,} {'time names' if n == 1 else 'times name'} no time zone and {'was' if n == 1 else 'were'} read as UTC, dates "
            "as midnight; if they are local, pass --time-zone, such as Europe/Berlin or +08:00"]  # fmt: skip


def _id_notes(sender: _Sender) -> list[str]:
    notes = []
    n_repeated = sender.repeated.count()
    if n_repeated:
        notes.append(f"{n_rows(n_repeated)} with the id of an earlier row: the later record replaces the whole of the earlier one")
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
