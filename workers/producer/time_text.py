"""Read times that are text but not ISO 8601: `15/11/2025 10:30`, `Nov 15, 2025 3:04 PM`, `Sat, 15 Nov 2025 10:30:00 +0100`."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Literal, get_args

DateOrder = Literal["day-first", "month-first"]
DATE_ORDERS: tuple[DateOrder, ...] = get_args(DateOrder)
MONTHS = {name: at for at, name in enumerate(
    ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1)}  # fmt: skip
_MONTH_NAMES = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december")
_DATE = r"""
    (?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*[.,]?\s+)?
    (?: (?P<y1>\d{4})(?P<sep1>[-/.])(?P<m1>\d{1,2})(?P=sep1)(?P<d1>\d{1,2})
      | (?P<a>\d{1,2})(?P<sep2>[-/.])(?P<b>\d{1,2})(?P=sep2)(?P<y2>\d{4})
      | (?P<y3>\d{4})(?P<m3>\d\d)(?P<d3>\d\d)
      | (?P<d4>\d{1,2})(?:st|nd|rd|th)?[\s-]+(?P<name4>[a-z]{3,9})[.,]?[\s-]+(?P<y4>\d{4})
      | (?P<name5>[a-z]{3,9})[.]?\s+(?P<d5>\d{1,2})(?:st|nd|rd|th)?,?\s+(?P<y5>\d{4}) )
"""
_TIME = r"""
    (?:T|,?\s+(?:at\s+)?|(?<=\d{8})(?=\d{6}$))
    (?P<hour>\d{1,2})(?: : (?P<minute>\d\d) (?: : (?P<second>\d\d) (?:[.,](?P<fraction>\d{1,12}))? )? | (?P<packed>\d{4}) )?
    (?:\s*(?P<half>[ap])\.?m\.?)?
"""
_ZONE = r"\s*(?:(?P<utc>Z|UTC|GMT)|(?:UTC|GMT)?(?P<sign>[+-])(?P<zone_h>\d{1,2})(?::?(?P<zone_m>\d\d))?)(?:\s*\([^()]*\)|\[[^\[\]]*\])?"
_TEXT = re.compile(f"{_DATE}(?:{_TIME}(?:{_ZONE})?)?", re.ASCII | re.IGNORECASE | re.VERBOSE)
_YEAR_LAST = re.compile(
    r"\A(?:[a-z]{3} )?([a-z]{3} {1,2}\d{1,2}) (\d\d:\d\d:\d\d)((?: [+-]\d{4}| UTC| GMT)?) (\d{4})\Z", re.ASCII | re.IGNORECASE
)
"""What C, Ruby and Twitter write: the year stands after the time of day and the zone."""
ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d|\d{8}|\d{4}-?W\d\d(-?\d)?", re.ASCII)
"""ISO 8601 text that is a date without a time of day."""


@dataclass(frozen=True, slots=True)
class TimeText:
    """A time as its text names it.

    `is_ordered`: `first` is the month and `second` the day; else they stand as written, and day and month may be either.
    """

    year: int
    first: int
    second: int
    is_ordered: bool
    time_of_day: dt.time | None
    zone: dt.tzinfo | None

    def moment(self, order: DateOrder | None) -> dt.datetime:
        """Return the time, midnight of a date. Raises ValueError when the calendar has no such day, or when no order says which it is."""
        if not self.is_ordered and order is None:
            raise ValueError("day first or month first")
        month, day = (self.second, self.first) if not self.is_ordered and order == "day-first" else (self.first, self.second)
        return dt.datetime.combine(dt.date(self.year, month, day), self.time_of_day or dt.time(), self.zone)

    def orders(self) -> tuple[DateOrder, ...]:
        """Return the orders in which this is a day of the calendar."""
        return tuple(order for order in DATE_ORDERS if self._is_day(order))

    def _is_day(self, order: DateOrder) -> bool:
        try:
            self.moment(order)
        except ValueError:
            return False
        return True


def read_time_text(text: str) -> TimeText | None:
    """Return the parts of a time, None for text that is in none of the known formats."""
    found = _TEXT.fullmatch(_YEAR_LAST.sub(r"\1, \4 \2\3", text))
    if found is None:
        return None
    try:
        time_of_day, zone = _time_of_day(found), _zone(found)
        if found["a"]:
            return TimeText(int(found["y2"]), int(found["a"]), int(found["b"]), False, time_of_day, zone)
        if found["name4"] or found["name5"]:
            at = "4" if found["name4"] else "5"
            return TimeText(int(found["y" + at]), _month(found["name" + at]), int(found["d" + at]), True, time_of_day, zone)
        at = "1" if found["y1"] else "3"
        return TimeText(int(found["y" + at]), int(found["m" + at]), int(found["d" + at]), True, time_of_day, zone)
    except ValueError:
        return None


def _month(name: str) -> int:
    """Return the number of an English month. Raises ValueError."""
    lowered = name.lower()
    number = MONTHS.get(lowered[:3])
    if number is None or not (_MONTH_NAMES[number - 1] == lowered or len(lowered) == 3 or lowered == "sept"):
        raise ValueError("not a month")
    return number


def _time_of_day(found: re.Match[str]) -> dt.time | None:
    if found["hour"] is None:
        return None
    hour, minute, second = int(found["hour"]), int(found["minute"] or 0), int(found["second"] or 0)
    if found["packed"]:
        minute, second = int(found["packed"][:2]), int(found["packed"][2:])
    elif found["minute"] is None and not found["half"]:
        raise ValueError("an hour alone")
    if found["half"]:
        if not 1 <= hour <= 12:
            raise ValueError("not an hour of a clock of twelve hours")
        hour = hour % 12 + (12 if found["half"].lower() == "p" else 0)
    return dt.time(hour, minute, second, int((found["fraction"] or "")[:6].ljust(6, "0")))


def _zone(found: re.Match[str]) -> dt.tzinfo | None:
    if found["utc"]:
        return dt.UTC
    if found["sign"] is None:
        return None
    minutes = int(found["zone_h"]) * 60 + int(found["zone_m"] or 0)
    return dt.timezone(dt.timedelta(minutes=-minutes if found["sign"] == "-" else minutes))
