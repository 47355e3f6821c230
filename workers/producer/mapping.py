"""Map the columns of a file to the fields of a record, and check that a file has the columns that it needs."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from schemas import Event, Item, UserProfile, limits
from workers.errors import SettingsError
from workers.producer.names import listed, nearest
from workers.producer.notes import Notes
from workers.producer.rows import BadRow, Unreadable
from workers.producer.time_columns import TimeColumns
from workers.producer.times import TIME_FIELDS, TimeOptions
from workers.producer.values import (
    EDGES,
    ENTRY_CONVERTERS,
    EXPONENT_ID,
    IDS,
    LISTS,
    NULL_NAMES,
    CellRules,
    Several,
    converted,
    decoded,
    exactly,
    is_missing,
)

Kind = Literal["events", "items", "users"]
MODELS: dict[str, type[Event] | type[Item] | type[UserProfile]] = {"events": Event, "items": Item, "users": UserProfile}
FIELDS: dict[str, frozenset[str]] = {kind: frozenset(model.model_fields) for kind, model in MODELS.items()}
REQUIRED: dict[str, tuple[str, ...]] = {"events": ("user_id", "item_id", "type"), "items": ("item_id",), "users": ("user_id",)}
KEYS: dict[str, tuple[str, ...]] = {"events": ("user_id", "item_id"), "items": ("item_id",), "users": ("user_id",)}
"""Ids that every row must have."""
PLAIN_FIELDS = frozenset({*IDS, "type"})
_PLAIN = re.compile(r"[0-9]+|[A-Za-z_][!-~]*")
"""Text that is read as it is: ASCII without spaces that is no number but a whole one."""
MAX_SHAPES = 1_000
MAX_LEFT_OUT = 100
"""Columns that are no field and are named at the end, about."""
NULL_MEANS_NOTHING = frozenset({"event_id", "list_id", "session", "type", "value", "position", "context", "schema_version", "available",
                                *TIME_FIELDS, "numeric_attributes", "categorical_attributes", "embeddings"})  # fmt: skip
"""Fields in which the text NULL, NaN or None of a table is a missing value. In user and item ids it is kept and warned of."""
Columns = Mapping[str, tuple[str, ...]]
"""Field ▸ its columns; a field is a name or, of an object, `object.entry`. Only fields of `LISTS` may have several columns."""


def is_field(kind: str, name: str) -> bool:
    """Return whether a name is a field of this kind of record, or an entry of one of its objects."""
    parent, dot, entry = name.partition(".")
    if not dot:
        return name in FIELDS[kind]
    return parent in ENTRY_CONVERTERS and parent in FIELDS[kind] and 0 < len(entry) <= limits.NAME_MAX_CHARS and entry.isprintable()


def pairs_of(option: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of `a=b,c=d` in their order; a pair in double quotes may hold commas. Raises SettingsError for a torn one."""
    found = []
    for given in texts:
        try:
            pairs = next(csv.reader([given], skipinitialspace=True), [])
        except csv.Error:
            raise SettingsError(f"{option}: a line end within a pair") from None
        for pair in pairs:
            name, separator, value = (part.strip() for part in pair.partition("="))
            if pair.strip() and not (separator and name and value):
                raise SettingsError(
                    f"{option}: each pair is NAME=VALUE, pairs are separated by commas; one with a comma stands in quotes"
                )
            if pair.strip():
                found.append((name, value))
    return found


def parse_mapping(texts: Sequence[str], kind: Kind) -> dict[str, tuple[str, ...]]:
    """Return `user_id=userId,item_id=movieId` as field ▸ columns. Raises SettingsError for an unknown field or a torn pair."""
    mapping: dict[str, tuple[str, ...]] = {}
    for name, column in pairs_of("--map", texts):
        if not is_field(kind, name):
            objects = sorted(FIELDS[kind] & ENTRY_CONVERTERS.keys())
            names = f"the fields are {', '.join(sorted(FIELDS[kind]))}, and entries such as {objects[-1]}.NAME"
            raise SettingsError(f"--map: {name} is no field{nearest(name, FIELDS[kind])}; {names}")
        if name in mapping and name not in LISTS:
            raise SettingsError(f"--map: {name} is given twice")
        mapping[name] = (*mapping.get(name, ()), column)
    return mapping


@dataclass
class RowMapping:
    """Turn rows into fields of records.

    `columns`: for fields whose column has another name. `lenient`: columns that are no field are left out (tables) instead of refused (JSON
    lines, where they may be a misspelt field), and so are those of `leave_out`, whatever their name. `types`: event type of the file ▸
    ours. `exact`: the file is an export of this project, whose values are taken as they are. `needs_time`: a row without an event time is
    refused instead of happening now; `check_columns` sets it from the file. `missing`: words, in lower case, that stand for no value.
    """

    kind: Kind
    columns: Columns
    lenient: bool
    times: TimeColumns = field(default_factory=lambda: TimeColumns(TimeOptions()))
    defaults: Mapping[str, Any] = field(default_factory=dict)
    rules: CellRules = field(default_factory=CellRules)
    types: Mapping[str, str] = field(default_factory=dict)
    leave_out: frozenset[str] = frozenset()
    exact: bool = False
    needs_time: bool = False
    missing: frozenset[str] = frozenset()
    notes: Notes = field(default_factory=Notes)
    left_out: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.fields = FIELDS[self.kind]
        self.needs_time = self.needs_time or "event_ts_ms" in self.columns
        self._taken = frozenset(column for columns in self.columns.values() for column in columns)
        self._unseen = set(self._taken)
        self._pairs: dict[tuple[str, ...], list[tuple[str, str]]] = {}

    def column_of(self, name: str) -> str:
        """Return the column that holds a field, the first one of several."""
        return self.columns.get(name, (name,))[0]

    def uses(self, column: str) -> bool:
        """Return whether a column is read."""
        return column in self._taken or (is_field(self.kind, column) and column not in self.columns and column not in self.leave_out)

    def time_columns(self) -> dict[str, str]:
        """Return field ▸ column of the times of this kind of record."""
        return {name: self.column_of(name) for name in TIME_FIELDS if name in self.fields}

    def record(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of one row. Raises BadRow naming the field that cannot be converted."""
        if self.exact:
            return self._exact_record(row)
        if self._unseen:
            self._unseen -= row.keys()
        found: dict[str, Any] = {}
        entries: dict[str, Any] = {}
        for name, column in self._pairs_of(row):
            value = row[column]
            if self.missing and isinstance(value, str | int | float) and str(value).strip(EDGES).lower() in self.missing:
                continue
            if type(value) is str and name in PLAIN_FIELDS and _PLAIN.fullmatch(value) and value.lower() not in NULL_NAMES:
                found[name] = value  # the usual id needs no other look
            elif "." in name:
                self._add_entry(entries, name, column, value)
            elif not self._says_nothing(name, value):
                try:
                    read = self._converted(name, column, value)
                except BadRow as error:
                    raise BadRow(f"{name}: {error}") from None
                found[name] = _joined(found[name], read) if name in found else read
        for parent, entry in entries.items():
            found[parent] = {**found[parent], **entry} if isinstance(found.get(parent), dict) else entry
        self._check_present(row, found)
        if self.types and "type" in found:
            found["type"] = self.types.get(str(found["type"]).lower(), found["type"])
        return {**self.defaults, **found}

    def _exact_record(self, row: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in row.items():
            if name not in self.fields or value is None:
                continue
            try:
                if isinstance(value, Unreadable):
                    raise BadRow(value.reason)
                found[name] = self.times.clocks[name].to_ms(value) if name in TIME_FIELDS else exactly(name, value)
            except BadRow as error:
                raise BadRow(f"{name}: {error}") from None
        self._check_present(row, found)
        return found

    def _pairs_of(self, row: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return (field, column) of what a row holds; the same for every row of the same columns."""
        columns = tuple(row)
        pairs = self._pairs.get(columns)
        if pairs is None:
            free = [name for name in columns if name not in self._taken and name not in self.columns and name not in self.leave_out]
            pairs = [(name, name) for name in free if not self.lenient or is_field(self.kind, name)]
            pairs += [(name, column) for name, given in self.columns.items() for column in given if column in row]
            if self.lenient and len(self.left_out) < MAX_LEFT_OUT:
                self.left_out |= {name for name in columns if not self.uses(name)}
            if len(self._pairs) < MAX_SHAPES:
                self._pairs[columns] = pairs
        return pairs

    def _add_entry(self, entries: dict[str, Any], name: str, column: str, value: Any) -> None:
        """Read an entry of an object. A fault costs the entry and is counted, as on the topic. An unknown name is left to the schema."""
        parent, _, entry = name.partition(".")
        if not is_field(self.kind, name):
            entries[name] = value
        elif not self._says_nothing(parent, value):
            try:
                if isinstance(value, Unreadable):
                    raise BadRow(value.reason)
                entries.setdefault(parent, {})[entry] = converted(name, column, value, self.rules)
            except BadRow as error:
                self.notes.count(f"{name} was {error}; the row was published without it")

    def means_something(self, value: Any) -> bool:
        """Return whether a cell of an entry holds more than a word for a missing value."""
        return not (isinstance(value, str) and value.strip(EDGES).lower() in NULL_NAMES)

    def _says_nothing(self, name: str, value: Any) -> bool:
        if is_missing(value):
            return True
        if not isinstance(value, str) or name not in NULL_MEANS_NOTHING or value.strip(EDGES).lower() not in NULL_NAMES:
            return False
        if name in IDS:
            self.notes.count(f"{name} {value.strip(EDGES)} was read as no value")
        return True

    def _check_present(self, row: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        for name in KEYS[self.kind]:
            if name not in found:
                raise BadRow(f"{name}: missing or blank")
        if self.kind == "events" and "event_ts_ms" not in found and (self.needs_time or self.column_of("event_ts_ms") in row):
            raise BadRow("event_ts_ms: missing or blank; a row of a file with times needs one")

    def _converted(self, name: str, column: str, value: Any) -> Any:
        if isinstance(value, Unreadable):
            raise BadRow(value.reason)
        if name in TIME_FIELDS:
            return self.times.clocks[name].to_ms(decoded(value) if isinstance(value, bytes) else value)
        read = converted(name, column, value, self.rules)
        if name in IDS and isinstance(value, str):
            self._note_id(name, value, read)
        return read

    def _note_id(self, name: str, given: str, read: str) -> None:
        """Count ids that look like a mistake of the program that wrote the file."""
        stripped = given.strip(EDGES)
        if stripped != given:
            self.notes.count(f"{name} had spaces around it, which were cut off")
        if stripped != read:
            self.notes.count(f"{name} was a whole number with .0, read without it (123.0 as 123)")
        elif read.lower() in NULL_NAMES:
            self.notes.count(f"{name} is {read}: if that means no value, pass --missing {read}")
        elif EXPONENT_ID.fullmatch(read):
            self.notes.count(f"{name} is a number in exponent notation: a program may have cut its digits")

    def unseen(self) -> list[str]:
        """Return a line for each column of `--map` that no row had."""
        missing = [(name, column) for name, columns in self.columns.items() for column in columns if column in self._unseen]
        return [f"no row has a value in the column {column}, which --map names for {name}" for name, column in missing]


def _joined(first: Any, second: Any) -> Any:
    """Return the values of two columns of one field."""
    if isinstance(first, list) and isinstance(second, list):
        return list(dict.fromkeys([*first, *second]))
    raise BadRow("a value that is neither text nor a list")


def merged(mapping: RowMapping, first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of two rows of one record: the first value of each column, and all values of lists."""
    result = {**second, **first}
    for name in LISTS:
        for column in mapping.columns.get(name, (name,)) if name in mapping.fields else ():
            cells = [row[column] for row in (first, second) if column in row]
            if len(cells) > 1:
                known = cells[0] if isinstance(cells[0], Several) else [cells[0]]
                result[column] = Several([*known, *([] if cells[1] in known else [cells[1]])])
    return result


def check_columns(mapping: RowMapping, names: Collection[str]) -> None:
    """Check the columns of a file before anything is sent. Raises SettingsError that names every missing one once, and those there are."""
    absent = [(name, column) for name, columns in mapping.columns.items() for column in columns if column not in names]
    if absent:
        missing = ", ".join(f"{column} for {name}{nearest(column, names)}" for name, column in absent)
        raise SettingsError(f"--map: the file has no column {missing}; it has {listed(names)}")
    lacking = [name for name in REQUIRED[mapping.kind] if name not in mapping.defaults and mapping.column_of(name) not in names]
    if lacking:
        missing = ", ".join(f"{name}{nearest(name, names)}" for name in lacking)
        pairs = ",".join(f"{name}=COLUMN" for name in lacking)
        other = " (or --type play)" if "type" in lacking else ""
        raise SettingsError(
            f"FILE: no column is named {missing}: pass --map {pairs}{other}, or --header NAMES if the file has no header line. "
            f"The columns are {listed(names)}"
        )
    if mapping.kind == "events":
        mapping.needs_time = mapping.column_of("event_ts_ms") in names
