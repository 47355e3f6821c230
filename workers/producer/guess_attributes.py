"""Guess which columns become attributes, as numbers or as labels, and how the numbers of a file are written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from workers.producer.mapping import Kind
from workers.producer.rows import BadRow
from workers.producer.sampling import LIKE, Sample, share
from workers.producer.values import DecimalSign, number

MAX_ATTRIBUTES = 16
"""Columns that become attributes; further ones are left out."""
MAX_LABEL_CHARS = 64
_URL = re.compile(r"https?://|www\.", re.I)
_COMMA = re.compile(r"[+-]?[\d.' ]*,(\d{1,2}|\d{4,})", re.ASCII)
"""A number whose comma cannot stand for thousands."""
_POINT = re.compile(r"[+-]?[\d,' ]*\.(\d{1,2}|\d{4,})", re.ASCII)
_CODE = re.compile(r"0\d+", re.ASCII)
"""Digits that are no number, or they would not begin with 0: a postal code, the number of an article."""


def guess_decimal(sample: Sample, options: dict[str, Any], notes: list[str]) -> None:
    """Say that numbers have a decimal comma, where a table that is not cut by commas has such numbers and none with a point."""
    if "decimal" in options or sample.form not in ("csv", "tsv") or (sample.delimiter is None and sample.form == "csv"):
        return
    columns = [[str(value).strip() for value in sample.values(name)] for name in sample.names]
    with_comma, with_point = (any(values and share(values, sign.fullmatch) >= LIKE for values in columns) for sign in (_COMMA, _POINT))
    if with_comma and not with_point:
        options["decimal"] = "comma"
        notes.append("numbers have a decimal comma (--decimal point if they have not)")


def attributes(kind: Kind, mapped: Mapping[str, str], sample: Sample, decimal: DecimalSign | None) -> dict[str, str]:
    """Return entries of objects ▸ columns, for numbers and for labels that repeat."""
    found: dict[str, str] = {}
    if kind == "events":
        return found
    taken = set(mapped.values())
    for name in sample.names:
        label = re.sub(r"\W+", "_", name.strip().lower()).strip("_")[:MAX_LABEL_CHARS]
        if name in taken or "." in name or not label or len(found) >= MAX_ATTRIBUTES or "email" in label or "phone" in label:
            continue
        values = sample.values(name)
        if not values:
            continue
        is_numeric = share(values, lambda value: is_number(value, decimal)) > LIKE and not re.search(r"(^|_)id$", label)
        if is_numeric and not any(isinstance(value, str) and _CODE.fullmatch(value.strip()) for value in values):
            found[f"numeric_attributes.{label}"] = name
        elif share(values, _is_label) > LIKE and len({str(value) for value in values}) <= max(2, len(values) // 2):
            found[f"categorical_attributes.{label}"] = name
    return found


def is_number(value: Any, decimal: DecimalSign | None = None) -> bool:
    """Return whether a cell holds a number, or its text."""
    try:
        return not isinstance(value, bool | list | dict) and isinstance(number(value, decimal), int | float)
    except BadRow:
        return False


def _is_label(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_LABEL_CHARS and _URL.search(value) is None
