"""Publish a file for `recsys events publish`, `items publish` and `users publish`, and show the outcome."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.cli.console import CommandFailed, errors, print_json, settings, tell, warn
from workers.runtime.text import visible

if TYPE_CHECKING:
    from rich.progress import Progress

    from workers.cli.file_options import FileOptions
    from workers.producer.bad_rows import BadRowFile
    from workers.producer.extent import Extent
    from workers.producer.mapping import Kind, RowMapping
    from workers.producer.publish import Publisher
    from workers.producer.report import PublishReport
    from workers.producer.rows import Row

MAX_SHOWN = 20
"""Bad rows shown one by one; the rest is counted."""
EXIT_INTERRUPTED = 130
INTERRUPTED_CLOSE_S = 1.0
BAR_EVERY_ROWS = 200
NOUNS = {"events": "events", "items": "items", "users": "profiles"}


@dataclass(frozen=True)
class PublishOptions:
    """Options of the command line for sending rows. `bad_rows`: where bad rows are kept; `beside`: if nowhere, beside the source."""

    rate: float | None = None
    skip_rows: int = 0
    dry_run: bool = False
    as_json: bool = False
    bad_rows: Path | None = None
    beside: bool = False

    @property
    def keep_bad(self) -> bool:
        """Return whether bad rows are kept in a file."""
        return self.beside or self.bad_rows is not None


def publish_file(file: str, kind: Kind, options: FileOptions, how: PublishOptions) -> None:
    """Publish a file and show the outcome. Raises SettingsError before anything is sent, CommandFailed when not every row went out."""
    from workers import client
    from workers.producer.bad_rows import BadRowFile, check_place, options_of
    from workers.producer.extent import Extent
    from workers.producer.files import open_rows, parts_of
    from workers.producer.publish import Run, publish_rows

    if (earlier := options_of(file, kind, asdict(options))) is not None:
        options = type(options)(**earlier[1])
    reading = options.reading()
    mapping = options.mapping(kind, parts_of(file, reading)[0].form != "jsonl")
    if how.keep_bad:
        check_place(file, how.bad_rows)
    side = BadRowFile(file, how.bad_rows, mapping, asdict(options)) if how.keep_bad else None
    shown = _BadRows(file, how.dry_run, side)
    extent = Extent()
    chosen = settings()
    report = None
    try:
        publisher: Any
        made = client.DryRun(chosen.stream.future_skew_s) if how.dry_run else None
        with open_rows(file, reading, mapping, extent) as rows, made or client.EventPublisher(chosen) as publisher:
            _say_times(mapping, how.as_json)
            with _Bar(kind, extent) as bar:
                run = Run(how.rate, options.row_ids, how.skip_rows, how.dry_run, shown, bar.advance)
                report = publish_rows(rows, mapping, publisher, run)
            if report.interrupted:
                publisher.close(INTERRUPTED_CLOSE_S)
    except client.PublishError as error:  # records that closing gave up
        if report is None:
            raise
        if not report.interrupted:
            report.lose(error)
    except KeyboardInterrupt:
        if report is None:
            warn("recsys: interrupted before the first row: nothing was published")
            raise CommandFailed(EXIT_INTERRUPTED) from None
        report.interrupted = True
    finally:
        if side is not None:
            side.close()
    report.warnings += [f"{n:,} times {name} was too long or had too many entries and was cut" for name, n in _trimmed(publisher)]
    _report(report, mapping, file, how, side)


def _trimmed(publisher: Publisher) -> list[tuple[str, int]]:
    """Return the fields that the publisher cut, with counts."""
    trimmed = getattr(publisher, "trimmed", None)
    return [] if trimmed is None else sorted((name, n) for (_, name), n in trimmed.total.items())


def _say_times(mapping: RowMapping, as_json: bool) -> None:
    """Say how the times of the file are read, before rows go out."""
    for name, found in ({} if as_json else mapping.times.formats()).items():
        column = mapping.column_of(name)
        warn(f"times ({name}{'' if column == name else f', column {column}'}): {found}")


class _Bar:
    """Shows how much of the file was read, on a terminal."""

    def __init__(self, kind: str, extent: Extent) -> None:
        self._extent = extent
        self._n_rows = 0
        self._bar = _progress(extent)
        self._task = self._bar.add_task(f"publishing {NOUNS[kind]}", total=extent.total)

    def advance(self) -> None:
        """Count one more row."""
        self._n_rows += 1
        if self._n_rows % BAR_EVERY_ROWS == 0:
            self._bar.update(self._task, completed=self._n_rows if self._extent.total is None else self._extent.done())

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.update(self._task, completed=self._n_rows if self._extent.total is None else self._extent.done())
        self._bar.stop()


def _progress(extent: Extent) -> Progress:
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    amount = DownloadColumn() if extent.total is not None and extent.unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=errors(), disable=not errors().is_terminal)


class _BadRows:
    """Show the first bad rows as they come; a dry run counts them by reason instead."""

    def __init__(self, file: str, is_silent: bool, side: BadRowFile | None = None) -> None:
        self._file, self._side = file, side
        self._is_silent = is_silent
        self._n = 0

    def __call__(self, row: Row, reason: str) -> None:
        self._n += 1
        if self._side is not None:
            self._side.write(row, reason)
        if self._n <= MAX_SHOWN and not self._is_silent:
            warn(f"{_place(self._file, row.file)}:{row.line}: {reason}")


def _place(file: str, part: str) -> str:
    return f"{file.rstrip('/')}/{part}" if part else file


def _report(report: PublishReport, mapping: RowMapping, file: str, how: PublishOptions, side: BadRowFile | None) -> None:
    if report.bad > MAX_SHOWN and not how.dry_run:
        more = "" if how.keep_bad else ": --bad-rows FILE keeps all of them, to be corrected and published again"
        warn(f"… and {report.bad - MAX_SHOWN:,} more bad rows{more}")
    if report.ignored_columns:
        warn(f"columns that are no field were left out: {', '.join(name or '(blank)' for name in report.ignored_columns)}")
    for warning in report.warnings:
        warn(warning)
    if how.as_json:
        kept_in = None if side is None or side.path is None else visible(side.path)
        print_json(_fields(report, mapping, how.dry_run) | {"bad_rows_file": kept_in})
    else:
        _tell_counts(report, mapping.kind, how.dry_run)
    if how.dry_run and not how.as_json:
        _tell_reasons(report, file)
    if side is not None and side.n_rows:
        rows = "1 bad row is" if side.n_rows == 1 else f"{side.n_rows:,} bad rows are"
        warn(f"{rows} in {side.path}, with line, field and reason: correct them there, then `recsys import {shlex.quote(str(side.path))}`")
    if report.error:
        warn(f"recsys: {report.error}")
    if report.interrupted:
        raise CommandFailed(EXIT_INTERRUPTED)
    if report.bad or report.error:
        raise CommandFailed


def _per_s(report: PublishReport) -> float:
    return (report.published + report.would_publish) / report.seconds if report.seconds > 0 else 0.0


def _tell_counts(report: PublishReport, kind: str, is_dry: bool) -> None:
    if is_dry:
        counts = f"a dry run: {report.would_publish:,} {NOUNS[kind]} would be published, {report.bad:,} rows would be refused"
    else:
        rate = f"in {report.seconds:.1f} s ({_per_s(report):,.0f}/s)"
        counts = f"published {report.published:,} {NOUNS[kind]} {rate}, {report.bad:,} bad rows"
    more = [(report.undelivered, "not delivered"), (report.merged, "rows merged into others"), (report.skipped, "rows skipped")]
    tell(counts + "".join(f", {n:,} {what}" for n, what in more if n))


def _tell_reasons(report: PublishReport, file: str) -> None:
    """Print why rows would be refused, the most common reason first, each with the places of a few of them."""
    from workers.producer.notes import n_rows

    for reason, refusal in sorted(report.reasons.items(), key=lambda pair: -pair[1].n_rows):
        places = ", ".join(f"{_place(file, part)}:{line}" for part, line in refusal.examples)
        tell(f"  {n_rows(refusal.n_rows)}: {reason} ({places}{', …' if refusal.n_rows > len(refusal.examples) else ''})")


def _fields(report: PublishReport, mapping: RowMapping, is_dry: bool) -> dict[str, Any]:
    more = {"dry_run": True, "would_publish": report.would_publish} if is_dry else {}
    return {
        "rows": report.rows,
        "published": report.published,
        "bad": report.bad,
        "undelivered": report.undelivered,
        "merged": report.merged,
        "skipped": report.skipped,
        **more,
        "last_line": report.last_line,
        "interrupted": report.interrupted,
        "error": report.error or None,
        "seconds": round(report.seconds, 3),
        "per_s": round(_per_s(report), 1),
        "time_formats": mapping.times.formats(),
        "warnings": report.warnings,
        "ignored_columns": report.ignored_columns,
        "reasons": [
            {"reason": reason, "rows": refusal.n_rows, "examples": [_located(part, line) for part, line in refusal.examples]}
            for reason, refusal in sorted(report.reasons.items(), key=lambda pair: -pair[1].n_rows)
        ],
        "bad_rows": [_located(part, line) | {"reason": reason} for part, line, reason in report.bad_rows],
    }


def _located(part: str, line: int) -> dict[str, Any]:
    return {"line": line} | ({"file": visible(part)} if part else {})
