"""Counts how many users have chosen both of two items, exactly: what "bought together" is made from.

Each user has a **window**: the newest `size` distinct items of the user's events of the types that count, in order of arrival. The support
of a pair of items is the number of users in whose windows both are, the users of an item the number of users in whose windows it is. So an
item that enters a window adds 1 to its pairs with the other items in it, and one that leaves it takes 1 away. No user counts twice for a
pair, whatever the user repeats, and what one event changes is bounded.

Counts are rows of the state (`recsys.state.item_row`), of which the value is the sum of the records: −1 is 2³² − 1, and sums are taken
modulo 2³². Rows by name: ("bought", 0, item) has the support with other items; ("buyers", 0, 0) in each item group the users of its items,
and under `USERS` how many users have a window, each counted in the group of the item that came first.

Shapes: u users with events, n events, S slots, W columns, a additions, R rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.errors import LayoutError
from recsys.state import bought_kernel
from recsys.state.batch_delta import Delta, RowId
from recsys.state.bought_kernel import USERS as USERS
from recsys.state.bought_kernel import Additions
from recsys.state.interactions import Interactions
from recsys.state.item_row import pack_records, parse_row

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
Bools = NDArray[np.bool_]

BOUGHT, BUYERS, CHANGED = "bought", "buyers", "changed"
"""Kinds of rows; `CHANGED` is described in `recsys.state.related`."""
BUYERS_ROW: RowId = (BUYERS, 0, 0)
_U32 = np.dtype("<u4")


def bought_row(number: int) -> RowId:
    """Return the name of the row that holds an item's support with other items."""
    return BOUGHT, 0, number


class BoughtWindows:
    """The windows of some users: `items` (S, W), `lengths` (S,), by slot. A user is held once it was loaded."""

    def __init__(self, size: int, n_slots: int = 256) -> None:
        """`size` is the number of items that a window has room for."""
        self.size = size
        self.items: I32 = np.zeros((n_slots, size), np.int32)
        self.lengths: I32 = np.zeros(n_slots, np.int32)
        self._slots: dict[str, int] = {}
        self._free = list(range(n_slots - 1, -1, -1))

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, user_id: str) -> bool:
        return user_id in self._slots

    def slots(self, user_ids: Iterable[str]) -> I64:
        """Return the slots of users that are held."""
        return np.array([self._slots[user_id] for user_id in user_ids], np.int64)

    def load(self, windows: Mapping[str, bytes | None]) -> None:
        """Hold these users' packed windows; None is an empty one. Raises LayoutError on a torn one."""
        for user_id, packed in windows.items():
            if packed is not None and len(packed) % _U32.itemsize:
                raise LayoutError(f"a window of {len(packed)} bytes is torn: drop it and replay its partition")
            found = np.frombuffer(packed or b"", _U32)
            if len(found) > self.items.shape[1]:  # of a larger size than the present one: items leave with the user's next event
                self.items = np.pad(self.items, ((0, 0), (0, len(found) - self.items.shape[1])))
            slot = self._slot(user_id)
            self.lengths[slot] = len(found)
            self.items[slot, : len(found)] = found.astype(np.int32)

    def pack(self, user_id: str) -> bytes:
        """Return a user's window as it is stored: item numbers, u32, the newest last."""
        slot = self._slots[user_id]
        return self.items[slot, : self.lengths[slot]].astype(_U32).tobytes()

    def forget(self, user_ids: Iterable[str]) -> None:
        """Hold these users no longer."""
        for user_id in user_ids:
            slot = self._slots.pop(user_id, None)
            if slot is not None:
                self._free.append(slot)

    def forget_beginning(self, prefixes: tuple[str, ...]) -> None:
        """Hold no user whose id begins with one of these prefixes."""
        self.forget([user_id for user_id in self._slots if user_id.startswith(prefixes)])

    def shrink(self, most: int) -> None:
        """Hold `most` users at most; those that were loaded first go first."""
        excess = len(self._slots) - most
        if excess > 0:
            self.forget(list(self._slots)[:excess])

    def _slot(self, user_id: str) -> int:
        slot = self._slots.get(user_id)
        if slot is None:
            if not self._free:
                held = len(self.lengths)
                self.items = np.pad(self.items, ((0, held), (0, 0)))
                self.lengths = np.pad(self.lengths, (0, held))
                self._free = list(range(2 * held - 1, held - 1, -1))
            slot = self._slots[user_id] = self._free.pop()
        return slot

    def enter(self, slots: I64, counts: I64, items: U32, counted: Bools) -> Additions:
        """Let the items (n,) of `counted` events (n,) enter the windows of the users in `slots` (u,), who have `counts` (u,) events each,
        and return what that changes."""
        most = 4 * (self.items.shape[1] + 1) * int(np.count_nonzero(counted))
        most += 2 * self.items.shape[1] * self.items.shape[1] * len(slots) if self.items.shape[1] > self.size else 0
        out = Additions.room(most)
        n = bought_kernel.enter(self.items, self.lengths, slots, counts, items.astype(np.int64), counted, self.size, out)
        return out.cut(n)


@dataclass(frozen=True, slots=True)
class CountedRows:
    """R rows, group after group: the `groups` (R,) and names of rows, where the records of each end, and records (m, 2)."""

    groups: I64
    rows: list[RowId]
    ends: I64
    records: U32


def counted_rows(added: Additions, item_groups: int, chosen: Bools | None = None) -> CountedRows:
    """Return what the events that `chosen` (n,) selects, or all, add to the rows of counts."""
    rows, neighbours, amounts = added.rows, added.neighbours, added.amounts
    if chosen is not None:
        kept = chosen[added.sources]
        rows, neighbours, amounts = rows[kept], neighbours[kept], amounts[kept]
    groups = rows % item_groups
    of_users = (neighbours == rows) | (neighbours == USERS)
    place = np.where(of_users, -1, rows)  # the buyers of a group are its first row
    order = np.lexsort((neighbours, place, groups))
    groups, place, neighbours, amounts = groups[order], place[order], neighbours[order], amounts[order]
    if not len(order):
        return CountedRows(groups, [], np.zeros(0, np.int64), np.zeros((0, 2), np.uint32))
    is_row = np.concatenate(([True], (groups[1:] != groups[:-1]) | (place[1:] != place[:-1])))
    is_record = is_row | np.concatenate(([True], neighbours[1:] != neighbours[:-1]))
    first = np.flatnonzero(is_record)
    sums = np.add.reduceat(amounts, first)
    kept = sums != 0  # what came and went in one batch leaves no record
    row_of = np.cumsum(is_row[first]) - 1
    records = np.stack((neighbours[first][kept], sums[kept] & 0xFFFF_FFFF), axis=1).astype(np.uint32)
    sizes = np.bincount(row_of[kept], minlength=int(row_of[-1]) + 1)
    starts, used = np.flatnonzero(is_row), sizes > 0
    names = [BUYERS_ROW if number < 0 else bought_row(number) for number in place[starts][used].tolist()]
    return CountedRows(groups[starts][used], names, np.cumsum(sizes[used]), records)


def with_rows(delta: Delta, more: CountedRows) -> Delta:
    """Return a delta with more rows in it. They are of no epoch and no span of popularity, so the engine passes them over."""
    if not more.rows:
        return delta
    of = np.concatenate((np.repeat(np.arange(delta.item_groups), np.diff(delta.groups)), more.groups))
    sizes = np.concatenate((np.diff(delta.ends, prepend=0), np.diff(more.ends, prepend=0)))
    starts = np.cumsum(sizes) - sizes
    order = np.argsort(of, kind="stable")
    names, sizes = delta.rows + more.rows, sizes[order]
    ends = np.cumsum(sizes)
    taken = np.repeat(starts[order] - (ends - sizes), sizes) + np.arange(int(ends[-1]))
    groups = np.concatenate(([0], np.cumsum(np.bincount(of, minlength=delta.item_groups))))
    spans = (*delta.spans, (BOUGHT, 0, -1))
    span = np.concatenate((delta.span, np.full(len(more.rows), len(spans) - 1)))[order]
    numbers = np.concatenate((delta.numbers, np.array([number for *_, number in more.rows], np.int64)))[order]
    records = np.concatenate((delta.records, more.records))[taken]
    return Delta([names[at] for at in order.tolist()], groups, spans, span, numbers, ends, records)


def signed_sums(row: bytes | None) -> tuple[I64, I64]:
    """Return the neighbours (N,) of a row, ascending, and their counts, without those of 0. Raises LayoutError on a torn row."""
    if row is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    parsed = parse_row(row)
    neighbours, places = np.unique(parsed.neighbours, return_inverse=True)
    amounts = parsed.weights.view(np.int32) if parsed.weights.flags.c_contiguous else parsed.weights.astype(np.uint32).view(np.int32)
    counts = np.zeros(len(neighbours), np.int64)
    np.add.at(counts, places, amounts.astype(np.int64))
    kept = counts != 0
    return neighbours[kept].astype(np.int64), counts[kept]


def compacted(row: bytes, cap: int) -> bytes:
    """Return the body that says the same as a row in one record a neighbour, at most `cap` of them: beyond it the smallest counts are cut,
    of equal ones the highest numbers first.

    What is cut makes a count too small, never too large; one that falls below 0 thereby counts 0. Raises LayoutError on a torn row.
    """
    neighbours, counts = signed_sums(row)
    kept = counts > 0
    neighbours, counts = neighbours[kept], counts[kept]
    if len(neighbours) > cap:
        best = np.sort(np.argsort(-counts, kind="stable")[:cap])
        neighbours, counts = neighbours[best], counts[best]
    return pack_records(neighbours.astype(np.uint32), counts)


def counted_events(batch: Interactions, types: Bools) -> Bools:
    """Return which events of a batch (n,) count: likings of the `types` (C,), by code."""
    return (batch.weights > 0) & types[batch.types]
