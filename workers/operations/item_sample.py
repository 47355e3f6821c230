"""Chosen items of the state with their rows, and popularity, each as of its item group's watermarks; and how they differ from a fold."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import nsmallest
from typing import NamedTuple

import xxhash

from recsys.state.batch_delta import RowId
from recsys.state.bought import BOUGHT, BUYERS, BUYERS_ROW, bought_row
from recsys.state.half_lives import ALL_TIME, LIVE_SPANS, WINDOWS_S
from recsys.state.item_row import MOST_NUMBERS
from workers.operations.bought_fold import bought_difference
from workers.operations.item_fold import NEVER, Applied, ItemFold, row_difference
from workers.settings import Settings
from workers.state.layout import layout_of
from workers.state.port import MOST_EPOCHS, RowAddress, StateStore, Watermark

ROWS_AT_ONCE = 256
SPANS_FACTOR = 8
"""Spans of popularity are read back to this multiple of the time for which they count."""
ROWS_AT_MOST = 200_000
"""Rows that are read of chosen items: of items times epochs the newest epochs."""


class Compared(NamedTuple):
    """Holds the result of comparing one row of an item ("c"), or one span of popularity ("pop")."""

    kind: str
    lines: list[str]


@dataclass(slots=True)
class ItemSample:
    """Rows of `n_chosen` items and popularity. Each row of an item, and each group's popularity, was read with the group's watermarks.

    `highest_number` is the highest item number that has a row. Groups of `without_groups` lost state and are not compared.
    """

    n_chosen: int
    without_groups: Collection[int]
    highest_number: int = NEVER
    of_item: dict[int, dict[int, Watermark]] = field(default_factory=dict)
    of_popularity: dict[int, dict[int, Watermark]] = field(default_factory=dict)
    rows: dict[RowAddress, bytes | None] = field(default_factory=dict)
    epochs: dict[int, list[int]] = field(default_factory=dict)
    """Epochs noted of each chosen item, read after its rows."""

    def applied(self, topic_id: str) -> Applied:
        """Up to which offsets of a topic the rows go."""

        def lasts(marks: Mapping[int, Watermark]) -> dict[int, int]:
            return {partition: mark.last_applied_offset for partition, mark in marks.items() if mark.topic_id == topic_id}

        of_item = {number: lasts(marks) for number, marks in self.of_item.items()}
        return Applied(of_item, {group: lasts(marks) for group, marks in self.of_popularity.items()})

    def furthest(self, partition: int) -> int:
        """The last offset of a partition that any of the rows holds."""
        held = (*self.of_item.values(), *self.of_popularity.values())
        return max((marks[partition].last_applied_offset for marks in held if partition in marks), default=NEVER)

    async def compare(self, store: StateStore, settings: Settings, fold: ItemFold, names: Sequence[str]) -> AsyncIterator[Compared]:
        """Compare every row that counts, in the state or in the fold."""
        groups, cap = settings.state.item_groups, settings.state.max_neighbours
        born_since = await self._read_absent(store, fold, groups)
        for (_, row_id), packed in self.rows.items():
            kind, where, number = row_id
            if kind != "c" or not fold.counts(row_id):
                continue
            expected = fold.rows.get((int(where), number), {})
            if packed is None and not expected:
                continue
            line = row_difference(packed, expected, names, cap=cap, whole=fold.whole)
            title = f"item '{names[number]}' in the epoch from {_day(int(where) * layout_of(settings).epoch_s)}"
            yield Compared("c", [] if line is None else [f"{title}: {line}"])
        for number, noted in self.epochs.items():
            if missing := _not_noted(fold.epochs.get(number, ()), noted):
                yield Compared("c", [f"item '{names[number]}': epoch {missing[0]} is not noted, so that no worker reads its row"])
        for compared in self._compare_bought(fold, names, groups):
            yield compared
        spans = {row_id[1:] for _, row_id in self.rows if row_id[0] == "pop" and fold.counts(row_id)}
        for window, span in sorted(spans, key=str):
            expected = fold.popularity.get((str(window), span), {})
            lines, n_rows = [], 0
            for group in sorted(self.of_popularity):
                address: RowAddress = (group, ("pop", window, span))
                packed, own = self.rows.get(address), {n: amount for n, amount in expected.items() if n % groups == group}
                if address in born_since or (packed is None and not own):
                    continue
                n_rows += 1
                if (line := row_difference(packed, own, names, cap=MOST_NUMBERS, whole=fold.whole)) is not None:
                    lines.append(f"popularity, {_span(str(window), span)}, item group {group}: {line}")
            if n_rows:
                yield Compared("pop", lines)

    def _compare_bought(self, fold: ItemFold, names: Sequence[str], groups: int) -> Iterator[Compared]:
        """Compare the counts of what is bought together: of chosen items, and of the users of all items."""
        if fold.bought is None or not fold.whole:
            return
        for (group, (kind, _, number)), packed in self.rows.items():
            if kind == BOUGHT:
                expected, crowded = fold.bought.pairs.get(number, {}), number in fold.bought.were_crowded
                title = f"bought together with item '{names[number]}'"
            elif kind == BUYERS:
                expected, crowded, title = fold.bought.users_of_group(group, groups), False, f"users of the items of item group {group}"
            else:
                continue
            line = bought_difference(packed, expected, crowded=crowded)
            if packed is not None or line is not None:
                yield Compared("c", [] if line is None else [f"{title}: {line}"])

    async def _read_absent(self, store: StateStore, fold: ItemFold, groups: int) -> set[RowAddress]:
        """Rows that the fold has and that were not there when rows were listed: no row that counts goes away, so one that is there now came
        since, and one that is not is missing."""
        wanted: list[RowAddress] = [(number % groups, ("c", epoch, number)) for epoch, number in fold.rows]
        for (window, span), sums in fold.popularity.items():
            wanted += [(group, ("pop", window, span)) for group in {number % groups for number in sums}]
        absent = [address for address in wanted if address not in self.rows and address[0] in self.of_popularity]
        born_since = set()
        for start in range(0, len(absent), ROWS_AT_ONCE):
            some = absent[start : start + ROWS_AT_ONCE]
            for address, packed in zip(some, await store.read_rows(some), strict=True):
                if packed is None:
                    self.rows[address] = None
                else:
                    born_since.add(address)
        return born_since


async def read_items(store: StateStore, settings: Settings, n_items: int, seed: int, *, without_groups: Collection[int] = ()) -> ItemSample:
    """Choose `n_items` numbered items, or all if there are fewer, and read their rows and all popularity. The same seed chooses the same
    items."""
    names, groups = await store.item_names(), settings.state.item_groups
    chosen = nsmallest(n_items, range(len(names)), key=lambda number: xxhash.xxh3_64_intdigest(f"{seed}/{names[number]}".encode()))
    counts = settings.related.bought_together
    sample = ItemSample(sum(number % groups not in without_groups for number in chosen), without_groups)
    epochs: set[int] = set()
    spans: set[tuple[str, int]] = set()
    async for page in store.scan_rows():
        for _, (kind, where, number) in page:
            if kind == "c":
                epochs.add(int(where))
                sample.highest_number = max(sample.highest_number, number)
            else:
                spans.add((str(where), number))
    read = sorted(epochs)[-max(ROWS_AT_MOST // max(len(chosen), 1), 1) :]
    for group in sorted(set(range(groups)) - set(without_groups)):
        await _read_popularity(store, sample, group, _newest(spans), counts)
        own = [number for number in chosen if number % groups == group]
        step = max(ROWS_AT_ONCE // max(len(read), 1), 1)
        for start in range(0, len(own), step):
            some = own[start : start + step]
            row_ids: list[RowId] = [("c", epoch, number) for number in some for epoch in read]
            row_ids += [bought_row(number) for number in some if counts]
            marks, rows = await store.read_rows_at(group, row_ids)
            sample.of_item |= dict.fromkeys(some, marks)
            sample.rows |= {(group, row_id): row for row_id, row in zip(row_ids, rows, strict=True)}
            sample.epochs |= dict(zip(some, await store.item_epochs(some), strict=True))
    return sample


def _not_noted(epochs: Collection[int], noted: Sequence[int]) -> list[int]:
    """Return the epochs that should be noted of an item and are not; more may be noted, of rows that came since."""
    oldest = noted[0] if len(noted) == MOST_EPOCHS else -1
    return sorted(epoch for epoch in set(epochs).difference(noted) if epoch > oldest)


async def _read_popularity(store: StateStore, sample: ItemSample, group: int, spans: Sequence[tuple[str, int]], users: bool) -> None:
    """Read spans of a group, and with `users` the users of its items, in one call, as of one moment."""
    row_ids: list[RowId] = [("pop", window, span) for window, span in spans]
    row_ids += [BUYERS_ROW] if users else []
    marks, rows = await store.read_rows_at(group, row_ids)
    sample.of_popularity[group] = marks
    sample.rows |= {(group, row_id): row for row_id, row in zip(row_ids, rows, strict=True)}


def _newest(spans: set[tuple[str, int]]) -> list[tuple[str, int]]:
    """The newest spans of each window: far more than count, but not all of a state whose old ones nobody has deleted yet."""
    found = [(ALL_TIME, 0)]
    for window in WINDOWS_S:
        numbers = sorted(number for of, number in spans if of == window)
        found += [(window, number) for number in numbers[-SPANS_FACTOR * LIVE_SPANS :]]
    return found


def _day(at_s: int) -> str:
    try:
        return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d}"
    except (ValueError, OverflowError, OSError):
        return f"{at_s} s"


def _span(window: str, span: int) -> str:
    if window not in WINDOWS_S:
        return "all time" if window == ALL_TIME else f"{window} {span}"
    try:
        return f"half-life {window}, span from {datetime.fromtimestamp(span * WINDOWS_S[window], UTC):%Y-%m-%dT%H:%MZ}"
    except (ValueError, OverflowError, OSError):
        return f"half-life {window}, span {span}"
