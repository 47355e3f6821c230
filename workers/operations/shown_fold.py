"""Folds what was shown to one user event by event in plain Python, and compares it with a stored row.

The rules are those of `recsys.state.shown`; nothing of its code is shared but the reading of a packed row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from recsys.errors import LayoutError
from recsys.state.shown import unpack_shown

MOST_SHOWN = 255
PARTS = ("item", "count", "time of the last impression", "time of the last choice")


@dataclass(slots=True)
class UserShown:
    """Holds a user's entries in order of their newest event: item, count, and the seconds of the last impression and of the last choice
    (0: none)."""

    entries: list[tuple[str, int, int, int]] = field(default_factory=list)

    def add(self, item_id: str, at_s: int, *, is_impression: bool, most: int) -> None:
        """Apply the next event that is an impression or weighs something; at most `most` entries are kept."""
        known = next((entry for entry in self.entries if entry[0] == item_id), None)
        _, count, shown_s, chosen_s = known or (item_id, 0, 0, 0)
        if at_s <= chosen_s:
            return
        if is_impression:
            count, shown_s = min(count + 1, MOST_SHOWN), max(shown_s, at_s)
        else:
            count, chosen_s = min(count, 1) if shown_s > at_s else 0, at_s
        newest_s = max(shown_s, chosen_s)
        if known is not None:
            self.entries.remove(known)
        elif len(self.entries) == most:
            if newest_s < max(self.entries[0][2:]):
                return
            del self.entries[0]
        place = sum(max(entry[2:]) <= newest_s for entry in self.entries)
        self.entries.insert(place, (item_id, count, shown_s, chosen_s))


def shown_difference(expected: UserShown, packed: bytes | None, names: Sequence[str]) -> str | None:
    """Describe how a stored row of shown items differs from the log, None if it does not."""
    try:
        stored = unpack_shown([packed])[0].tolist()
    except LayoutError as error:
        return str(error)
    if beyond := [number for number, *_ in stored if number >= len(names)]:
        return f"the row of shown items names item number {beyond[0]}, and {len(names)} items have a number"
    if len(stored) != len(expected.entries):
        return f"{len(stored)} items were shown or chosen by the row of shown items, the log says {len(expected.entries)}"
    for place, ((number, *theirs), ours) in enumerate(zip(stored, expected.entries, strict=True), 1):
        parts = [part for part, a, b in zip(PARTS, (names[number], *theirs), ours, strict=True) if a != b]
        if parts:
            return f"shown item {place} of {len(stored)} has another {' and '.join(parts)} than the log"
    return None
