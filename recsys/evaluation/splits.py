"""Protocols: which events of a log are targets, and what their users are known by.

* Held-out items (`held_out`): the log comes split. All training interactions of a user are the history, the test items are relevant. With
  one test item for each user this is leave-one-out, with `candidates` the ranking among given negatives.
* Temporal (`temporal`): one case for each user, at one time for all: the history is what the user did before it, relevant is what came
  later and is new to the user.
* Test-then-learn (`one_by_one`): one case for each event after the split, with the history up to it. `discovery` takes first touches of
  items, `again` repeated ones. The model stays what it was at the split; the histories that it reads grow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.cases import Candidates, Cases
from recsys.evaluation.metrics import I64
from recsys.evaluation.protocol import Slice
from recsys.models.base import F32

OneByOne = Literal["discovery", "again"]
MAX_CASES = 20_000
"""Most cases of a test-then-learn evaluation; of more, evenly chosen ones count."""


def split_rows(
    users: NDArray[np.integer],
    items: NDArray[np.integer],
    item_ids: list[str],
    weights: F32,
    ts_ms: I64,
    held: NDArray[np.bool_],
    *,
    candidates: Mapping[int, I64] | None = None,
    repeats: bool = False,
) -> Cases:
    """Return the cases of a log whose `held` rows are the test, as `held_out` does. They count as later than all others.

    Shapes: (n,) each. `candidates` are by user, as numbered in `users`.
    """
    times = np.array(ts_ms, np.int64)
    if held.any() and not held.all():
        times[held] = np.maximum(times[held], int(times[~held].max()) + 1)
    if candidates is not None:  # a slice numbers its users by themselves
        candidates = {at: candidates[user] for at, user in enumerate(np.unique(users[weights != 0]).tolist()) if user in candidates}
    part = replace(Slice.cut(users, items, item_ids, weights, times, held), has_moments=bool((times == ts_ms).all()))
    return held_out(part, candidates, repeats=repeats)


def held_out(part: Slice, candidates: Mapping[int, I64] | None = None, *, repeats: bool = False) -> Cases:
    """Return one case for each user with events in the slice, all of which are relevant.

    With `repeats` also those that the user touched before: for a split that says which item is the target. `candidates` are the items
    ranked by user, as numbered in `part`; a user who has none is ranked against nothing.
    """
    chosen = _once(part, part.is_newest & (part.weights > 0))
    seen = _touched_before(part)[chosen]
    n_repeats = 0
    if not repeats:
        n_repeats, chosen = int(seen.sum()), chosen[~seen]
    return _by_user(part, chosen, candidates, n_repeats=n_repeats)


def temporal(part: Slice) -> Cases:
    """Return one case for each user with a history and a preference in the slice for an item that is new to them."""
    chosen = _once(part, part.is_newest & (part.weights > 0))
    seen = _touched_before(part)[chosen]
    starts = np.searchsorted(part.users, part.users[chosen])
    known = ~part.is_newest[starts]
    return _by_user(part, chosen[~seen & known], n_repeats=int(seen.sum()), n_without_history=int(np.count_nonzero(~known)))


def one_by_one(part: Slice, kind: OneByOne, limit: int = MAX_CASES) -> Cases:
    """Return one case for each preference in the slice, with what its user did before it as history.

    `discovery`: the user's first touches of items that somebody touched before, by users with an earlier item; the user's own items are
    not ranked. `again`: repeated touches; all items are ranked.
    """
    first = part.first_touches()
    wanted = part.is_newest & (part.weights > 0)
    before = np.concatenate(([False], part.users[1:] == part.users[:-1])) if len(part.users) else np.zeros(0, bool)
    if kind == "discovery":
        chosen = np.flatnonzero(wanted & first & before & _known_to_somebody(part))
    else:
        chosen = np.flatnonzero(wanted & ~first)
    if len(chosen) > limit:
        chosen = chosen[np.linspace(0, len(chosen) - 1, limit).astype(np.int64)]
    missed = int(np.count_nonzero(wanted & first & ~before))
    return Cases(
        part,
        chosen.astype(np.int64),
        part.items[chosen].astype(np.int64),
        np.arange(len(chosen)),
        leaves_out_seen=kind == "discovery",
        n_without_history=missed,
    )


def _by_user(
    part: Slice,
    chosen: I64,
    candidates: Mapping[int, I64] | None = None,
    *,
    n_repeats: int = 0,
    n_without_history: int = 0,
) -> Cases:
    """Return one case for each user of the chosen rows, which are the targets; its history is what is not in the slice."""
    users, case_of = np.unique(part.users[chosen], return_inverse=True)
    newest = np.flatnonzero(part.is_newest)
    rows = newest[np.searchsorted(part.users[newest], users)]
    ranked = None
    if candidates is not None:
        own = [candidates.get(user, np.zeros(0, np.int64)) for user in users.tolist()]
        starts = np.concatenate(([0], np.cumsum([len(items) for items in own]))).astype(np.int64)
        ranked = Candidates(starts, np.concatenate([*own, np.zeros(0, np.int64)]).astype(np.int64))
    targets = part.items[chosen].astype(np.int64)
    return Cases(part, rows.astype(np.int64), targets, case_of.astype(np.int64), ranked, True, n_without_history, n_repeats)


def _once(part: Slice, marked: NDArray[np.bool_]) -> I64:
    """Return the marked rows, of one user and item only the first, (k,)."""
    rows = np.flatnonzero(marked)
    keys = part.users[rows] * np.int64(max(len(part.item_ids), 1)) + part.items[rows]
    once: I64 = rows[np.sort(np.unique(keys, return_index=True)[1])].astype(np.int64)
    return once


def _touched_before(part: Slice) -> NDArray[np.bool_]:
    """Mark the rows whose user touched the item outside the slice, (n,)."""
    keys = part.users * np.int64(max(len(part.item_ids), 1)) + part.items
    return np.isin(keys, keys[~part.is_newest])


def _known_to_somebody(part: Slice) -> NDArray[np.bool_]:
    """Mark the rows whose item somebody touched earlier, (n,)."""
    order = np.argsort(part.ts_ms, kind="stable")
    known = np.ones(len(order), bool)
    known[order[np.unique(part.items[order], return_index=True)[1]]] = False
    return known
