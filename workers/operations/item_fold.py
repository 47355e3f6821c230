"""Rows of items folded from the log in plain Python, and how they differ from stored ones. Shares no arrays with the engine.

What it does share: the weights of pairs by distance, what a choice adds to a span of popularity, and the layout of a packed row.

Rows of co-occurrence are folded for chosen items only, popularity for all. What an event adds depends on its user's history, so the
histories of every user of a partition are kept while that partition is folded: some 3 kB a user with a full history.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from recsys.errors import LayoutError
from recsys.state.batch_delta import RowId
from recsys.state.half_lives import ALL_TIME, LIVE_SPANS, PERIODS_S, WINDOWS_S, is_live, span_amount
from recsys.state.item_row import WEIGHT_ONE, parse_row
from recsys.state.retention import Retention
from workers.operations.bought_fold import BoughtFold
from workers.operations.user_history import HistoryRules, Pair, UserHistory
from workers.settings import Settings
from workers.state.layout import layout_of

Sums = dict[int, int]
"""Item number ▸ sum in units of 1/64."""
MANY_SPANS = 64 * LIVE_SPANS * len(WINDOWS_S)
"""Spans of popularity that are held before those that count no more are looked for."""
NEVER = -1
"""The last offset of a partition that was never applied."""


@dataclass(frozen=True, slots=True)
class Applied:
    """Up to which offset of each partition the stored rows go: those of each chosen item by number, and popularity by item group."""

    of_item: Mapping[int, Mapping[int, int]]
    of_popularity: Mapping[int, Mapping[int, int]]


class ItemFold:
    """Folds the rows of chosen items and the popularity of all items, one partition of the log after another.

    An event adds to a stored row only up to the offset that the row's group had `applied` when it was read. `numbers` are those of all item
    ids; the events of `unnumbered` items are left out.
    """

    def __init__(self, settings: Settings, numbers: Mapping[str, int], applied: Applied) -> None:
        layout = layout_of(settings)
        self._numbers, self._applied = numbers, applied
        self._epoch_s, self._groups = layout.epoch_s, layout.item_groups
        self._retention = Retention(layout.epoch_s, settings.state.live_epochs)
        self._chunk = settings.state.duplicate_chunk
        self._rules = HistoryRules.of(settings, PERIODS_S, remembers=False)
        self._histories: dict[str, UserHistory[int]] = {}
        self._item_last: dict[int, int] = {}
        self._popularity_last: list[int] = []
        self._sure_from = 0
        self.rows: dict[tuple[int, int], Sums] = {}
        """By epoch and item number."""
        self.popularity: dict[tuple[str, int], Sums] = {}
        """By window and span."""
        self.epochs: dict[int, set[int]] = {}
        """By item number: the epochs in which it has a row."""
        self.newest_s = 0
        self.whole = True
        """The log starts at its beginning in every partition; else no sum is known."""
        self.unnumbered: dict[str, None] = {}
        self.bought = BoughtFold(settings.related) if settings.related.bought_together else None

    def begin(self, partition: int, first_offset: int) -> None:
        """Turn to another partition, whose log starts there.

        Where its beginning is gone, an event may repeat one that is gone too: what could be such a duplicate is left out.
        """
        self._histories.clear()
        if self.bought is not None:
            self.bought.begin()
        self._item_last = {number: lasts.get(partition, NEVER) for number, lasts in self._applied.of_item.items()}
        self._popularity_last = [self._applied.of_popularity.get(group, {}).get(partition, NEVER) for group in range(self._groups)]
        self._sure_from = (-(-first_offset // self._chunk) + 1) * self._chunk if first_offset else 0
        self.whole = self.whole and not first_offset
        self._forget_past()

    def learn(self, user_id: str, item_id: str, at_s: int, units: int, kind: int, source_offset: int) -> None:
        """Add the next event of the partition that counts."""
        self.newest_s = max(self.newest_s, at_s)
        if source_offset < self._sure_from:
            return
        number = self._numbers.get(item_id)
        if number is None:
            if source_offset <= max(self._popularity_last, default=NEVER):
                self.unnumbered[item_id] = None
            return
        history = self._histories.get(user_id)
        if history is None:
            history = self._histories[user_id] = UserHistory()
        added = history.touch(number, at_s, units, kind, self._rules)
        if source_offset <= self._popularity_last[number % self._groups]:
            self._count(number, at_s, added.popularity)
        self._pair(added.pairs, at_s // self._epoch_s, source_offset)
        if self.bought is not None:
            self.bought.learn(user_id, number, units, kind, source_offset, (self._item_last, self._popularity_last))

    def erase(self, user_id: str) -> None:
        """Start a user's history again; what it has added stays."""
        self._histories.pop(user_id, None)
        if self.bought is not None:
            self.bought.erase(user_id)

    def _count(self, number: int, at_s: int, counts: Sequence[int]) -> None:
        for window, count in zip((ALL_TIME, *WINDOWS_S), counts, strict=False):
            span, added = span_amount(2 * count, at_s, window)
            if count and is_live(window, span, self.newest_s):
                if len(self.popularity) > MANY_SPANS:
                    self._forget_past()
                _add(self.popularity.setdefault((window, span), {}), number, added)

    def _pair(self, pairs: Sequence[Pair[int]], epoch: int, source_offset: int) -> None:
        """Add pairs, each to the two rows of its items that are chosen."""
        last = self._item_last
        for came_first, came_then, forward, backward in pairs:
            if forward and came_first in last and source_offset <= last[came_first]:
                self._add_pair(epoch, came_first, came_then, forward)
            if backward and came_then in last and source_offset <= last[came_then]:
                self._add_pair(epoch, came_then, came_first, backward)

    def _add_pair(self, epoch: int, row: int, neighbour: int, amount: int) -> None:
        self.epochs.setdefault(row, set()).add(epoch)
        _add(self.rows.setdefault((epoch, row), {}), neighbour, amount)

    def counts(self, row_id: RowId) -> bool:
        """Return whether a row counts after all events so far: others may have been deleted."""
        kind, where, number = row_id
        if kind == "c":
            return self._retention.counts(int(where), sorted(self.epochs.get(number, ())))
        return is_live(str(where), number, self.newest_s)

    def _forget_past(self) -> None:
        for epoch, number in [at for at in self.rows if not self.counts(("c", *at))]:
            del self.rows[epoch, number]
        for at in [at for at in self.popularity if not self.counts(("pop", *at))]:
            del self.popularity[at]

    def finish(self) -> None:
        """Keep only what counts at the newest event of all partitions."""
        self._histories.clear()
        self._forget_past()


def _add(sums: Sums, number: int, amount: int) -> None:
    sums[number] = sums.get(number, 0) + amount


def read_sums(packed: bytes | None) -> Sums:
    """The sums of a stored row. Raises LayoutError."""
    sums: Sums = {}
    if packed is not None:
        row = parse_row(packed)
        for number, amount in zip(row.neighbours.tolist(), row.weights.tolist(), strict=True):
            sums[number] = sums.get(number, 0) + amount
    return sums


def row_difference(packed: bytes | None, expected: Mapping[int, int], names: Collection[str], *, cap: int, whole: bool) -> str | None:
    """Describe how a stored row differs from the sums of the log, None if it does not.

    A row of more than `cap` neighbours may have lost its lightest when it was compacted, also those that grew since. Of a log that is not
    `whole` no sum is known: what an event adds depends on its user's history, whose beginning is gone. Then a row must be readable.
    """
    try:
        found = read_sums(packed)
    except LayoutError as error:
        return str(error)
    if found and max(found) >= len(names):
        return f"it names item number {max(found)}, and {len(names)} items have a number"
    if not whole:
        return None
    capped = len(expected) > cap
    places = sorted(
        number
        for number in found.keys() | expected.keys()
        if (has := found.get(number, 0)) != (should := expected.get(number, 0)) and (has > should or not capped)
    )
    if not places:
        return None
    if packed is None:
        return f"the row is missing, the log says {len(expected)} items"
    first = places[0]
    stored, folded = found.get(first, 0) / WEIGHT_ONE, expected.get(first, 0) / WEIGHT_ONE
    return f"{len(places)} of {len(expected)} items differ, item number {first} has {stored:g} and the log says {folded:g}"
