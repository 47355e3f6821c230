"""Guess what a file holds: events, items or users, which column is which field, what its event types mean.

A guess becomes options, the same that the commands take by hand, so reading a guessed file is reading any file.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from schemas.events import EventType
from workers.errors import SettingsError
from workers.producer.bad_rows import options_of, returned_rows
from workers.producer.files import Part
from workers.producer.known_names import IN_FILE_NAMES, KINDS_OF_FILES, NAMES, RATINGS, TYPES, plain
from workers.producer.mapping import REQUIRED, Kind, is_field, pairs_of
from workers.producer.names import listed
from workers.producer.rows import BadRow, DamagedFile, Format
from workers.producer.sampling import Sample, look, sampled
from workers.producer.source import open_text
from workers.producer.time_text import read_time_text
from workers.producer.values import ENTRY_CONVERTERS, VALUE_SEPARATOR, flag, is_missing, nested, number

EXAMPLES = 3
LIKE = 0.9
"""Share of a column's values that must be of a field's kind."""
MAX_ATTRIBUTES = 16
"""Columns that become attributes; further ones are left out."""
MAX_LABEL_CHARS = 64
MAX_REPEATED = 0.2
"""Share of rows with the id of an earlier one, above which rows are no profiles unless the user says so."""
MAX_TYPES = 50
_URL = re.compile(r"https?://|www\.", re.I)
_DEFAULT_TYPE = EventType.VIEW.value


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
    mapped = _fields(kind, sample.names)
    for pair in _given_pairs(options):
        mapped = {name: column for name, column in mapped.items() if column != pair[1]} | {pair[0]: pair[1]}
    made = Guess(kind, sample.form, [], options)
    if sample.encoding is not None:
        options["encoding"] = sample.encoding
        made.notes.append(f"encoding: {sample.encoding}")
    if sample.delimiter is not None:
        options["delimiter"] = sample.delimiter
    if kind == "events":
        _find_times(made, mapped, sample)
        _guess_types(made, path, mapped, sample)
    _drop_unlike(mapped, sample, {column for _, column in _given_pairs(options)})
    lacking = [name for name in REQUIRED[kind] if name not in mapped and not (name == "type" and "event_type" in options)]
    if lacking:
        pairs = ",".join(f"{name}=COLUMN" for name in lacking)
        _refuse_nested(sample)
        raise SettingsError(
            f"FILE: no column looks like {', '.join(lacking)} of {kind}: pass --map {pairs}, or --as with another kind. "
            f"The columns are {listed(sample.names)}"
        )
    if kind == "users" and not is_given:
        _refuse_repeated(sample, mapped["user_id"])
    attributes = _attributes(kind, mapped, sample)
    if (column := mapped.get("categories")) is not None:
        _guess_separator(made, column, sample)
    every = mapped | attributes
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
    the delimiter that its header line shows, if it is not the usual one. Raises SettingsError for a file that cannot be read."""
    sample = look(path, {name: value for name, value in given.items() if value})
    if sample.exported:
        return [], None
    mapped = _fields("events", sample.names)
    found = [f'"{name}={mapped[name]}"' for name in ("user_id", "item_id", "event_ts_ms") if mapped.get(name, name) != name]
    return found, sample.delimiter


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
        values = [row[name] for row in sample.rows if not is_missing(row.get(name))]
        if values and re.fullmatch(r"\w+", name) and all(isinstance(each, list) and each and isinstance(each[0], dict) for each in values):
            raise SettingsError(
                f"FILE: {name} holds several records in each row: write one a line: "
                f"jq -c '. as $row | .{name}[] | . + ($row | del(.{name}))' FILE"
            )


def _refuse_repeated(sample: Sample, column: str) -> None:
    """Refuse rows that were taken for profiles and are rather events of users: their ids repeat. Raises SettingsError."""
    ids = [str(row[column]) for row in sample.rows if not is_missing(row.get(column))]
    n_again = len(ids) - len(set(ids))
    if n_again > MAX_REPEATED * len(ids):
        raise SettingsError(
            f"FILE: {n_again} of its first {len(ids)} rows have the {column} of an earlier row, and no column looks like item_id: pass "
            f"--map item_id=COLUMN if they are events, or --as users if they are profiles. The columns are {listed(sample.names)}"
        )


def _fields(kind: Kind, names: Sequence[str]) -> dict[str, str]:
    """Return field ▸ column. A column is taken once, by the field of that name or else by the first one that lists it."""
    by_plain: dict[str, str] = {}
    for name in names:
        by_plain.setdefault(plain(name), name)
    found = {name: name for name in names if is_field(kind, name)}
    taken = set(found)
    for name, known in NAMES[kind].items():
        if name in found:
            continue
        column = next((by_plain[each] for each in (plain(name), *known) if each in by_plain and by_plain[each] not in taken), None)
        if column is not None:
            found[name] = column
            taken.add(column)
    return found


def _drop_unlike(mapped: dict[str, str], sample: Sample, given: set[str]) -> None:
    """Leave out optional fields whose column has the right name and other values, such as a status in words."""
    tests: dict[str, Callable[[Any], bool]] = {"value": _is_number, "available": _is_flag, "position": _is_number}
    tests |= dict.fromkeys(ENTRY_CONVERTERS, _is_object)
    for name, test in tests.items():
        column = mapped.get(name)
        if column is None or column in given:
            continue
        values = [row[column] for row in sample.rows if not is_missing(row.get(column))]
        if values and _share(values, test) < LIKE:
            del mapped[name]


def _find_times(made: Guess, mapped: dict[str, str], sample: Sample) -> None:
    """Take the one column of times for that of the events, whatever it is called. Raises SettingsError for several: without the right one
    every event would have the moment of publishing."""
    if "event_ts_ms" in mapped:
        return
    found = []
    for name in sample.names:
        values = [row[name] for row in sample.rows if not is_missing(row.get(name))]
        if name not in mapped.values() and values and _share(values, _is_time) >= LIKE:
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


def _guess_types(made: Guess, path: str, mapped: dict[str, str], sample: Sample) -> None:
    """Say what the event types of the file mean, or which type rows without one have."""
    options = made.options
    if "type" in mapped and "event_type" not in options:
        seen = Counter(str(row[mapped["type"]]) for row in sample.rows if not is_missing(row.get(mapped["type"])))
        known = {event_type.value for event_type in EventType}
        given = {pair.split("=")[0].lower() for text in options.get("types") or [] for pair in text.split(",")}
        unlike = [name for name in list(seen)[:MAX_TYPES] if name not in known and name.lower() not in given]
        translated = {name: TYPES[plain(name)] for name in unlike if plain(name) in TYPES}
        unknown = [name for name in unlike if name not in translated]
        if len(unknown) == len(seen):  # a column that is called type and holds something else
            del mapped["type"]
        else:
            if translated:
                options["types"] = [*(options.get("types") or []), *(f"{name}={event_type}" for name, event_type in translated.items())]
                made.notes.append("event types: " + ", ".join(f"{name} is {event_type}" for name, event_type in translated.items()))
            if unknown:
                made.notes.append(f"unknown event types, whose rows will be bad (--types NAME=TYPE): {', '.join(unknown[:5])}")
            return
    if "event_type" not in options:
        options["event_type"] = _default_type(path, mapped)
        made.notes.append(f"no column says the type of an event: every row is taken for {options['event_type']} (--type for another one)")


def _default_type(path: str, mapped: Mapping[str, str]) -> str:
    if "value" in mapped and plain(mapped["value"]) in RATINGS:
        return EventType.RATING.value
    stem = plain(Path(path).name)
    return next((event_type for word, event_type in IN_FILE_NAMES.items() if word in stem), _DEFAULT_TYPE)


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


def _attributes(kind: Kind, mapped: Mapping[str, str], sample: Sample) -> dict[str, str]:
    """Return entries of objects ▸ columns, for numbers and for labels that repeat."""
    found: dict[str, str] = {}
    if kind == "events":
        return found
    taken = set(mapped.values())
    for name in sample.names:
        label = re.sub(r"\W+", "_", name.strip().lower()).strip("_")[:MAX_LABEL_CHARS]
        if name in taken or "." in name or not label or len(found) >= MAX_ATTRIBUTES or "email" in label or "phone" in label:
            continue
        values = [row[name] for row in sample.rows if not is_missing(row.get(name))]
        if not values:
            continue
        if _share(values, _is_number) > LIKE and not re.search(r"(^|_)id$", label):
            found[f"numeric_attributes.{label}"] = name
        elif _share(values, _is_label) > LIKE and len({str(value) for value in values}) <= max(2, len(values) // 2):
            found[f"categorical_attributes.{label}"] = name
    return found


def _share(values: Sequence[Any], test: Callable[[Any], bool]) -> float:
    return sum(map(test, values)) / len(values)


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool | list | dict) and isinstance(number(value), int | float)
    except BadRow:
        return False


def _is_label(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_LABEL_CHARS and _URL.search(value) is None


def _examples(sample: Sample, name: str) -> tuple[str, ...]:
    distinct = {str(row[name])[:40]: None for row in sample.rows if not is_missing(row.get(name))}
    return tuple(list(distinct)[:EXAMPLES])
