"""Times of rows as whole Unix milliseconds; sub-milliseconds are cut off."""

from __future__ import annotations

import datetime as dt
import math
import re
from decimal import Decimal
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

from workers.errors import SettingsError
from workers.producer.rows import BadRow

TimeUnit = Literal["ms", "s", "us", "ns", "iso"]
TIME_UNITS: tuple[str, ...] = get_args(TimeUnit)
UNITS_PER_S: dict[str, int] = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
TIME_FIELDS = ("event_ts_ms", "published_ts_ms", "expires_ts_ms")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_OFFSET = re.compile(r"(?:UTC)?([+-])(\d{1,2})(?::?(\d{2}))?", re.ASCII)
MAX_EXPONENT = 30


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
        raise SettingsError("--time-zone: no such zone; give a name such as Europe/Berlin, an offset such as +08:00, or UTC") from None


class Clock:
    """Turn the times of one file into milliseconds. `n_without_zone` counts those that named no zone and were read as UTC."""

    def __init__(self, unit: TimeUnit = "ms", zone: dt.tzinfo | None = None) -> None:
        self.unit = unit
        self.zone = zone
        self.n_without_zone = 0

    def to_ms(self, value: Any) -> int:
        """Return a time as whole milliseconds, from a number in the unit, ISO 8601 text, a date (midnight) or a datetime. Raises BadRow."""
        if isinstance(value, dt.datetime):
            return self._moment_ms(value)
        if isinstance(value, dt.date):
            return self._moment_ms(dt.datetime(value.year, value.month, value.day))
        if isinstance(value, str):
            return self._text_ms(value.strip())
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise BadRow(f"a {'time of day' if isinstance(value, dt.time) else type(value).__name__}, not a time of an event")
        if self.unit == "iso":
            raise BadRow("a number, not an ISO 8601 time; pass --time-unit ms, s, us or ns")
        return self._scaled(value)

    def _text_ms(self, text: str) -> int:
        if self.unit != "iso" and _NUMBER.fullmatch(text):
            return self._scaled(int(text) if text.isdigit() and len(text) < MAX_EXPONENT else Decimal(text))
        if text.upper().endswith((" UTC", " GMT")):
            text = text[:-4] + "+00:00"
        try:
            moment = dt.datetime.fromisoformat(text)
        except ValueError:
            wanted = "an ISO 8601 time" if self.unit == "iso" else f"a number of {self.unit} or an ISO 8601 time; pass --time-unit"
            raise BadRow(f"not {wanted}") from None
        return self._moment_ms(moment)

    def _moment_ms(self, moment: dt.datetime) -> int:
        if moment.tzinfo is None:
            if self.zone is None:
                self.n_without_zone += 1
            moment = moment.replace(tzinfo=self.zone or dt.UTC)
        try:
            return (moment - _EPOCH) // dt.timedelta(milliseconds=1)
        except OverflowError:
            raise BadRow("a time out of range") from None

    def _scaled(self, value: float | Decimal) -> int:
        per_s = UNITS_PER_S[self.unit]
        if isinstance(value, int):
            return value * 1_000 // per_s
        exact = value if isinstance(value, Decimal) else Decimal(repr(value))
        if not exact.is_finite() or exact.adjusted() > MAX_EXPONENT:
            raise BadRow("a time out of range")
        return math.floor(exact * 1_000 / per_s)
