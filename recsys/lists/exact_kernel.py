"""Candidates of a small catalogue, user by user: the best of all items by each source, while a user's scores are in the processor's cache.

Shapes: U users, of which B are scored at once; N items; S sources with raw scores of their own for every user, P places, T rankings that
all users share, of M items each.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import exp_of_negative
from recsys.jit import compiled, compiled_sums
from recsys.lists.candidates_kernel import take_shared
from recsys.lists.context import Seen
from recsys.lists.sources.base import CountRows
from recsys.lists.sources.cooccurrence_kernel import score_dense_at, sum_rows

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

CLAMPED, SOFTENED, PLAIN = 0, 1, 2
"""What raw scores are: at least 0 after clamping; logits, whose softmax counts; or as they are."""


class RawScores(NamedTuple):
    """`scores` (S, B, N) of users from the `first` on, which are changed: `links` (S,) says what they are. Logits count over the `known`
    items (S, N); a user whose logits are all 0 has no scores."""

    scores: F32
    first: int
    known: Bools
    links: NDArray[np.int8]


class Shared(NamedTuple):
    """Data that users have in common: items that are `allowed` (N,) on lists; each ranking's best items, best first, in `tops` (T, M),
    −1 for none, of which a user gets the first `quotas` (T,) that may be listed."""

    allowed: Bools
    tops: I64
    quotas: I64


class Found(NamedTuple):
    """Candidates of each user: `numbers` (U, P), −1 for none, the raw scores of the rows and of each source, `raw` (1 + S, U, P), and the
    wide reading of rows of a matrix, `wide` (U, P)."""

    numbers: I64
    raw: F32
    wide: F32


class _Work(NamedTuple):
    """Arrays of one call: what the user may get, `listable`, and has got, `taken` (N,); all else is overwritten by each search."""

    listable: Bools
    taken: Bools
    bests: F32
    near: I64
    within: I64
    values: F32


@compiled
def choose(
    rows: CountRows, others: RawScores, quotas: I64, nominated: I64, shared: Shared, n_wanted: int, seen: Seen, found: Found
) -> None:
    """Fill `found` for B users: the first `quotas` (1 + S,) items, of those above 0, by the sum of `rows` and by each of the `others`; then
    those `nominated` (U, K), −1 for none; then the best for everybody; then others by number until there are `n_wanted`."""
    n_items = len(shared.allowed)
    work = _Work(
        shared.allowed.copy(),
        np.zeros(n_items, np.bool_),
        np.empty(-(-n_items // 8), np.float32),
        np.empty(-(-n_items // 8), np.int64),
        np.empty(n_items, np.int64),
        np.empty(n_items, np.float32),
    )
    together = np.zeros(n_items, np.float32)
    start = seen.older_ends[others.first - 1] if others.first else 0
    for row in range(others.scores.shape[1]):
        user = others.first + row
        numbers, count = found.numbers[user], 0
        end = _mark(seen, user, start, work.listable)
        if rows.places.shape[1] > 0:
            sum_rows(rows, user, together)
            count = _take_best(together, quotas[0], work, numbers, count)
        for source in range(len(others.scores)):
            _interpret(others.scores[source, row], others.links[source], others.known[source])
            count = _take_best(others.scores[source, row], quotas[1 + source], work, numbers, count)
        for place in range(nominated.shape[1]):
            item = nominated[user, place]
            if item >= 0 and work.listable[item] and not work.taken[item]:
                work.taken[item] = True
                numbers[count] = item
                count += 1
        count = take_shared(shared.tops, shared.quotas, work.listable, work.taken, numbers, count)
        item = 0
        while count < n_wanted and item < n_items:
            if work.listable[item] and not work.taken[item]:
                numbers[count] = item
                count += 1
            item += 1
        for place in range(count):
            work.taken[numbers[place]] = False
            found.raw[0, user, place] = together[numbers[place]]
            for source in range(len(others.scores)):
                found.raw[1 + source, user, place] = others.scores[source, row, numbers[place]]
        if rows.wide.shape[1] > 0 and len(rows.matrix) > 0:  # while the rows are in the processor's cache
            score_dense_at(rows, rows.places[user], rows.wide[user], numbers[:count], found.wide[user, :count])
        numbers[count:] = -1
        _unmark(seen, user, start, shared.allowed, work.listable)
        start = end


@compiled
def _mark(seen: Seen, user: int, start: int, listable: Bools) -> int:
    """Write False where the user has seen an item; the user's older items begin at `start`, the next one's where this returns."""
    histories, slot = seen.histories, seen.slots[user]
    for column in range(histories.shape[1] - seen.lengths[slot], histories.shape[1]):
        listable[histories[slot, column]] = False
    for place in range(start, seen.older_ends[user]):
        listable[seen.older[place]] = False
    end: int = seen.older_ends[user]
    return end


@compiled
def _unmark(seen: Seen, user: int, start: int, allowed: Bools, listable: Bools) -> None:
    """Write `allowed` (N,) where the user has seen an item."""
    histories, slot = seen.histories, seen.slots[user]
    for column in range(histories.shape[1] - seen.lengths[slot], histories.shape[1]):
        listable[histories[slot, column]] = allowed[histories[slot, column]]
    for place in range(start, seen.older_ends[user]):
        listable[seen.older[place]] = allowed[seen.older[place]]


@compiled
def _take_best(row: F32, quota: int, work: _Work, numbers: I64, count: int) -> int:
    """Add the first `quota` of a row of scores (N,), above 0 and listable, equal ones by number, to `numbers` from `count` on, unless they
    are taken; return how many there are. Scores that are not listable or not above 0 become 0.

    The best of each eight items say where the first can be: an item of an eight whose best is below the `quota`-th best is not among
    them."""
    if quota == 0 or len(row) == 0:
        return count
    n_eights, n_within, n_near = len(work.bests), 0, 0
    _best_of_eights(row, work.listable, work.bests)
    bound = _nth_largest(work.bests, quota)
    for eight in range(n_eights):
        work.near[n_near] = eight
        n_near += (work.bests[eight] >= bound) & (work.bests[eight] > 0)
    for first in range(0, len(row), n_eights):
        for at in range(n_near):
            item = first + work.near[at]
            if item >= len(row):
                break
            work.within[n_within], work.values[n_within] = item, row[item]
            n_within += (row[item] >= bound) & (row[item] > 0)
    least, n_equal = np.float32(0), 0
    if n_within > quota:
        least, n_equal = _nth_largest(work.values[:n_within], quota), quota
        for at in range(n_within):
            n_equal -= work.values[at] > least
    for at in range(n_within):
        item = work.within[at]
        if work.values[at] >= least:
            if work.values[at] == least:
                if n_equal == 0:
                    continue
                n_equal -= 1
            if not work.taken[item]:
                work.taken[item] = True
                numbers[count] = item
                count += 1
    return count


@compiled
def _nth_largest(values: F32, nth: int) -> np.float32:
    """Return the `nth` largest of values (n,) ≥ 0; 0 if there are fewer. Floats ≥ 0 are in the order of their bits, which are halved until
    `nth` values lie above: counting is vectorised, and takes less time than to move values."""
    if nth > len(values):
        return np.float32(0)
    bits = values.view(np.int32)
    low, high = np.int32(0), bits.max()
    while low < high:
        middle = low + (high - low + np.int32(1)) // np.int32(2)
        above = np.int32(0)
        for at in range(len(bits)):
            above += np.int32(bits[at] >= middle)
        if above == nth:
            low = high
            for at in range(len(bits)):
                low = min(low, bits[at]) if bits[at] >= middle else low
            break
        if above > nth:
            low = middle
        else:
            high = middle - np.int32(1)
    found = np.float32(0)
    for at in range(len(bits)):
        found = values[at] if bits[at] == low else found
    return found


@compiled_sums
def _best_of_eights(row: F32, listable: Bools, bests: F32) -> None:
    """Replace scores (N,) that are not listable or not above 0 by 0, and write the best of items i, i + M, i + 2 M, … into `bests` (M,), M
    = N / 8, rounded up: so this is vectorised."""
    n_eights = len(bests)
    for i in range(len(row)):
        row[i] = row[i] if listable[i] & (row[i] > 0) else np.float32(0)
    bests[:] = 0
    for first in range(0, len(row), n_eights):
        part = row[first : first + n_eights]
        for i in range(len(part)):
            bests[i] = max(bests[i], part[i])


@compiled
def _interpret(row: F32, link: int, known: Bools) -> None:
    """Replace a row of raw scores by what they count."""
    if link == SOFTENED:
        _soften(row, known)
    elif link == CLAMPED:
        _clamp(row)


@compiled_sums
def _soften(row: F32, known: Bools) -> None:
    """Replace a row of logits by their exponentials up to a factor, 0 where not known. A row of zeros stays one."""
    highest, lowest = np.float32(-np.inf), np.float32(np.inf)
    for i in range(len(row)):
        logit = row[i]
        highest = max(highest, logit if known[i] else np.float32(-np.inf))
        lowest = min(lowest, logit)
    if lowest == 0 and highest <= 0:
        row[:] = 0
        return
    for i in range(len(row)):
        row[i] = exp_of_negative(row[i] - highest) if known[i] else np.float32(0)


@compiled_sums
def _clamp(row: F32) -> None:
    for i in range(len(row)):
        row[i] = (row[i] + abs(row[i])) * np.float32(0.5)  # the maximum with 0, without a branch
