"""Times of rows as whole Unix milliseconds; sub-milliseconds are cut off."""

from __future__ import annotations

import datetime as dt
import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo, available_timezones

from workers.errors import SettingsError
from workers.producer.names import nearest
from workers.producer.rows import BadRow
from workers.producer.time_text import DATE_ORDERS, ISO_DATE, DateOrder, read_time_text

TimeUnit = Literal["ms", "s", "us", "ns", "yyyymmdd", "iso"]
TIME_UNITS: tuple[str, ...] = get_args(TimeUnit)
TIME_FIELDS = ("event_ts_ms", "published_ts_ms", "expires_ts_ms", "updated_ts_ms")
UNITS_PER_S: dict[str, int] = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
RepeatedHour = Literal["first", "second"]
REPEATED_HOURS: tuple[str, ...] = get_args(RepeatedHour)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_OFFSET = re.compile(r"(?:UTC)?([+-])(\d{1,2})(?::?(\d{2}))?", re.ASCII)
_ZONE_ABBREVIATION = re.compile(r".*\d\s*[A-Z]{2,5}", re.ASCII)
_TIME_DIRECTIVES = re.compile(r"%[-_#]?[HIMSfcXp]")
MAX_EXPONENT = 30
NO_ZONE = "a time that names no time zone; pass --time-zone, such as Europe/Berlin, +01:00 or UTC"


@dataclass(frozen=True)
class TimeOptions:
    """Options for the times of a file. None or "": it is detected (`unit`, `order`, `pattern`) or refused (`zone`, `repeated_hour`)."""

    unit: TimeUnit | None = None
    zone: dt.tzinfo | None = None
    order: DateOrder | None = None
    pattern: str = ""
    repeated_hour: RepeatedHour | None = None


def zone_of(name: str | None) -> dt.tzinfo | None:
    """Return the zone of a name (`Asia/Shanghai`) or an offset (`+08:00`). Raises SettingsError for an unknown one."""
    if name is None:
        return None
    offset = _OFFSET.fullmatch(name.strip())
    if offset is not None and int(offset[2]) <= 14 and int(offset[3] or 0) < 60:
        minutes = int(offset[2]) * 60 + int(offset[3] or 0)
        return dt.timezone(dt.timedelta(minutes=-minutes if offset[1] == "-" else minutes))
    try:
        return ZoneInfo(name.strip())
    except (OSError, ValueError, KeyError):  # also a folder of the database, a name with odd characters, an unknown zone
        likely = nearest(name.strip(), available_timezones())
        remedy = "give a name such as Europe/Berlin, an offset such as +08:00, or UTC"
        raise SettingsError(f"--time-zone: no such zone{likely}; {remedy}") from None


def time_format_of(text: str | None) -> tuple[DateOrder | None, str]:
    """Return order and pattern of `--time-format`: day-first, month-first, or a pattern of strptime. Raises SettingsError."""
    if text is None:
        return None, ""
    for order in DATE_ORDERS:
        if text == order:
            return order, ""
    moment = dt.datetime(2001, 12, 25, 15, 30, 45, tzinfo=dt.UTC)
    try:
        parsed = dt.datetime.strptime(moment.strftime(text), text)
    except (ValueError, re.error):
        parsed = None
    if parsed is None or "%" not in text or (parsed.year, parsed.month, parsed.day) != (2001, 12, 25):
        raise SettingsError("--time-format: day-first, month-first, or a pattern with year, month and day, such as '%d.%m.%Y %H:%M'")
    return None, text


class Clock:
    """Turn the times of one field into milliseconds.

    `n_as_utc` counts what names no zone and was read as UTC, as none is given: dates (midnight), and values of a type for times (Parquet),
    which programs write so. Text with a time of day and no zone is refused.
    """

    def __init__(
        self,
        unit: TimeUnit = "ms",
        zone: dt.tzinfo | None = None,
        *,
        order: DateOrder | None = None,
        pattern: str = "",
        repeated_hour: RepeatedHour | None = None,
    ) -> None:
        self.unit = unit
        self.zone = zone
        self.n_as_utc = 0
        self.order = order
        self._pattern = pattern
        self._repeated_hour = repeated_hour

    def to_ms(self, value: Any) -> int:
        """Return a time as whole milliseconds, from a number in the unit, text, a date (midnight) or a datetime. Raises BadRow."""
        if isinstance(value, dt.datetime):
            return self._moment_ms(value, is_typed=True)
        if isinstance(value, dt.date):
            return self._moment_ms(dt.datetime(value.year, value.month, value.day), is_date=True)
        if isinstance(value, str):
            return self._text_ms(value.strip())
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise BadRow(f"a {'time of day' if isinstance(value, dt.time) else type(value).__name__}, not a time of an event")
        if self.unit == "iso":
            raise BadRow("a number, not an ISO 8601 time; pass --time-unit ms, s, us or ns")
        if self.unit == "yyyymmdd":
            return self._read(str(value).removesuffix(".0"))
        return self._scaled(value)

    def _text_ms(self, text: str) -> int:
        if self._pattern:
            return self._in_pattern(text)
        if self.unit in UNITS_PER_S and NUMBER.fullmatch(text):
            return self._scaled(int(text) if text.isdigit() and len(text) < MAX_EXPONENT else Decimal(text))
        return self._read(text)

    def _read(self, text: str) -> int:
        try:
            if text.isdigit() and len(text) != 8:  # Python takes any character for the separator, digits too
                return self._read_other(text)
            moment = dt.datetime.fromisoformat(text)
        except ValueError:
            return self._read_other(text)
        return self._moment_ms(moment, is_date=ISO_DATE.fullmatch(text) is not None)

    def _read_other(self, text: str) -> int:
        found = read_time_text(text)
        try:
            if found is not None:
                return self._moment_ms(found.moment(self.order), is_date=found.time_of_day is None)
        except ValueError:
            if found is not None and not found.is_ordered and self.order is None and found.orders():
                raise BadRow("a date that may be day first or month first; pass --time-format") from None
            raise BadRow(f"no day of the calendar{f' ({self.order})' if self.order else ''}") from None
        if _ZONE_ABBREVIATION.fullmatch(text):
            raise BadRow("not a time that is known; of time zones in letters only UTC, GMT and Z are read, write an offset such as +01:00")
        wanted = "an ISO 8601 time" if self.unit == "iso" else f"a number of {self.unit} or a time in a format that is known"
        raise BadRow(f"not {wanted}; pass --time-format, such as '%d.%m.%y %H:%M'")

    def _in_pattern(self, text: str) -> int:
        try:
            moment = dt.datetime.strptime(text, self._pattern)
        except ValueError:
            raise BadRow("not a time in the format of --time-format") from None
        return self._moment_ms(moment, is_date=_TIME_DIRECTIVES.search(self._pattern) is None)

    def _moment_ms(self, moment: dt.datetime, *, is_date: bool = False, is_typed: bool = False) -> int:
        try:
            if moment.tzinfo is None and self.zone is None:
                if not (is_date or is_typed):
                    raise BadRow(NO_ZONE)
                self.n_as_utc += 1
                moment = moment.replace(tzinfo=dt.UTC)
            elif moment.tzinfo is None:
                moment = self._located(moment, is_date)
            return (moment - _EPOCH) // dt.timedelta(milliseconds=1)
        except OverflowError:
            raise BadRow("a time out of range") from None

    def _located(self, moment: dt.datetime, is_date: bool) -> dt.datetime:
        """Return a time of the zone. A date is the first moment of its day. Raises BadRow for a time that the zone has not or has twice."""
        first, second = moment.replace(tzinfo=self.zone, fold=0), moment.replace(tzinfo=self.zone, fold=1)
        if is_date or first.utcoffset() == second.utcoffset():
            return first
        if first.astimezone(dt.UTC).astimezone(self.zone).replace(tzinfo=None, fold=0) != moment.replace(fold=0):
            raise BadRow(
                f"a time that {self.zone} does not have, as clocks were set forward; write its offset, or check --time-zone"
            )
        if self._repeated_hour is None:
            raise BadRow(f"a time that {self.zone} has twice, as clocks were set back; write it with its offset, or pass --repeated-hour")
        return first if self._repeated_hour == "first" else second

    def _scaled(self, value: float | Decimal) -> int:
        per_s = UNITS_PER_S[self.unit]
        if isinstance(value, int):
            return value * 1_000 // per_s
        exact = value if isinstance(value, Decimal) else Decimal(repr(value))
        if not exact.is_finite() or exact.adjusted() > MAX_EXPONENT:
            raise BadRow("a time out of range")
        return math.floor(exact * 1_000 / per_s)
