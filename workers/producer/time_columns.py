"""Detect how the times of a file are written, before anything is sent, and say it.

The start of the file decides, and of dates that may be day first or month first the whole column, where the file can be read twice.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from schemas import limits
from workers.errors import SettingsError
from workers.producer.rows import BadRow, Unreadable
from workers.producer.time_text import DATE_ORDERS, ISO_DATE, DateOrder, TimeText, read_time_text
from workers.producer.times import NUMBER, TIME_FIELDS, UNITS_PER_S, Clock, TimeOptions, TimeUnit
from workers.producer.values import EDGES, NULL_NAMES, decoded, is_missing

EXCEL_DAYS = (20_000, 80_000)
"""Day numbers of a spreadsheet, from 1954 to 2119. As Unix times they would be of 1970 in any unit."""
_UNITS: tuple[TimeUnit, ...] = ("ms", "s", "us", "ns")
_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds", "yyyymmdd": "digits of dates"}


class TimeColumn:
    """Collects what the values of one time field look like, and the first line that has each finding."""

    def __init__(self, field: str, column: str, options: TimeOptions) -> None:
        self.field = field
        self.column = column
        self.format = ""
        self._options = options
        self._units: Counter[str] = Counter()
        self._texts: Counter[str] = Counter()
        self._lines: dict[str, int] = {}

    def add(self, value: Any, line: int) -> None:
        """Note one value. What is no time at all is left to the reading of its row."""
        if isinstance(value, bytes):
            try:
                value = decoded(value)
            except BadRow:
                return
        if isinstance(value, dt.datetime):
            self._note("iso" if value.tzinfo else "typed", line)
        elif isinstance(value, dt.date):
            self._note("date", line)
        elif isinstance(value, str):
            self._add_text(value.strip(EDGES), line)
        elif not isinstance(value, bool) and isinstance(value, int | float | Decimal):
            self._add_number(value)

    def add_order(self, value: Any, line: int) -> None:
        """Note only whether a value is a date with the day or with the month first."""
        if isinstance(value, bytes | str):
            try:
                found = read_time_text((decoded(value) if isinstance(value, bytes) else value).strip(EDGES))
            except BadRow:
                return
            if found is not None and not found.is_ordered:
                self._note_order(found, line)

    def needs_whole_column(self) -> bool:
        """Return whether day and month cannot be told apart by the start of the file alone."""
        return not (self._options.order or self._options.pattern) and any(self._texts[order] for order in (*DATE_ORDERS, "either", "same"))

    @property
    def has_numbers(self) -> bool:
        """Return whether the start of the file has numbers in this column."""
        return bool(self._units)

    def clock(self) -> Clock:
        """Return the clock for this field, and set `format`. Raises SettingsError, naming the option that says what the file does not."""
        options = self._options
        unit = self._unit()
        if options.pattern:
            self.format = f"in the format {options.pattern}" + (f", in {options.zone}" if options.zone else "")
            return Clock(unit, options.zone, pattern=options.pattern, repeated_hour=options.repeated_hour)
        if self._texts["local"] and options.zone is None:
            raise self._error("the times name no time zone", "--time-zone with theirs, such as Europe/Berlin, +01:00 or UTC", "local")
        if self._texts["unknown"] and not self._units and sum(self._texts.values()) == self._texts["unknown"]:
            raise self._error("the values are in no format of times that is known", "--time-format, such as '%d.%m.%y %H:%M'", "unknown")
        order = options.order or self._order()
        self.format = self._described(unit, order)
        return Clock(unit, options.zone, order=order, repeated_hour=options.repeated_hour)

    def _error(self, problem: str, remedy: str, *findings: str) -> SettingsError:
        lines = [f"line {self._lines[finding]}" for finding in findings if finding in self._lines]
        where = f" ({' and '.join(lines)})" if lines else ""
        column = f" (column {self.column})" if self.column != self.field else ""
        return SettingsError(f"{self.field}{column}: {problem}{where}: pass {remedy}")

    def _note(self, finding: str, line: int) -> None:
        self._texts[finding] += 1
        self._lines.setdefault(finding, line)

    def _add_number(self, value: float | Decimal | str) -> None:
        # the schema refuses an expiry before 1978: what would be microseconds of then are milliseconds of the far future
        most = {"ms": limits.CALENDAR_MAX_MS} if self.field == "expires_ts_ms" else {}
        found: str | None = next((unit for unit in _UNITS if _is_time(value, unit, most.get(unit, limits.TIMESTAMP_MAX_MS))), None)
        if found is None:
            found = "yyyymmdd" if _is_calendar(value) else "excel" if EXCEL_DAYS[0] <= float(value) <= EXCEL_DAYS[1] else "none"
        self._units[found] += 1

    def _add_text(self, text: str, line: int) -> None:
        if text.lower() in NULL_NAMES or not text:
            return
        if self._options.pattern:
            return
        if NUMBER.fullmatch(text):
            self._add_number(text)
            return
        try:
            moment = dt.datetime.fromisoformat(text)
        except ValueError:
            self._add_other(text, line)
            return
        self._note("date" if ISO_DATE.fullmatch(text) else "iso" if moment.tzinfo else "local", line)

    def _add_other(self, text: str, line: int) -> None:
        found = read_time_text(text)
        if found is None:
            self._note("unknown", line)
            return
        if found.time_of_day is not None and found.zone is None:
            self._note("local", line)
        if not found.is_ordered:
            self._note_order(found, line)
        else:
            self._note("words", line)

    def _note_order(self, found: TimeText, line: int) -> None:
        orders = found.orders()
        if orders and found.first != found.second:
            self._note(orders[0] if len(orders) == 1 else "either", line)
        elif orders:
            self._note("same", line)  # 05/05: both readings are one day

    def _unit(self) -> TimeUnit:
        """Return the unit of numbers, the most common one. Raises SettingsError when all are in another unit than the one given."""
        given, found = self._options.unit, self._units
        likely = next((unit for unit, _ in found.most_common() if unit in _NAMES), None)
        if found["excel"] and found["excel"] == sum(found.values()) and given is None:
            raise self._error("the numbers look like days of a spreadsheet", "a file whose column is formatted as yyyy-mm-dd hh:mm:ss")
        if given is None:
            return likely or "ms"  # type: ignore[return-value]
        if given != "iso" and likely and not found[given] and found[likely] == sum(found.values()):
            raise self._error(f"the numbers look like {_NAMES[likely]}, not {_NAMES[given]}", f"--time-unit {likely}")
        return given

    def _order(self) -> DateOrder | None:
        """Return the order of day and month that all dates have. Raises SettingsError when they contradict each other or fit both."""
        found = [order for order in DATE_ORDERS if self._texts[order]]
        if len(found) > 1:
            raise self._error("some dates are day first and some month first", "--time-format with the one that is right", *DATE_ORDERS)
        if not found and self._texts["either"]:
            raise self._error("the dates may be day first or month first", "--time-format day-first or --time-format month-first", "either")
        return found[0] if found else "day-first" if self._texts["same"] else None

    def _described(self, unit: TimeUnit, order: DateOrder | None) -> str:
        texts, zone = self._texts, self._options.zone
        kinds = [f"{_NAMES[unit]} since 1970" if unit in UNITS_PER_S else "dates as digits"] if self._units else []
        if texts["iso"] or (texts["local"] and not (texts["words"] or order)):
            with_zone = "with and without" if texts["iso"] and texts["local"] else "with" if texts["iso"] else "without"
            kinds.append(f"ISO 8601 {with_zone} a time zone")
        if texts["typed"]:
            kinds.append("values without a time zone" if zone is not None else "values without a time zone, taken for UTC")
        if texts["date"]:
            kinds.append("ISO 8601 dates")
        if order:
            kinds.append(f"dates, {order.replace('-', ' ')}")
        if texts["words"]:
            kinds.append("dates with names of months, or year first")
        if not kinds:
            return ""
        dates_only = not texts["local"] and (texts["date"] or order or texts["words"] or unit == "yyyymmdd")
        return " and ".join(kinds) + (f", in {zone}" if zone is not None else ", midnight UTC" if dates_only else "")


class TimeColumns:
    """The time columns of one file or folder."""

    def __init__(self, options: TimeOptions) -> None:
        self.options = options
        self._columns: dict[str, TimeColumn] = {}
        self.clocks = {name: _given(options) for name in TIME_FIELDS}

    def add(self, fields: Mapping[str, str], rows: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
        """Note the times of rows, each with its line; `fields` is field ▸ column."""
        for name, column in fields.items():
            noted = self._columns.setdefault(name, TimeColumn(name, column, self.options))
            for line, row in rows:
                if not is_missing(row.get(column)) and not isinstance(row[column], Unreadable):
                    noted.add(row[column], line)

    def needs_whole_column(self) -> bool:
        """Return whether the rest of the file decides which of day and month is first."""
        return any(column.needs_whole_column() for column in self._columns.values())

    def add_orders(self, row: Mapping[str, Any], line: int) -> None:
        """Note of a row only what says which of day and month is first."""
        for column in self._columns.values():
            column.add_order(row.get(column.column), line)

    def decide(self) -> None:
        """Set `clocks`. Raises SettingsError for a column that the options do not explain."""
        for name, column in self._columns.items():
            self.clocks[name] = column.clock()

    def formats(self) -> dict[str, str]:
        """Return the field ▸ how its times are read, of those that the start of the file has."""
        return {name: column.format for name, column in self._columns.items() if column.format}

    def found(self) -> dict[str, str]:
        """Return the options `time_unit` and `time_format` that say what was detected, where all columns are alike."""
        units = {self.clocks[name].unit for name, column in self._columns.items() if column.has_numbers}
        orders = {order for name in self._columns if (order := self.clocks[name].order) is not None}
        return ({"time_unit": units.pop()} if len(units) == 1 else {}) | ({"time_format": orders.pop()} if len(orders) == 1 else {})

    def n_as_utc(self) -> int:
        """Return how many times and dates without a zone were read as UTC so far."""
        return sum(clock.n_as_utc for clock in self.clocks.values())


def _given(options: TimeOptions) -> Clock:
    """Return the clock of a column of which nothing is known."""
    return Clock(options.unit or "ms", options.zone, order=options.order, pattern=options.pattern, repeated_hour=options.repeated_hour)


def _is_time(value: Any, unit: TimeUnit, most: int) -> bool:
    try:
        return limits.TIMESTAMP_MIN_MS <= Clock(unit).to_ms(value) <= most
    except BadRow:
        return False


def _is_calendar(value: Any) -> bool:
    try:
        return (
            len(str(value).removesuffix(".0")) in (8, 14)
            and int(str(value)[:4]) >= 1_800
            and Clock("yyyymmdd", dt.UTC).to_ms(value) > -(10**15)
        )
    except (BadRow, ValueError):
        return False
