"""Guess what a file holds: events, items or users, which column is which field, what its event types mean.

A guess becomes options, the same that the commands take by hand, so reading a guessed file is reading any file.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from workers.errors import SettingsError
from workers.producer.bad_rows import options_of, returned_rows
from workers.producer.files import Part
from workers.producer.guess_attributes import attributes, guess_decimal, is_number
from workers.producer.guess_types import guess_types, note_scale
from workers.producer.known_names import KINDS_OF_FILES, NAMES, plain
from workers.producer.mapping import REQUIRED, Kind, is_field, pairs_of
from workers.producer.names import listed
from workers.producer.rows import BadRow, DamagedFile, Format
from workers.producer.sampling import LIKE, Sample, look, sampled, share
from workers.producer.source import open_text
from workers.producer.time_text import read_time_text
from workers.producer.values import ENTRY_CONVERTERS, VALUE_SEPARATOR, DecimalSign, flag, is_missing, nested

EXAMPLES = 3
MAX_REPEATED = 0.2
"""Share of rows with the id of an earlier one, above which rows are no profiles and no items unless the user says so."""
_REPEATED = {
    "users": "no column looks like item_id: pass --map item_id=COLUMN if they are events, or --as users if they are profiles",
    "items": "no column looks like user_id: they are rather lines of orders or single properties. Join them with what names the user and "
    "pass --map user_id=COLUMN, or pass --as items if each row is a whole item and the last one counts",
}


@dataclass(frozen=True, slots=True)
class ColumnGuess:
    """Names the field that one column was taken for; `field` is empty where it is left out."""

    column: str
    field: str
    examples: tuple[str, ...]
    why: str = ""


@dataclass
class Guess:
    """Holds how a file is read, as guessed. `options` are those of `recsys … publish`, by their Python names."""

    kind: Kind
    form: Format
    columns: list[ColumnGuess]
    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def guess(path: str, kind: Kind | None = None, given: Mapping[str, Any] | None = None) -> Guess:
    """Guess how to read a file or a folder. `given` are options that are not guessed. Raises SettingsError for what cannot be guessed."""
    options = {name: value for name, value in (given or {}).items() if value}
    known = options_of(path, kind, options)
    if known is not None:
        return _as_before(path, *known)
    sample = look(path, options)
    options["form"] = sample.form
    if sample.exported and not options.get("columns"):
        return _as_exported(kind, options, sample)
    is_given, kind = kind is not None, kind or kind_of(path, sample, [name for name, _ in _given_pairs(options)])
    mapped = _fields(kind, sample)
    for pair in _given_pairs(options):
        mapped = {name: column for name, column in mapped.items() if column != pair[1]} | {pair[0]: pair[1]}
    made = Guess(kind, sample.form, [], options)
    if sample.encoding is not None:
        options["encoding"] = sample.encoding
        made.notes.append(f"encoding: {sample.encoding}")
    if sample.delimiter is not None:
        options["delimiter"] = sample.delimiter
    _check_columns(sample, options)
    guess_decimal(sample, options, made.notes)
    if kind == "events":
        _find_times(made, mapped, sample)
        guess_types(options, made.notes, path, mapped, sample)
        note_scale(made.notes, mapped, sample, options.get("decimal"))
    _drop_unlike(mapped, sample, {column for _, column in _given_pairs(options)}, options.get("decimal"))
    lacking = [name for name in REQUIRED[kind] if name not in mapped and not (name == "type" and "event_type" in options)]
    if lacking:
        pairs = ",".join(f"{name}=COLUMN" for name in lacking)
        _refuse_nested(sample)
        raise SettingsError(
            f"FILE: no column looks like {', '.join(lacking)} of {kind}: pass --map {pairs}, or --as with another kind. "
            f"The columns are {listed(sample.names)}"
        )
    if kind in _REPEATED and not is_given:
        _refuse_repeated(kind, sample, mapped[REQUIRED[kind][0]])
    if (column := mapped.get("categories")) is not None:
        _guess_separator(made, column, sample)
    every = mapped | attributes(kind, mapped, sample, options.get("decimal"))
    named = {name: column for name, column in every.items() if name != column}
    if named:
        options["columns"] = [f"{name}={column}" if "," not in column else f'"{name}={column}"' for name, column in named.items()]
    by_column = {column: name for name, column in every.items()}
    if unread := [name for name in sample.names if is_field(kind, name) and name not in by_column]:
        options["leave_out"] = unread
    if sample.form == "jsonl" and any(name not in by_column for name in sample.names):
        options["ignore_unknown"] = True  # what is shown as left out is left out, and no reason to refuse the row
    made.columns = _listed(sample, sample.names, by_column)
    return made


def names_of_events(path: str, given: Mapping[str, Any]) -> tuple[list[str], str | None]:
    """Return FIELD=COLUMN of the user, the item and the time of a table that calls them otherwise, by the names that others give them, and
    the delimiter that its first lines show, if it is no comma. Raises SettingsError for a file that cannot be read."""
    sample = look(path, {name: value for name, value in given.items() if value})
    if sample.exported:
        return [], None
    mapped = _fields("events", sample)
    found = [f'"{name}={mapped[name]}"' for name in ("user_id", "item_id", "event_ts_ms") if mapped.get(name, name) != name]
    return found, sample.delimiter or ("tab" if sample.form == "tsv" else None)


def _as_before(path: str, kind: Kind, options: dict[str, Any]) -> Guess:
    """Return how the bad rows of an earlier import are read: as they were then."""
    source = open_text(path, "jsonl", None)
    try:
        sample = sampled(Part(path, "jsonl"), [], returned_rows(source.lines))
    except DamagedFile as error:
        raise SettingsError(f"FILE: {error}") from None
    finally:
        source.close()
    names = list({name: None for row in sample.rows for name in row})
    by_column = {column: name for name, column in _given_pairs(options)}
    by_column = {name: by_column.get(name, name if is_field(kind, name) else "") for name in names}
    columns = _listed(sample, names, by_column)
    notes = ["bad rows of an earlier import: read with its options"]
    return Guess(kind, "jsonl", columns, {**options, "form": "jsonl"}, notes)


def _as_exported(kind: Kind | None, options: dict[str, Any], sample: Sample) -> Guess:
    """Return how an export of this project is read: as it was written."""
    if sample.exported not in REQUIRED or kind not in (None, sample.exported):
        raise SettingsError(f"FILE: is an export of {sample.exported}: only exports of events, items and users are imported")
    found = cast("Kind", sample.exported)
    columns = _listed(sample, sample.names, {name: name for name in sample.names if is_field(found, name)})
    return Guess(found, sample.form, columns, options, [f"an export of {found}: every value is taken as it is"])


def _listed(sample: Sample, names: Sequence[str], by_column: Mapping[str, str]) -> list[ColumnGuess]:
    """Return the columns with the field of each, empty for those that are left out."""
    return [ColumnGuess(name, by_column.get(name, ""), _examples(sample, name), _why(name, by_column)) for name in names]


def _given_pairs(options: Mapping[str, Any]) -> list[tuple[str, str]]:
    return pairs_of("--map", options.get("columns") or [])


def _why(column: str, by_column: Mapping[str, str]) -> str:
    if not by_column.get(column):
        return "left out"
    return "attribute" if "." in by_column[column] else ""


def kind_of(path: str, sample: Sample, given: Sequence[str] = ()) -> Kind:
    """Return what the columns, the fields that were `given` a column and the file's name say that it holds. Raises SettingsError where they
    do not say it."""
    known = {plain(name) for name in (*sample.names, *given)}
    has = {kind: {name for name, columns in NAMES[kind].items() if known & set(columns)} for kind in NAMES}
    if "user_id" in has["events"] and "item_id" in has["events"]:
        return "events"
    stem = plain(Path(path).name)
    by_name = [kind for kind, words in KINDS_OF_FILES.items() if any(word in stem for word in words)]
    candidates = [kind for kind in ("items", "users") if set(REQUIRED[kind]) <= has[kind]]
    if "item_id" in has["events"] or (candidates == ["items"]):
        return "items"
    if "user_id" in has["events"] or (candidates == ["users"]):
        return "users"
    if "items" in candidates and (by_name[:1] == ["items"] or (not by_name and "title" in has["items"])):
        return "items"
    if "users" in candidates and by_name[:1] == ["users"]:
        return "users"
    _refuse_nested(sample)
    raise SettingsError(
        "FILE: its columns do not say whether it holds events, items or users: pass --as, and --map for its columns, such as "
        f"--as events --map user_id=COLUMN,item_id=COLUMN. The columns are {listed(sample.names)}"
    )


def _refuse_nested(sample: Sample) -> None:
    """Refuse rows that hold several records each. Raises SettingsError with a command that cuts them."""
    for name in sample.names:
        values = sample.values(name)
        if values and re.fullmatch(r"\w+", name) and all(isinstance(each, list) and each and isinstance(each[0], dict) for each in values):
            raise SettingsError(
                f"FILE: {name} holds several records in each row: write one a line: "
                f"jq -c '. as $row | .{name}[] | . + ($row | del(.{name}))' FILE"
            )


def _refuse_repeated(kind: Kind, sample: Sample, column: str) -> None:
    """Refuse rows that were taken for profiles and are rather events of users, or for items and are rather parts of something else: their
    ids come again, and not row after row as those of a shop's variants. Raises SettingsError."""
    ids = [str(value) for value in sample.values(column)]
    if kind == "items":
        ids = [one for place, one in enumerate(ids) if place == 0 or ids[place - 1] != one]
    n_again = len(ids) - len(set(ids))
    if n_again > MAX_REPEATED * len(ids):
        raise SettingsError(
            f"FILE: {n_again} of its first {len(ids)} rows have the {column} of an earlier row, and {_REPEATED[kind]}. "
            f"The columns are {listed(sample.names)}"
        )


def _check_columns(sample: Sample, options: Mapping[str, Any]) -> None:
    """Refuse an option for a column that a table does not have. Raises SettingsError."""
    if sample.form == "jsonl":
        return  # a later row may have it
    for option in ("split", "levels"):
        for text in options.get(option) or []:
            column = text.rpartition("=")[0].strip()
            if column not in sample.names:
                raise SettingsError(f"--{option}: there is no column {column}; the columns are {listed(sample.names)}")


def _fields(kind: Kind, sample: Sample) -> dict[str, str]:
    """Return field ▸ column. A column is taken once, by the field of that name or else by the first one that lists it; a record's own id
    rather from a column that is filled."""
    by_plain: dict[str, str] = {}
    for name in sample.names:
        by_plain.setdefault(plain(name), name)
    found = {name: name for name in sample.names if is_field(kind, name)}
    taken = set(found)
    for name, known in NAMES[kind].items():
        if name in found:
            continue
        columns = [by_plain[each] for each in (plain(name), *known) if each in by_plain and by_plain[each] not in taken]
        if name in REQUIRED[kind] and name != "type":
            columns = [each for each in columns if _tells_apart(sample, each)] or columns
        if columns:
            found[name] = columns[0]
            taken.add(columns[0])
    return found


def _tells_apart(sample: Sample, column: str) -> bool:
    """Return whether a column is filled, and not with one value alone."""
    values = sample.values(column)
    return len(values) >= LIKE * len(sample.rows) and (len(values) < 2 or any(value != values[0] for value in values))


def _drop_unlike(mapped: dict[str, str], sample: Sample, given: set[str], decimal: DecimalSign | None) -> None:
    """Leave out optional fields whose column has the right name and other values, such as a status in words."""

    def is_numeric(value: Any) -> bool:
        return is_number(value, decimal)

    tests: dict[str, Callable[[Any], bool]] = {"value": is_numeric, "available": _is_flag, "position": is_numeric}
    tests |= dict.fromkeys(ENTRY_CONVERTERS, _is_object) | dict.fromkeys(("published_ts_ms", "expires_ts_ms"), _is_no_year)
    for name, test in tests.items():
        column = mapped.get(name)
        if column is None or column in given:
            continue
        values = sample.values(column)
        if values and share(values, test) < LIKE:
            del mapped[name]


def _find_times(made: Guess, mapped: dict[str, str], sample: Sample) -> None:
    """Take the one column of times for that of the events, whatever it is called. Raises SettingsError for several: without the right one
    every event would have the moment of publishing."""
    if "event_ts_ms" in mapped:
        return
    found = []
    for name in sample.names:
        values = sample.values(name)
        if name not in mapped.values() and values and share(values, _is_time) >= LIKE:
            found.append(name)
    if len(found) > 1:
        several = ", ".join(found)
        raise SettingsError(f"FILE: several columns hold times, and none is called so: {several}: pass --map event_ts_ms={found[0]}")
    if found:
        mapped["event_ts_ms"] = found[0]
        made.notes.append(f"{found[0]} holds times: it is taken for the time of the events")


def _is_time(value: Any) -> bool:
    """Return whether a value looks like a time: a date of a calendar, or seconds, ms or µs since 1970 of the years 2008 to 2033."""
    if isinstance(value, dt.date):
        return True
    if isinstance(value, str) and read_time_text(value.strip()) is not None:
        return True
    text = str(value).strip()
    return re.fullmatch(r"\d{10}|\d{13}|\d{16}", text, re.ASCII) is not None and 1.2e9 <= int(text[:10]) <= 2.0e9


def _is_no_year(value: Any) -> bool:
    return re.fullmatch(r"\d{1,4}(\.0)?", str(value).strip(), re.ASCII) is None


def _is_flag(value: Any) -> bool:
    try:
        return isinstance(flag(value), bool)
    except BadRow:
        return False


def _is_object(value: Any) -> bool:
    try:
        return isinstance(nested(value), dict)
    except BadRow:
        return False


def _guess_separator(made: Guess, column: str, sample: Sample) -> None:
    """Find what separates several categories in a cell, where it is not a vertical bar."""
    cells = [row[column] for row in sample.rows if isinstance(row.get(column), str) and not row[column].lstrip().startswith("[")]
    if any(VALUE_SEPARATOR in cell for cell in cells) or "split" in made.options:
        return
    for sign in (";", ","):
        if cells and sum(sign in cell for cell in cells) * 5 > len(cells):
            made.options["split"] = [f"{column}={sign}"]
            made.notes.append(f"{column}: several values are separated by {sign}")
            return


def _examples(sample: Sample, name: str) -> tuple[str, ...]:
    distinct = {str(row[name])[:40]: None for row in sample.rows if not is_missing(row.get(name))}
    return tuple(list(distinct)[:EXAMPLES])
