"""Candidates of a small catalogue, user by user: scale and add up the sources' scores of all items, leave out what was seen and choose the
best, while a user's scores are in the processor's cache.

Shapes: U users, of which B are scored at once; N items; S sources with raw scores of their own for every user, P places.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import add, exp_of_negative
from recsys.jit import compiled, compiled_sums
from recsys.lists.context import Seen
from recsys.lists.sources.base import CountRows
from recsys.lists.sources.cooccurrence_kernel import sum_rows

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

CLAMPED, SOFTENED, PLAIN = 0, 1, 2
"""What raw scores are: at least 0 after clamping; logits, whose softmax counts; or as they are."""
_RUN = 16
"""Neighbouring items of which only the best is looked at first when the top of a row is sought."""


class RawScores(NamedTuple):
    """`scores` (S, B, N) of users from the `first` on, which are changed: `links` (S,) says what they are. Logits count over the `known`
    items (S, N); a user whose logits are all 0 has no scores. They are scaled to root mean square `weights` (S,)."""

    scores: F32
    first: int
    known: NDArray[np.bool_]
    links: NDArray[np.int8]
    weights: F32


class Best(NamedTuple):
    """The best items of each user: numbers and scores (U, P); the raw scores of the rows and of each source (1 + S, U, P), and what they
    are multiplied with (1 + S, U)."""

    items: I64
    scores: F32
    raw: F32
    scales: F32


@compiled
def choose(rows: CountRows, rows_weight: np.float32, others: RawScores, everybody: F32, seen: Seen, best: Best) -> None:
    """Fill `best` for B users: the items with the largest sum of `rows`, scaled to root mean square `rows_weight`, the `others`, and what
    all users have in common in `everybody` (N,), −∞ for items that must not be listed."""
    n_items = len(everybody)
    root, has_rows = np.float32(np.sqrt(n_items)), rows.places.shape[1] > 0
    together, total, bests = np.zeros(n_items, np.float32), np.empty(n_items, np.float32), np.empty(n_items // _RUN, np.float32)
    start = seen.older_ends[others.first - 1] if others.first else 0
    for row in range(others.scores.shape[1]):
        user = others.first + row
        total[:] = everybody
        best.scales[0, user] = 0
        if has_rows:
            scale = _scale(sum_rows(rows, user, together), root * rows_weight)
            add(total, together, scale)
            best.scales[0, user] = scale
        for source in range(len(others.scores)):
            own = others.scores[source, row]
            scale = _scale(_squares(own, others.links[source], others.known[source]), root * others.weights[source])
            add(total, own, scale)
            best.scales[1 + source, user] = scale
        start = _leave_out(seen, user, start, total)
        items = best.items[user]
        _top(total, bests, items, best.scores[user])
        for place in range(len(items)):
            best.raw[0, user, place] = together[items[place]]
            for source in range(len(others.scores)):
                best.raw[1 + source, user, place] = others.scores[source, row, items[place]]


@compiled
def _leave_out(seen: Seen, user: int, start: int, total: F32) -> int:
    """Replace the scores `total` (N,) of what the user has seen by −∞; the user's older items begin at `start`, the next one's where
    this returns."""
    histories, slot = seen.histories, seen.slots[user]
    for column in range(histories.shape[1] - seen.lengths[slot], histories.shape[1]):
        total[histories[slot, column]] = -np.inf
    for place in range(start, seen.older_ends[user]):
        total[seen.older[place]] = -np.inf
    end: int = seen.older_ends[user]
    return end


@compiled
def shared_by_all(rows: F32, allowed: NDArray[np.bool_], scales: F32, total: F32) -> None:
    """Write the sum of `rows` (E, N), each scaled to the root mean square in `scales` (E,), into `total` (N,), −∞ where not `allowed` (N,).
    `scales` become what the rows are multiplied with."""
    root = np.sqrt(np.float32(len(total)))
    total[:] = 0
    for row in range(len(rows)):
        squares = np.float64(0)
        for i in range(len(total)):
            squares += np.float64(rows[row, i]) * rows[row, i]
        scales[row] = _scale(np.float32(squares), scales[row] * root)
        for i in range(len(total)):
            total[i] += rows[row, i] * scales[row]
    for i in range(len(total)):
        if not allowed[i]:
            total[i] = -np.inf


@compiled
def _squares(row: F32, link: int, known: NDArray[np.bool_]) -> np.float32:
    """Replace a row of raw scores by what they count; return its sum of squares."""
    if link == SOFTENED:
        return _softened_squares(row, known)
    return _clamped_squares(row) if link == CLAMPED else _plain_squares(row)


@compiled_sums
def _plain_squares(row: F32) -> np.float32:
    squares = np.float32(0)
    for i in range(len(row)):
        squares += row[i] * row[i]
    return squares


@compiled_sums
def _softened_squares(row: F32, known: NDArray[np.bool_]) -> np.float32:
    """Replace a row of logits by their exponentials up to a factor, 0 where not known; return the sum of squares. A row of zeros stays
    one."""
    highest, lowest = np.float32(-np.inf), np.float32(np.inf)
    for i in range(len(row)):
        logit = row[i]
        highest = max(highest, logit if known[i] else np.float32(-np.inf))
        lowest = min(lowest, logit)
    squares = np.float32(0)
    if lowest == 0 and highest <= 0:
        row[:] = 0
        return squares
    for i in range(len(row)):
        value = exp_of_negative(row[i] - highest) if known[i] else np.float32(0)
        row[i] = value
        squares += value * value
    return squares


@compiled_sums
def _clamped_squares(row: F32) -> np.float32:
    squares = np.float32(0)
    for i in range(len(row)):
        value = (row[i] + abs(row[i])) * np.float32(0.5)  # the maximum with 0, without a branch
        row[i] = value
        squares += value * value
    return squares


@compiled
def _scale(squares: np.float32, wanted: np.float32) -> np.float32:
    """Return the factor of a row with this sum of squares that makes the sum's root `wanted`; 0 for a row of zeros."""
    return np.float32(wanted / np.sqrt(squares)) if squares > 0 else np.float32(0)


@compiled
def _top(total: F32, bests: F32, items: I64, scores: F32) -> None:
    """Write the best of `total` (N,), best first, equal ones by number, into `items` and `scores` (P,). `bests` (N // _RUN,) is
    overwritten."""
    n_places, n_runs = len(items), len(bests)
    _run_bests(total, bests)
    least = np.float32(-np.inf)  # nothing below it can be among the first
    if n_runs > n_places:
        for run in range(n_runs):
            if run < n_places or bests[run] > scores[n_places - 1]:
                _insert(items, scores, min(run, n_places - 1), run, bests[run])
        least = scores[n_places - 1]
    found = 0
    for run in range(n_runs + 1):
        if run == n_runs or bests[run] >= least:
            for item in range(run * _RUN, min((run + 1) * _RUN, len(total))):
                if total[item] >= least and (found < n_places or total[item] > scores[n_places - 1]):
                    _insert(items, scores, min(found, n_places - 1), item, total[item])
                    found += 1


@compiled_sums
def _run_bests(total: F32, bests: F32) -> None:
    for run in range(len(bests)):
        best = total[run * _RUN]
        for i in range(1, _RUN):
            best = max(best, total[run * _RUN + i])
        bests[run] = best


@compiled
def _insert(items: I64, scores: F32, place: int, item: int, score: np.float32) -> None:
    """Put an item behind those before `place` that are as good; what stood at `place` is overwritten."""
    while place > 0 and scores[place - 1] < score:
        items[place], scores[place] = items[place - 1], scores[place - 1]
        place -= 1
    items[place], scores[place] = item, score
