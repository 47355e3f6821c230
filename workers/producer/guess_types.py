"""Guess which column of a file says the type of an event, what its names mean, and what type rows without one have."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.events import EventType
from workers.errors import SettingsError
from workers.producer.guess_attributes import is_number
from workers.producer.known_names import IN_FILE_NAMES, ORDERS, RATINGS, TYPES, plain
from workers.producer.names import listed
from workers.producer.sampling import LIKE, Sample, share
from workers.producer.values import DecimalSign, number
from workers.settings import WeightSettings

MAX_TYPES = 50
MAX_CODES = 12
"""Different numbers in a column of types, above which they are no codes of types."""
_DEFAULT_TYPE = EventType.VIEW.value


def guess_types(options: dict[str, Any], notes: list[str], path: str, mapped: dict[str, str], sample: Sample) -> None:
    """Say what the event types of the file mean, or which type rows without one have. Raises SettingsError where `--types` names none of
    the file's, and for codes that nobody gave a meaning."""
    given = [pair.split("=")[0].strip().lower() for text in options.get("types") or [] for pair in text.split(",")]
    if given and "type" not in mapped:
        mapped["type"] = _column_of(given, mapped, sample)
    if "type" in mapped and _translate(options, notes, given, mapped, sample):
        return
    if "event_type" not in options:
        options["event_type"] = _default_type(path, mapped, sample)
        notes.append(f"no column says the type of an event: every row is taken for {options['event_type']} (--type for another one)")
        _note_returns(options["event_type"], notes, sample)


def _column_of(given: list[str], mapped: Mapping[str, str], sample: Sample) -> str:
    """Return the one column that holds the names which `--types` gives a meaning. Raises SettingsError."""

    def is_given(value: Any) -> bool:
        return str(value).strip().lower() in given

    free = [name for name in sample.names if name not in mapped.values()]
    found = [name for name in free if (values := sample.values(name)) and share(values, is_given) >= LIKE]
    if len(found) != 1:
        several = f"several columns hold {listed(given)}" if found else f"no column holds {listed(given)}"
        raise SettingsError(f"--types: {several}: pass --map type=COLUMN too. The columns are {listed(sample.names)}")
    return found[0]


def _translate(options: dict[str, Any], notes: list[str], given: list[str], mapped: dict[str, str], sample: Sample) -> bool:
    """Say what the names in the column of types mean; return False for a column that holds something else, which is dropped."""
    seen = Counter(str(value) for value in sample.values(mapped["type"]))
    known = {event_type.value for event_type in EventType}
    unlike = [name for name in list(seen)[:MAX_TYPES] if name not in known and name.lower() not in given]
    translated = {name: TYPES[plain(name)] for name in unlike if plain(name) in TYPES}
    unknown = [name for name in unlike if name not in translated]
    absent = [name for name in given if name not in {one.strip().lower() for one in seen}]
    if absent:
        notes.append(f"--types: not among the first {len(sample.rows):,} rows: {listed(absent)}")
    if len(unknown) == len(seen):
        is_code = "event_type" not in options and 0 < len(seen) <= MAX_CODES
        if is_code and all(re.fullmatch(r"-?\d+", name, re.ASCII) for name in seen):
            codes = sorted(seen)
            raise SettingsError(
                f"FILE: {mapped['type']} holds {listed(codes)}, and nothing says what they mean: pass --types {codes[0]}=view,… with a "
                "type for each, or --type view if all rows are alike"
            )
        del mapped["type"]
        return False
    if translated:
        options["types"] = [*(options.get("types") or []), *(f"{name}={event_type}" for name, event_type in translated.items())]
        notes.append("event types: " + ", ".join(f"{name} is {event_type}" for name, event_type in translated.items()))
    if unknown:
        notes.append(f"unknown event types, whose rows will be bad (--types NAME=TYPE): {', '.join(unknown[:5])}")
    return True


def _default_type(path: str, mapped: Mapping[str, str], sample: Sample) -> str:
    if "value" in mapped and plain(mapped["value"]) in RATINGS:
        return EventType.RATING.value
    stem = plain(Path(path).name)
    by_name = next((event_type for word, event_type in IN_FILE_NAMES.items() if word in stem), None)
    return by_name or (EventType.PURCHASE.value if any(plain(name) in ORDERS for name in sample.names) else _DEFAULT_TYPE)


def _note_returns(event_type: str, notes: list[str], sample: Sample) -> None:
    """Say that some purchases are rather returns: their quantity is below 0."""
    for name in sample.names if event_type == EventType.PURCHASE.value else ():
        n_below = sum(str(value).strip().startswith("-") for value in sample.values(name)) if plain(name) in ORDERS else 0
        if n_below:
            notes.append(
                f"{n_below:,} of the first {len(sample.rows):,} rows have a {name} below 0: if these are returns, take them out of the "
                "file, or they count as purchases"
            )


def note_scale(notes: list[str], mapped: Mapping[str, str], sample: Sample, decimal: DecimalSign | None) -> None:
    """Say that ratings are on another scale than that of the settings unless these are changed, or have zeros."""
    column = mapped.get("value", "")
    cells = sample.values(column) if plain(column) in RATINGS else []
    values = [float(number(value, decimal)) for value in cells if is_number(value, decimal)]
    if not values:
        return
    low, high, n_zeros = min(values), max(values), values.count(0.0)
    scale = WeightSettings()
    if high > scale.rating_best:
        notes.append(
            f"{column} holds {low:g} to {high:g}: set weights.rating_neutral ({scale.rating_neutral:g} unless set) and weights.rating_best "
            f"({scale.rating_best:g}) for this scale in recsys.toml"
        )
    if n_zeros:
        notes.append(
            f"{n_zeros:,} of the first {len(sample.rows):,} rows have a {column} of 0, which counts as a dislike: if it means that nobody "
            "rated, import these rows from a file of their own with --type click"
        )
