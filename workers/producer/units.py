"""Numbers that are times in another unit than the one given, noticed before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from schemas import limits
from workers.errors import SettingsError
from workers.producer.mapping import RowMapping
from workers.producer.rows import BadRow
from workers.producer.times import TIME_FIELDS, UNITS_PER_S, Clock, TimeUnit

_UNITS: tuple[TimeUnit, ...] = ("ms", "s", "us", "ns")


def check_unit(rows: Sequence[Mapping[str, Any]], mapping: RowMapping) -> None:
    """Raise SettingsError when the first rows' numbers are no times of 1973 to 2100 in the unit, but all are in another one."""
    if mapping.clock.unit == "iso":
        return
    for name in TIME_FIELDS:
        if name not in mapping.fields:
            continue
        values = [row[mapping.column_of(name)] for row in rows if _is_number(row.get(mapping.column_of(name)))]
        if not values or any(_is_time(value, mapping.clock.unit) for value in values):
            continue
        for unit in _UNITS:
            if all(_is_time(value, unit) for value in values):
                given = _NAMES[mapping.clock.unit]
                raise SettingsError(f"{name}: the numbers look like {_NAMES[unit]}, not {given}: pass --time-unit {unit}")


_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
assert set(_NAMES) == set(UNITS_PER_S)


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().replace(".", "", 1).isdigit()
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_time(value: Any, unit: TimeUnit) -> bool:
    try:
        return limits.TIMESTAMP_MIN_MS <= Clock(unit).to_ms(value) <= limits.TIMESTAMP_MAX_MS
    except BadRow:
        return False
