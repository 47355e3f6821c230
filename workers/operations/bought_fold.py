"""Counts of what is bought together folded from the log in plain Python, and how they differ from stored ones. Shares no arrays with the
engine: what it does share is the layout of a packed row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recsys.errors import LayoutError
from recsys.state.bought import USERS, signed_sums
from schemas.events import EVENT_TYPES
from workers.settings import RelatedSettings

Counts = dict[int, int]
"""Item number ▸ users."""
Lasts = tuple[Mapping[int, int], Sequence[int]]
REMEDY = "if related.* was switched on or changed since the log began, `recsys state rebuild` counts it all"


class BoughtFold:
    """Folds users' windows and the counts of chosen items, and the users of all items, one partition of the log after another."""

    def __init__(self, settings: RelatedSettings) -> None:
        self._size, self._most_pairs = settings.items_per_user, settings.pairs_per_item
        self._types = {kind.code for kind in EVENT_TYPES if kind.value in settings.event_types}
        self._windows: dict[str, list[int]] = {}
        self.pairs: dict[int, Counts] = {}
        """By chosen item."""
        self.users: Counts = {}
        """By item, and by `-1 - group` how many users had their first window there."""
        self.were_crowded: set[int] = set()
        """Items that had more pairs than a compacted row keeps, so that some of theirs may have been cut."""

    def begin(self) -> None:
        """Turn to another partition, which has other users."""
        self._windows.clear()

    def learn(self, user_id: str, number: int, units: int, kind: int, source_offset: int, lasts: Lasts) -> None:
        """Add an event. `lasts` are the last offsets of the partition that stored rows have: by chosen item, and by item group."""
        if units <= 0 or kind not in self._types:
            return
        window, (of_item, of_group) = self._windows.setdefault(user_id, []), lasts
        if number in window:
            window.remove(number)
            window.append(number)
            return
        groups = [source_offset <= last for last in of_group]
        if len(window) == self._size:
            left = window.pop(0)
            self._change(left, window, -1, source_offset, of_item)
            self._count(left, -1, groups)
        elif not window and groups[number % len(groups)]:
            place = -1 - number % len(groups)
            self.users[place] = self.users.get(place, 0) + 1
        self._change(number, window, 1, source_offset, of_item)
        self._count(number, 1, groups)
        window.append(number)

    def erase(self, user_id: str) -> None:
        """Start a user's window again; what it has added stays."""
        self._windows.pop(user_id, None)

    def _count(self, number: int, amount: int, groups: Sequence[bool]) -> None:
        if groups[number % len(groups)]:
            self.users[number] = self.users.get(number, 0) + amount

    def _change(self, number: int, others: Sequence[int], amount: int, source_offset: int, of_item: Mapping[int, int]) -> None:
        for row, neighbours in ((number, others), *((other, [number]) for other in others)):
            if source_offset <= of_item.get(row, -1):
                counts = self.pairs.setdefault(row, {})
                for neighbour in neighbours:
                    counts[neighbour] = counts.get(neighbour, 0) + amount
                if len(counts) > self._most_pairs:
                    self.were_crowded.add(row)

    def users_of_group(self, group: int, item_groups: int) -> Counts:
        """Return what the row of a group should hold."""
        held = {number: count for number, count in self.users.items() if number >= 0 and number % item_groups == group}
        if first := self.users.get(-1 - group):
            held[USERS] = first
        return held


def bought_difference(packed: bytes | None, expected: Mapping[int, int], *, crowded: bool = False) -> str | None:
    """Describe how a stored row of counts differs from the log, None if it does not. Of a `crowded` row counts may be too small."""
    try:
        numbers, counts = signed_sums(packed)
    except LayoutError as error:
        return str(error)
    found: Counts = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    wrong = sorted(
        number
        for number in found.keys() | expected.keys()
        if (has := found.get(number, 0)) != (should := expected.get(number, 0)) and (has > should or not crowded)
    )
    if not wrong:
        return None
    first = wrong[0]
    what = "all users" if first == USERS else f"item number {first}"
    return f"{len(wrong)} counts differ, of {what} {found.get(first, 0)} and the log says {expected.get(first, 0)}; {REMEDY}"
