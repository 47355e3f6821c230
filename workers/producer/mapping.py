"""Map the columns of a file to the fields of a record, and check that a file has the columns that it needs."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from schemas import Event, Item
from workers.errors import SettingsError
from workers.producer.notes import Notes
from workers.producer.rows import BadRow, Format, Unreadable
from workers.producer.times import TIME_FIELDS, Clock
from workers.producer.values import CONVERTERS, EDGES, EXPONENT_ID, IDS, NULL_NAMES, decoded, is_missing

Kind = Literal["events", "items"]
EVENT_FIELDS = frozenset(Event.model_fields)
ITEM_FIELDS = frozenset(Item.model_fields)
REQUIRED: dict[str, tuple[str, ...]] = {"events": ("user_id", "item_id", "type"), "items": ("item_id",)}
PLAIN_FIELDS = frozenset({*IDS, "type"})
_PLAIN = re.compile(r"[0-9]+|[A-Za-z_][!-~]*")
"""Text that is read as it is: ASCII without spaces that is no number but a whole one."""
MAX_SHAPES = 1_000
NULL_MEANS_NOTHING = frozenset({"event_id", "list_id", "session", "type", "value", "position", "context", "schema_version", "available",
                                *TIME_FIELDS, "numeric_attributes", "categorical_attributes", "embeddings"})  # fmt: skip
"""Fields in which the text NULL, NaN or None of a table is a missing value. In user and item ids it is kept and warned of."""


def parse_mapping(text: str | None, fields: frozenset[str]) -> dict[str, str]:
    """Return `user_id=userId,item_id=movieId` as {field: column}. Raises SettingsError for an unknown field or a torn pair."""
    mapping: dict[str, str] = {}
    for pair in (text or "").split(","):
        if not pair.strip():
            continue
        name, separator, column = (part.strip() for part in pair.partition("="))
        if not (separator and name and column):
            raise SettingsError("--map: each pair is FIELD=COLUMN, pairs are separated by commas")
        if name not in fields:
            raise SettingsError(f"--map: {name} is no field{nearest(name, fields)}; the fields are {', '.join(sorted(fields))}")
        if name in mapping:
            raise SettingsError(f"--map: {name} is given twice")
        mapping[name] = column
    return mapping


def nearest(name: str, names: Collection[str]) -> str:
    """Return ` (did you mean …?)` with the most similar name, or nothing."""
    lowered = {known.lower(): known for known in names}
    found = difflib.get_close_matches(name.lower(), lowered, 1, 0.6)
    return f" (did you mean {lowered[found[0]]}?)" if found else ""


@dataclass
class RowMapping:
    """Turn rows into fields of records.

    `columns`: field ▸ column, for fields whose column has another name. `lenient`: columns that are no field are left out (tables) instead
    of refused (JSON lines, where they may be a misspelt field). `needs_time`: a row without an event time is refused instead of
    happening now; `check_columns` sets it from the file.
    """

    kind: Kind
    columns: Mapping[str, str]
    lenient: bool
    clock: Clock = field(default_factory=Clock)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    needs_time: bool = False
    notes: Notes = field(default_factory=Notes)
    left_out: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.fields = ITEM_FIELDS if self.kind == "items" else EVENT_FIELDS
        self.needs_time = self.needs_time or "event_ts_ms" in self.columns
        self._taken = frozenset(self.columns.values())
        self._unseen = set(self.columns.values())
        self._pairs: dict[tuple[str, ...], list[tuple[str, str]]] = {}

    def column_of(self, name: str) -> str:
        """Return the column that holds a field."""
        return self.columns.get(name, name)

    def record(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of one row. Raises BadRow naming the field that cannot be converted."""
        if self._unseen:
            self._unseen -= row.keys()
        found: dict[str, Any] = {}
        for name, column in self._pairs_of(row):
            value = row[column]
            if type(value) is str and name in PLAIN_FIELDS and _PLAIN.fullmatch(value) and value.lower() not in NULL_NAMES:
                found[name] = value  # the usual id needs no other look
            elif not self._says_nothing(name, value):
                try:
                    found[name] = self._converted(name, value)
                except BadRow as error:
                    raise BadRow(f"{name}: {error}") from None
        self._check_present(row, found)
        return {**self.defaults, **found}

    def _pairs_of(self, row: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return (field, column) of what a row holds; the same for every row of the same columns."""
        columns = tuple(row)
        pairs = self._pairs.get(columns)
        if pairs is None:
            pairs = [
                (name, name)
                for name in columns
                if name not in self._taken and name not in self.columns and (name in self.fields or not self.lenient)
            ]
            pairs += [(name, column) for name, column in self.columns.items() if column in row]
            if len(self._pairs) < MAX_SHAPES:
                self._pairs[columns] = pairs
        return pairs

    def _says_nothing(self, name: str, value: Any) -> bool:
        if is_missing(value):
            return True
        if not isinstance(value, str) or name not in NULL_MEANS_NOTHING or value.strip(EDGES).lower() not in NULL_NAMES:
            return False
        if name in IDS:
            self.notes.count(f"{name} {value.strip(EDGES)} was read as no value")
        return True

    def _check_present(self, row: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        for name in ("user_id", "item_id") if self.kind == "events" else ("item_id",):
            if name not in found:
                raise BadRow(f"{name}: missing or blank")
        if self.kind == "events" and "event_ts_ms" not in found and (self.needs_time or self.column_of("event_ts_ms") in row):
            raise BadRow("event_ts_ms: missing or blank; a row of a file with times needs one")

    def _converted(self, name: str, value: Any) -> Any:
        if isinstance(value, Unreadable):
            raise BadRow(value.reason)
        if name in TIME_FIELDS:
            return self.clock.to_ms(decoded(value) if isinstance(value, bytes) else value)
        converter = CONVERTERS.get(name)
        if converter is None:
            return value
        if isinstance(value, bytes):
            value = decoded(value)
        converted = converter(value)
        if name in IDS and isinstance(value, str):
            self._note_id(name, value, converted)
        return converted

    def _note_id(self, name: str, given: str, read: str) -> None:
        """Count ids that look like a mistake of the program that wrote the file."""
        stripped = given.strip(EDGES)
        if stripped != given:
            self.notes.count(f"{name} had spaces around it, which were cut off")
        if stripped != read:
            self.notes.count(f"{name} was a whole number with .0, read without it (123.0 as 123)")
        elif read.lower() in NULL_NAMES:
            self.notes.count(f"{name} is {read}: if that means no value, remove these rows")
        elif EXPONENT_ID.fullmatch(read):
            self.notes.count(f"{name} is a number in exponent notation: a program may have cut its digits")

    def unseen(self) -> list[str]:
        """Return a line for each column of `--map` that no row had."""
        missing = [(name, column) for name, column in self.columns.items() if column in self._unseen]
        return [f"no row has a value in the column {column}, which --map names for {name}" for name, column in missing]

    def wanted(self) -> frozenset[str]:
        """Return the columns that are fields."""
        return frozenset(self.column_of(name) for name in self.fields)

    def note_left_out(self, row: Mapping[str, Any]) -> None:
        """Remember the columns of a row that are no field, a hundred at most."""
        if self.lenient and len(self.left_out) < 100:
            self.left_out |= set(row) - self.fields - self._taken


def event_mapping(
    form: Format,
    columns: Mapping[str, str],
    *,
    event_type: str | None = None,
    clock: Clock | None = None,
    ignore_unknown: bool = False,
) -> RowMapping:
    """Return the mapping of an events file; `event_type` is the type of rows that name none."""
    defaults = {} if event_type is None else {"type": event_type}
    return RowMapping("events", columns, form != "jsonl" or ignore_unknown, clock or Clock(), defaults)


def item_mapping(form: Format, columns: Mapping[str, str], *, clock: Clock | None = None, ignore_unknown: bool = False) -> RowMapping:
    """Return the mapping of a catalogue file. In tables `categories` are separated by `|`, attributes and embeddings are JSON."""
    return RowMapping("items", columns, form != "jsonl" or ignore_unknown, clock or Clock())


def check_columns(mapping: RowMapping, names: Collection[str]) -> None:
    """Check the header of a table before anything is sent. Raises SettingsError for a column that is missing, and names the nearest."""
    for name, column in mapping.columns.items():
        if column not in names:
            raise SettingsError(f"--map: the file has no column {column} for {name}{nearest(column, names)}; it has {listed(names)}")
    for name in REQUIRED[mapping.kind]:
        if mapping.column_of(name) not in names and name not in mapping.defaults:
            other = " or --type play" if name == "type" else ""
            raise SettingsError(
                f"FILE: no column is named {name}{nearest(name, names)}: pass --map {name}=COLUMN{other}, or --header NAMES if the file "
                f"has no header line. The columns are {listed(names)}"
            )
    if mapping.kind == "events":
        mapping.needs_time = mapping.column_of("event_ts_ms") in names


def listed(names: Collection[str]) -> str:
    """Return names for a message, at most twenty."""
    shown = [name or "(blank)" for name in names][:20]
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(shown) + more
