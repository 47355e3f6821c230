"""Applies touches, compiled: entries of histories, pairs of items, and what popularity adds. The rules: `recsys.state.touches`.

Shapes: U users, n interactions, p pairs, C slots and H columns of a user table, W distances, V windows of popularity. Inside, one user's
entries lie in `own` from `start` to `end`, oldest first; `own` has room for as many more as the user has events.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.jit import compiled, inlined
from recsys.state.user_columns import WEIGHT_UNITS, Columns, Histories

U32 = NDArray[np.uint32]
I64 = NDArray[np.int64]
Whole = Any
"""int or np.int64, which are one kind where it is compiled."""

DAY_S = 86_400
MOST_TOUCHES = 255
SQUARE = WEIGHT_UNITS * WEIGHT_UNITS
HALF = SQUARE // 2


class Batch(NamedTuple):
    """A micro-batch: `slots` and `counts` (U,), the others (n,), user after user."""

    slots: I64
    counts: I64
    items: U32
    times_s: U32
    weights: NDArray[np.int8]
    types: NDArray[np.int8]


class Rules(NamedTuple):
    """The rules as numbers: amounts by distance (W,), for two weights of 1; by window (V,) in how many seconds a user counts once for an
    item, 0 where that goes by visits; and bit c of `kept_types` for a type c whose items are remembered when they leave the history."""

    forward: I64
    backward: I64
    periods_s: I64
    epoch_s: int
    session_s: int
    pairings: int
    touches: int
    partner_touches: int
    budget: int
    refill: int
    kept_types: int


class PairRows(NamedTuple):
    """Pairs, (p,) each; `sources` are the numbers of the interactions that made them."""

    rows: U32
    neighbours: U32
    amounts: I64
    sources: I64


class Touched(NamedTuple):
    """Where results go: `pairs`, room for 4 W n; `popularity` (V, n), zeros; the histories `after` (U, H), of which only what is in use is
    written; and the item that each event pushed out of its history to be remembered, `left` (n,), −1 for none."""

    pairs: PairRows
    popularity: I64
    after: Histories
    left: I64


@compiled
def touch(batch: Batch, held: Histories, rules: Rules, own: Columns, out: Touched) -> int:
    """Apply a batch to copies of the histories that are `held` (C, H), one event after another; return how many pairs it made."""
    n_columns, event, n_pairs = held.columns.items.shape[1], 0, 0
    for user in range(len(batch.slots)):
        slot = batch.slots[user]
        start, end, spent = np.int64(0), np.int64(held.lengths[slot]), np.int64(held.spent[slot])
        _copy_entries(_row(held.columns, slot), n_columns - end, own, start, end)
        for _ in range(batch.counts[user]):
            start, end, spent, n_pairs = _learn(batch, event, rules, own, start, end, spent, n_columns, n_pairs, out)
            event += 1
        _copy_entries(own, start, _row(out.after.columns, user), n_columns - (end - start), end - start)
        out.after.lengths[user], out.after.spent[user] = end - start, spent
    return n_pairs


@compiled
def put_back(after: Histories, slots: I64, held: Histories) -> None:
    """Replace the histories in `slots` (U,) by those `after` (U, H) a batch."""
    n_columns = held.columns.items.shape[1]
    for user in range(len(slots)):
        slot, first = slots[user], n_columns - after.lengths[user]
        _copy_entries(_row(after.columns, user), first, _row(held.columns, slot), first, after.lengths[user])
        held.lengths[slot], held.spent[slot] = after.lengths[user], after.spent[user]


@inlined
def _row(table: Columns, row: Whole) -> Columns:
    return Columns(
        table.items[row],
        table.times_s[row],
        table.first_s[row],
        table.weights[row],
        table.types[row],
        table.counts[row],
        table.visits[row],
    )


@inlined
def _copy_entries(source: Columns, start: Whole, target: Columns, first: Whole, n: Whole) -> None:
    """Copy n entries from `start` on to `first` and the places behind it: column after column, which is vectorised."""
    for i in range(n):
        target.items[first + i] = source.items[start + i]
    for i in range(n):
        target.times_s[first + i] = source.times_s[start + i]
    for i in range(n):
        target.first_s[first + i] = source.first_s[start + i]
    for i in range(n):
        target.weights[first + i] = source.weights[start + i]
    for i in range(n):
        target.types[first + i] = source.types[start + i]
    for i in range(n):
        target.counts[first + i] = source.counts[start + i]
    for i in range(n):
        target.visits[first + i] = source.visits[start + i]


@inlined
def _learn(
    batch: Batch,
    event: Whole,
    rules: Rules,
    own: Columns,
    start: Whole,
    end: Whole,
    spent: Whole,
    n_columns: Whole,
    n_pairs: Whole,
    out: Touched,
) -> tuple[Whole, Whole, Whole, Whole]:
    """Apply one event to its user's entries; return where they begin and end, the events that count of late, and how many pairs there
    are."""
    item, at_s, weight = batch.items[event], np.int64(batch.times_s[event]), np.int64(batch.weights[event])
    place: Whole = end
    where: Whole = np.int64(-1)
    while place > start and np.int64(own.times_s[place - 1]) > at_s:
        place -= 1
    for column in range(start, end):  # to the end, which is vectorised
        where = max(where, column if own.items[column] == item else np.int64(-1))
    is_held, is_full = where >= 0, end - start == n_columns
    if end > start:
        newest_s = np.int64(own.times_s[end - 1])
        spent = max(spent - rules.refill * (max(at_s, newest_s) // DAY_S - newest_s // DAY_S), 0)
    if is_full and place == start and not is_held:  # older than all that the history can hold
        if (rules.kept_types >> np.int64(batch.types[event])) & 1:
            out.left[event] = item
        return start, end, spent, n_pairs
    visits: Whole = np.int64(0)
    goes_on: Whole = False
    if is_held:
        last_s = np.int64(own.times_s[where])
        is_later_epoch = at_s // rules.epoch_s > last_s // rules.epoch_s
        goes_on = own.weights[where] > 0 and abs(at_s - last_s) <= rules.session_s
        visits = np.int64(goes_on) if is_later_epoch else np.int64(own.visits[where])
    if weight > 0 and spent < rules.budget:
        n_before = n_pairs
        counts = _count(batch, event, rules, own, where, visits, goes_on, out.popularity)
        if not goes_on and visits < rules.pairings:
            n_pairs = _pair(batch, event, rules, own, start, end, place, where, n_pairs, out.pairs)
        elif is_held:
            grown = _grown(batch, event, rules, own, where, visits)
            if grown > 0:
                n_pairs = _strengthen(batch, event, rules, own, start, end, where, grown, n_pairs, out.pairs)
        if not goes_on:
            has_flipped = is_held and own.weights[where] <= 0
            visits = max(visits, min(visits + 1, max(rules.pairings, rules.touches) + np.int64(has_flipped)))
        spent += counts or n_pairs > n_before
    if is_held:
        _touch_again(batch, event, own, where, place, visits)
        return start, end, spent, n_pairs
    if is_full:
        if (rules.kept_types >> np.int64(own.types[start])) & 1:
            out.left[event] = own.items[start]
        start += 1
    _move(own, place, end, 1)
    _put(own, place, item, at_s, at_s, weight, np.int64(batch.types[event]), np.int64(1), visits)
    return start, end + 1, spent, n_pairs


@inlined
def _count(batch: Batch, event: Whole, rules: Rules, own: Columns, where: Whole, visits: Whole, goes_on: bool, popularity: I64) -> bool:
    """Note what a positive event on the entry at `where` (−1: none) adds to each window of popularity; return True if it adds anything."""
    at_s, weight = np.int64(batch.times_s[event]), np.int64(batch.weights[event])
    counts: Whole = False
    held = np.int64(own.weights[where]) if where >= 0 else np.int64(0)
    last_s = np.int64(own.times_s[where]) if where >= 0 else np.int64(0)
    again = visits < rules.touches
    grown: Whole = _grown(batch, event, rules, own, where, visits) if where >= 0 else np.int64(0)
    for window in range(len(rules.periods_s)):
        period_s = rules.periods_s[window]
        amount: Whole = weight
        if where >= 0 and not (period_s > 0 and at_s // period_s > last_s // period_s):
            is_same = period_s == 0 or at_s // period_s == last_s // period_s
            may_repeat = period_s == 0 or held <= 0 or not is_same
            if goes_on or not again or not may_repeat:
                amount = grown if is_same else np.int64(0)
        popularity[window, event] = amount
        counts |= amount > 0
    return bool(counts)


@inlined
def _grown(batch: Batch, event: Whole, rules: Rules, own: Columns, where: Whole, visits: Whole) -> Whole:
    """Return by how much a positive event is stronger than the positive entry at `where`; 0 once it came back too often from a dislike."""
    held, most = np.int64(own.weights[where]), max(rules.pairings, rules.touches)
    return max(np.int64(batch.weights[event]) - held, 0) if held > 0 and visits <= most else np.int64(0)


@inlined
def _pair(
    batch: Batch,
    event: Whole,
    rules: Rules,
    own: Columns,
    start: Whole,
    end: Whole,
    place: Whole,
    where: Whole,
    found: Whole,
    out: PairRows,
) -> Whole:
    """Write the pairs of an event that belongs before `place`: with W positive entries of other items before it and, if it is late, with
    those that follow within its session. Return how many pairs there are."""
    weight, last_s = np.int64(batch.weights[event]), np.int64(batch.times_s[event]) + rules.session_s
    found = _pair_before(batch, event, rules, own, start, place, where, weight, found, out)
    return _pair_behind(batch, event, rules, own, place, end, where, weight, last_s, found, out)


@inlined
def _strengthen(
    batch: Batch,
    event: Whole,
    rules: Rules,
    own: Columns,
    start: Whole,
    end: Whole,
    where: Whole,
    grown: Whole,
    found: Whole,
    out: PairRows,
) -> Whole:
    """Write what an event that is stronger than the entry at `where`, by `grown`, adds to pairs with the entries around it. Return how many
    pairs there are."""
    found = _pair_before(batch, event, rules, own, start, where, where, grown, found, out)
    return _pair_behind(batch, event, rules, own, where, end, where, grown, np.int64(own.times_s[end - 1]), found, out)


@inlined
def _pair_before(
    batch: Batch,
    event: Whole,
    rules: Rules,
    own: Columns,
    start: Whole,
    place: Whole,
    where: Whole,
    weight: Whole,
    found: Whole,
    out: PairRows,
) -> Whole:
    """Write pairs with W entries before `place` that may be partners, but not the one at `where`. Return how many pairs there are."""
    distance = 0
    for other in range(place - 1, start - 1, -1):
        if distance == len(rules.forward):
            break
        if other != where and _is_partner(rules, own, other):
            product = weight * np.int64(own.weights[other])
            found = _add(rules, own.items[other], batch.items[event], product, distance, event, found, out)
            distance += 1
    return found


@inlined
def _pair_behind(
    batch: Batch,
    event: Whole,
    rules: Rules,
    own: Columns,
    place: Whole,
    end: Whole,
    where: Whole,
    weight: Whole,
    last_s: Whole,
    found: Whole,
    out: PairRows,
) -> Whole:
    """Write pairs with W entries from `place` on that may be partners and were touched at `last_s` at the latest, but not the one at
    `where`. Return how many pairs there are."""
    distance = 0
    for other in range(place, end):
        if distance == len(rules.forward) or np.int64(own.times_s[other]) > last_s:
            break
        if other != where and _is_partner(rules, own, other):
            product = weight * np.int64(own.weights[other])
            found = _add(rules, batch.items[event], own.items[other], product, distance, event, found, out)
            distance += 1
    return found


@inlined
def _is_partner(rules: Rules, own: Columns, other: Whole) -> bool:
    return bool(own.weights[other] > 0 and np.int64(own.counts[other]) <= rules.partner_touches)


@inlined
def _add(
    rules: Rules, came_first: Whole, came_then: Whole, product: Whole, distance: Whole, event: Whole, found: Whole, out: PairRows
) -> Whole:
    """Write what a pair adds to both rows, where that is not 0; return how many pairs there are."""
    amount = (product * rules.forward[distance] + HALF) // SQUARE
    if amount > 0:
        out.rows[found], out.neighbours[found], out.amounts[found], out.sources[found] = came_first, came_then, amount, event
        found += 1
    amount = (product * rules.backward[distance] + HALF) // SQUARE
    if amount > 0:
        out.rows[found], out.neighbours[found], out.amounts[found], out.sources[found] = came_then, came_first, amount, event
        found += 1
    return found


@inlined
def _touch_again(batch: Batch, event: Whole, own: Columns, where: Whole, place: Whole, visits: Whole) -> None:
    """Change the entry at `where` by an event that belongs before `place`, and move it there unless the event is late."""
    at_s, weight, kind = np.int64(batch.times_s[event]), np.int64(batch.weights[event]), np.int64(batch.types[event])
    held, held_kind = np.int64(own.weights[where]), np.int64(own.types[where])
    is_late = at_s < np.int64(own.times_s[where])
    if (weight > 0) == (held > 0):
        is_taken = abs(weight) > abs(held) or (abs(weight) == abs(held) and not is_late)
    else:
        is_taken = not is_late
    if not is_taken:
        weight, kind = held, held_kind
    first_s = min(np.int64(own.first_s[where]), at_s)
    count = min(np.int64(own.counts[where]) + 1, MOST_TOUCHES)
    if is_late:
        _put(own, where, own.items[where], np.int64(own.times_s[where]), first_s, weight, kind, count, visits)
        return
    item = own.items[where]
    _move(own, where + 1, place, -1)
    _put(own, place - 1, item, at_s, first_s, weight, kind, count, visits)


@inlined
def _put(
    own: Columns, at: Whole, item: Whole, last_s: Whole, first_s: Whole, weight: Whole, kind: Whole, count: Whole, visits: Whole
) -> None:
    own.items[at], own.times_s[at], own.first_s[at] = item, last_s, first_s
    own.weights[at], own.types[at], own.counts[at], own.visits[at] = weight, kind, count, visits


@inlined
def _move(own: Columns, first: Whole, end: Whole, step: Whole) -> None:
    """Move the entries from `first` to `end` by one place: to the right with `step` 1, to the left with −1."""
    n = end - first
    for i in range(n):
        source = end - 1 - i if step > 0 else first + i
        target = source + step
        own.items[target], own.times_s[target], own.first_s[target] = own.items[source], own.times_s[source], own.first_s[source]
        own.weights[target], own.types[target] = own.weights[source], own.types[source]
        own.counts[target], own.visits[target] = own.counts[source], own.visits[source]
