"""Segments, and which of them a user belongs to.

Shapes: U users, S segments, M attributes of one user.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, get_args

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ModelError
from recsys.models.segments import membership_kernel
from recsys.models.segments.config import MAX_SEGMENTS
from recsys.state.profiles import Attribute, AttributeKind, ProfileColumns

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

MAX_TEXT = 256


@dataclass(frozen=True, slots=True)
class Segment:
    """Users with one value of an attribute, or with a number from `low` (inclusive) to `high` (exclusive) of a numeric one."""

    attribute: Attribute
    low: float = -math.inf
    high: float = math.inf

    @property
    def name(self) -> str:
        """Return the name of the attribute, as rules and settings write it: `preferred` for preferred categories."""
        return self.attribute.name if self.attribute.kind != "preferred" else "preferred"

    def holds(self, attribute: str, value: str | float) -> bool:
        """Return whether users with this value of the attribute are in the segment."""
        if attribute != self.name:
            return False
        if self.attribute.kind == "numeric":
            return not isinstance(value, str) and self.low <= value < self.high
        return self.attribute.value == value

    def __str__(self) -> str:
        """Return the segment for people: `gender=F`, `age 18…25`."""
        if self.attribute.kind != "numeric":
            return f"{self.name}={self.attribute.value}"
        low, high = (f"{end:g}" if math.isfinite(end) else "" for end in (self.low, self.high))
        return f"{self.name} {low}…{high}"

    def as_json(self) -> dict[str, Any]:
        """Return the segment as JSON can hold it; an open end is null."""
        ends = {name: end if math.isfinite(end) else None for name, end in (("low", self.low), ("high", self.high))}
        return {**self.attribute._asdict(), **(ends if self.attribute.kind == "numeric" else {})}

    @classmethod
    def of(cls, given: Any) -> Self:
        """Read a segment. Raises: ModelError naming what does not fit."""
        if not isinstance(given, Mapping) or given.get("kind") not in get_args(AttributeKind):
            raise ModelError(f"a segment is {given!r:.60}: it needs an object with a kind, a name and a value")
        name, value = given.get("name"), given.get("value")
        if not isinstance(name, str) or not isinstance(value, str) or max(len(name), len(value)) > MAX_TEXT:
            raise ModelError(f"name or value of a segment: got {(name, value)!r:.60}, needs texts of at most {MAX_TEXT} characters")
        low, high = (_end(given, name, open_end) for name, open_end in (("low", -math.inf), ("high", math.inf)))
        if not low < high:
            raise ModelError(f"a segment reaches from {low:g} to {high:g}: it holds no number")
        return cls(Attribute(given["kind"], name, value), low, high)


def _end(given: Mapping[str, Any], name: str, open_end: float) -> float:
    value = given.get(name)
    if value is None:
        return open_end
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ModelError(f"{name} of a segment: got {value!r:.20}, needs a finite number or null")
    return float(value)


class Membership:
    """Finds the segments of users. Sorted `_keys` (K,) with the bounds `_starts` (K + 1,) of each key's segments, which have a `_low` and a
    `_high` (S,) and are numbered by `_places` (S,)."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        """Raises: ModelError for more than `MAX_SEGMENTS`, and for two that are the same."""
        if len(segments) > MAX_SEGMENTS:
            raise ModelError(f"there are {len(segments)} segments, at most {MAX_SEGMENTS} serve")
        if len(set(segments)) != len(segments):
            raise ModelError("two segments are the same")
        keys = np.array([segment.attribute.key for segment in segments], np.uint64)
        order = np.argsort(keys, kind="stable")
        self._keys, starts = np.unique(keys[order], return_index=True)
        self._starts = np.append(starts, len(keys)).astype(np.int64)
        self._low = np.array([segments[at].low for at in order.tolist()], np.float32)
        self._high = np.array([segments[at].high for at in order.tolist()], np.float32)
        self._places = order.astype(np.int64)

    def mark(self, profiles: ProfileColumns, out: F32) -> None:
        """Set `out` (U, S), which is 0, to 1 where a user belongs to a segment."""
        membership_kernel.mark(profiles.keys, profiles.values, self._keys, self._starts, self._low, self._high, self._places, out)
