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
from recsys.lists.sources.cooccurrence_kernel import sum_rows

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

CLAMPED, SOFTENED, PLAIN = 0, 1, 2
"""What raw scores are: at least 0 after clamping; logits, whose softmax counts; or as they are."""
_RUN = 8
"""Neighbouring items of which only the best is looked at first when the top of a row is sought."""
_BINS = 2_048


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
    """Candidates of each user: `numbers` (U, P), −1 for none, and the raw scores of the rows and of each source, `raw` (1 + S, U, P)."""

    numbers: I64
    raw: F32


class _Work(NamedTuple):
    """Arrays of one call: what the user may get, `listable`, and has got, `taken` (N,); all else is overwritten by each search."""

    listable: Bools
    taken: Bools
    bests: F32
    within: I64
    values: F32
    bits: I32
    counts: I32


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
        np.empty(-(-n_items // _RUN), np.float32),
        np.empty(n_items, np.int64),
        np.empty(n_items, np.float32),
        np.empty(n_items, np.int32),
        np.empty(_BINS, np.int32),
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

    The best of each run of neighbouring items say where the first can be: an item below the `quota`-th best run is not among them."""
    if quota == 0:
        return count
    _run_bests(row, work.listable, work.bests)
    bound = _nth_largest(work.bests, quota, work)
    n_within = 0
    for run in range(len(work.bests)):
        if work.bests[run] >= bound and work.bests[run] > 0:
            for item in range(run * _RUN, min((run + 1) * _RUN, len(row))):
                if row[item] >= bound and row[item] > 0:
                    work.within[n_within], work.values[n_within] = item, row[item]
                    n_within += 1
    least, n_equal = _nth_largest(work.values[:n_within], quota, work), quota
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
def _nth_largest(values: F32, nth: int, work: _Work) -> np.float32:
    """Return the `nth` largest of values (n,) ≥ 0; 0 if there are fewer. Floats ≥ 0 are in the order of their bits: the values are counted
    by the upper 11 bits, those that share them with the one that is sought by the next 11, and those left by the last 9."""
    n, bits, counts, left = len(values), values.view(np.int32), work.counts, work.bits
    if nth > n:
        return np.float32(0)
    left[:n] = bits
    above, shift, found = 0, np.int32(20), np.int32(0)
    while True:
        counts[:] = 0
        highest = np.int32(0)
        for at in range(n):
            digit = (left[at] >> shift) & np.int32(_BINS - 1)
            counts[digit] += 1
            highest = max(highest, digit)
        digit = highest
        while above + counts[digit] < nth:
            above += counts[digit]
            digit -= np.int32(1)
        found |= digit << shift
        n_left = 0
        for at in range(n):
            is_left = (left[at] >> shift) & np.int32(_BINS - 1) == digit
            left[n_left] = left[at]
            n_left += is_left
        n = n_left
        if shift == 0:
            break
        shift = np.int32(9) if shift == 20 else np.int32(0)
    work.bits[0] = found
    return work.bits[:1].view(np.float32)[0]


@compiled_sums
def _run_bests(row: F32, listable: Bools, bests: F32) -> None:
    """Replace scores (N,) that are not listable or not above 0 by 0, and write the best of each run into `bests` (N / _RUN, rounded up)."""
    for i in range(len(row)):
        row[i] = row[i] if listable[i] and row[i] > 0 else np.float32(0)
    for run in range(len(row) // _RUN):
        best = row[run * _RUN]
        for i in range(1, _RUN):
            best = max(best, row[run * _RUN + i])
        bests[run] = best
    if len(row) % _RUN:
        bests[-1] = row[len(row) - len(row) % _RUN :].max()


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
