"""`recsys import`: files of anybody, guessed, shown, published."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.console import CommandFailed, print_json, settings, tell, tell_rows
from workers.cli.file_options import (
    Decimal,
    Delimiter,
    Encoding,
    FileOptions,
    Form,
    Header,
    Levels,
    Map,
    Missing,
    Repeats,
    Split,
    TimeFormat,
    Unit,
    Zone,
    checked_delimiter,
)
from workers.cli.publishing import NOUNS, PublishOptions, publish_file
from workers.errors import SettingsError
from workers.runtime.text import visible

if TYPE_CHECKING:
    from workers.producer.guess import Guess
    from workers.producer.report import PublishReport

KINDS = ("events", "items", "users")
TRIED_ROWS = 1_000
"""Rows that are read as they would be published, before anything is asked."""
ORDER = ("items", "users", "events")
"""Files are published in this order: an event may refer to items."""
OPTIONAL_TIMES = ("published_ts_ms", "expires_ts_ms", "updated_ts_ms")
"""Fields whose column is left out where it holds no times."""
PIPED = "--yes publishes without a question, --dry-run only looks"


def import_files(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="CSV, TSV, JSON lines or Parquet, also compressed; folders of them.")
    ],
    kind: Annotated[str | None, typer.Option("--as", help="events, items or users; else the columns say it.", metavar="KIND")] = None,
    columns: Map = None,
    form: Form = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Type of events whose rows have none.")] = None,
    types: Annotated[list[str] | None, typer.Option("--types", help="Event types with other names.", metavar="NAME=TYPE,…")] = None,
    time_unit: Unit = None,
    time_format: TimeFormat = None,
    time_zone: Zone = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    header: Header = None,
    decimal: Decimal = None,
    split: Split = None,
    levels: Levels = None,
    repeats: Repeats = None,
    missing: Missing = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Publish what was understood without a question.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every row and publish nothing; no broker is needed.")] = False,
    bad_rows: Annotated[
        Path | None,
        typer.Option(
            "--bad-rows",
            help="File or folder for bad rows, as JSON lines with line, field and reason [default: FILE.bad.jsonl beside each FILE].",
            metavar="FILE",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text; needs --yes or --dry-run.")] = False,
) -> None:
    """Publish files of anybody: guess what they hold, show it with examples, ask, and publish.

    Guessed are format, encoding, separators, whether rows are events, items or users, columns by their names, event types, categories and
    attributes. Times are detected as by `recsys events publish`. What is wrong is corrected with the options, which go before any guess.
    Rows = published + bad + not delivered + merged, always; exit code 1 if a row was bad. Bad rows go to FILE.bad.jsonl, each with the
    options that it was read with: correct them there and import that file. Nothing that is there is replaced.
    """
    if kind is not None and kind not in KINDS:
        raise SettingsError(f"--as: one of {', '.join(KINDS)}")
    if len(files) > 1 and columns:
        raise SettingsError("--map: names the columns of one file: import one file at a time with it")
    if len(files) > 1 and bad_rows is not None and not bad_rows.is_dir():
        raise SettingsError("--bad-rows: names one file: with several FILEs name a folder that is there")
    is_asked = not (yes or dry_run)
    if is_asked and (as_json or not sys.stdin.isatty()):
        raise SettingsError(f"import: there is nobody to ask: {PIPED}")
    given: dict[str, Any] = {
        "columns": columns, "form": form, "event_type": event_type, "types": types, "time_unit": time_unit, "time_format": time_format,
        "time_zone": time_zone, "encoding": encoding, "delimiter": checked_delimiter(delimiter), "header": header, "decimal": decimal,
        "split": split, "levels": levels, "repeats": repeats, "missing": missing,
    }  # fmt: skip
    guessed = _guess_all(files, kind, given, is_asked)
    if not as_json:
        for file, guess, tried in guessed:
            _show(file, guess, tried)
    if is_asked and not typer.confirm("Publish them?" if len(guessed) > 1 else "Publish it?"):
        return tell("nothing was published")
    _publish(guessed, PublishOptions(dry_run=dry_run, as_json=as_json, bad_rows=bad_rows, beside=not dry_run))


def _guess_all(files: list[str], kind: str | None, given: dict[str, Any], is_asked: bool) -> list[tuple[str, Guess, PublishReport]]:
    from workers.producer.guess import guess
    from workers.producer.rows import DamagedFile

    FileOptions(**given).reading()  # refuses what is no encoding, header or format before a guess is made with it
    found = []
    for file in files:
        try:
            made = guess(file, kind, given)  # type: ignore[arg-type]
            found.append((file, made, _try(file, made, is_asked)))
        except SettingsError as error:
            raise SettingsError(f"{visible(file)}: {str(error).removeprefix('FILE: ')}") from None
        except DamagedFile as error:
            remedy = "nothing was published: repair the file, or import the others without it"
            raise DamagedFile(f"{visible(file)}: {error}; {remedy}") from None
    return sorted(found, key=lambda one: ORDER.index(one[1].kind))


def _try(file: str, guess: Guess, is_asked: bool) -> PublishReport:
    """Read the first rows as they would be published; follow what a refusal asks for, with the user's word."""
    from workers.producer.trial import publish_some

    for _ in range(4):
        options = FileOptions(**guess.options)
        try:
            reading = options.reading()
            mapping = options.mapping(guess.kind, guess.form != "jsonl")
            report = publish_some(file, reading, mapping, settings().stream.future_skew_s, TRIED_ROWS)
        except SettingsError as error:
            if not _follow(guess, str(error), is_asked):
                raise
        else:
            guess.notes += [f"times ({name}): {found}" for name, found in mapping.times.formats().items()]
            return report
    raise SettingsError("FILE: cannot be read as it was guessed: use `recsys events publish` with its options")


def _follow(guess: Guess, problem: str, is_asked: bool) -> bool:
    """Take the remedy that a refusal names; return False where there is none."""
    options = guess.options
    if "--time-zone" in problem and "time_zone" not in options:
        zone = typer.prompt("The times name no time zone. Which is theirs?", default="UTC") if is_asked else "UTC"
        options["time_zone"] = str(zone)
        guess.notes.append(f"times name no zone: taken for {zone} (--time-zone for another one)")
        return True
    if "--time-format day-first" in problem and "time_format" not in options and is_asked:
        options["time_format"] = str(typer.prompt("Is the day first or the month (day-first, month-first)?", default="day-first"))
        return True
    field = problem.removeprefix("FILE: ").split(" ")[0].rstrip(":")
    if field in OPTIONAL_TIMES and (guessed := [pair for pair in options.get("columns", []) if pair.strip('"').startswith(f"{field}=")]):
        options["columns"] = [pair for pair in options["columns"] if pair not in guessed]
        guess.columns = [replace(one, field="", why="left out: no times") if one.field == field else one for one in guess.columns]
        if guess.form == "jsonl":
            options["ignore_unknown"] = True
        return True
    if "--decimal comma" in problem and "decimal" not in options:
        options["decimal"] = "comma"
        guess.notes.append("numbers have a decimal comma")
        return True
    if "--repeats" in problem and "repeats" not in options:
        options["repeats"] = "merge"
        guess.notes.append("rows of one id that follow each other are merged (--repeats replace for the last one)")
        return True
    return False


def _show(file: str, guess: Guess, tried: PublishReport) -> None:
    """Show what was understood of a file."""
    rows = [(one.column, one.field or "–", list(one.examples) or "", one.why) for one in guess.columns]
    tell_rows(
        ("column", "read as", "examples", "note"), rows, folding=("examples", "note"), title=f"{file}: {NOUNS[guess.kind]} ({guess.form})"
    )
    for note in guess.notes:
        tell(f"  {note}")
    tell(f"  of the first {tried.rows:,} rows {tried.would_publish + tried.merged:,} are good, {tried.bad:,} bad")
    for reason, refusal in sorted(tried.reasons.items(), key=lambda pair: -pair[1].n_rows)[:3]:
        tell(f"  {refusal.n_rows:,} bad: {reason}")


def _publish(guessed: list[tuple[str, Guess, PublishReport]], how: PublishOptions) -> None:
    from workers.producer.bad_rows import check_place

    for file, _, _ in guessed if how.keep_bad else []:
        check_place(file, how.bad_rows)
    codes = []
    for file, guess, _ in guessed:
        if how.as_json:
            print_json(_described(file, guess))
        elif len(guessed) > 1:
            tell(f"{file}:")
        codes.append(_publish_one(file, guess, how))
        if codes[-1] == 130:
            break
    if any(codes):
        raise CommandFailed(max(codes))


def _publish_one(file: str, guess: Guess, how: PublishOptions) -> int:
    try:
        publish_file(file, guess.kind, FileOptions(**guess.options), how)
    except CommandFailed as failure:
        return failure.code
    return 0


def _described(file: str, guess: Guess) -> dict[str, Any]:
    columns = [{"column": one.column, "field": one.field or None, "examples": one.examples} for one in guess.columns]
    return {
        "file": visible(file),
        "kind": guess.kind,
        "format": guess.form,
        "columns": columns,
        "options": guess.options,
        "notes": guess.notes,
    }
