"""Times in a wrong unit: which ones are recognised, and what to do about them."""

from __future__ import annotations

from schemas import limits

_DAY_MS = 86_400_000


def looks_wrong(field: str, value: int) -> str | None:
    """Why an item's time is refused although it is one: it looks like seconds, or like "never". None if it is accepted.

    A publication within seconds' range (1969-11-14 to 1970-02-17) is accepted at midnight UTC, as a film's is. No item that can still be
    listed expired before 1978, so there every number that may be seconds up to the year 9999 is refused, 0 and −1 too.
    """
    if field == "expires_ts_ms" and -limits.SECONDS_MAX < value <= limits.CALENDAR_MAX_MS // 1000:
        never = "; leave it out if the item never expires" if -1 <= value <= 0 else ""
        return f"looks like seconds{never}; send Unix time in whole milliseconds (seconds times 1000)"
    if field == "published_ts_ms" and abs(value) < limits.SECONDS_MAX and value % _DAY_MS:
        return "looks like seconds; send Unix time in whole milliseconds (seconds times 1000)"
    return None


def unit_hint(value: object) -> str | None:
    """The likely unit of a refused time and how to convert it, None if there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return None
    size = abs(value)
    if size < limits.TIMESTAMP_MIN_MS:
        return "is it in seconds? multiply by 1000"
    if size >= limits.TIMESTAMP_MAX_MS * 10_000:
        return "is it in nanoseconds? divide by 1,000,000"
    if size > limits.TIMESTAMP_MAX_MS:
        return "is it in microseconds? divide by 1000"
    return "round it to whole milliseconds" if isinstance(value, float) else None
