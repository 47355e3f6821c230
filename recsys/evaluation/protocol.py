"""The evaluation protocol: which events of a log judge, and the history from which each of them is ranked.

Every event outside the newest slice trains. Each preference in the slice for an item new to its user is a case, if its user has a history.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ShapeError
from recsys.evaluation.metrics import F64, I64
from recsys.models.base import F32, I32, Histories
from recsys.models.descriptions import Descriptions
from recsys.state.profiles import ProfileColumns

MAX_CASES_PER_USER = 50
"""Bounds what one account can contribute to a comparison."""


def temporal_split(ts_ms: I64, holdout: float) -> int:
    """Return the event time (ms) at which the newest share `holdout` of the events begins: earlier events train, the others judge.

    Events of one millisecond stay together, in the slice.
    Shapes: ts_ms (n,), event times in milliseconds.
    Raises: ShapeError without events; ValueError if `holdout` is not between 0 and 1.
    """
    at = len(ts_ms) - _slice_size(len(ts_ms), holdout)
    return int(np.partition(ts_ms, at)[at])


def newest_events(ts_ms: I64, arrivals: F64, holdout: float, *, unseen: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Mark the events that judge, (n,). All others train.

    For a first model these are the events from `temporal_split` on. If many events share one time, so that less than half of the intended
    training events would be left, they are divided by arrival: the later ones judge.
    With a champion, `unseen` marks the events that arrived after its training. The slice is then taken by arrival: the share `holdout` of
    all events, at most the later half of the unseen ones. So no model is judged on its own training data, the challenger learns from events
    that the champion has not seen, and imported history counts although its event times are old.
    Shapes: (n,) each; `ts_ms` in milliseconds, `arrivals` any numbers that grow with arrival.
    Raises: ShapeError without events, or without any that the champion has not seen; ValueError if `holdout` is not between 0 and 1.
    """
    if unseen is not None:
        places = np.flatnonzero(unseen)
        if not len(places):
            raise ShapeError("no event is newer than those the champion has seen")
        n_slice = min(_slice_size(len(ts_ms), holdout), max(1, len(places) // 2))
        return _marked(places[np.lexsort((ts_ms[places], arrivals[places]))[-n_slice:]], len(ts_ms))
    n_slice = _slice_size(len(ts_ms), holdout)
    is_newest: NDArray[np.bool_] = ts_ms >= temporal_split(ts_ms, holdout)
    if 2 * np.count_nonzero(~is_newest) >= len(ts_ms) - n_slice:
        return is_newest
    return _marked(np.lexsort((arrivals, ts_ms))[-n_slice:], len(ts_ms))


def _slice_size(n_events: int, holdout: float) -> int:
    """Return the number of events that judge: the share `holdout`, and at least one. Raises: ShapeError, ValueError."""
    if not 0 < holdout < 1:
        raise ValueError("holdout must lie between 0 and 1")
    if not n_events:
        raise ShapeError("a temporal split needs events")
    return max(1, int(np.ceil(n_events * holdout)))


def thinned(rows: I64, users: NDArray[np.integer], most: int = MAX_CASES_PER_USER) -> I64:
    """Return at most `most` rows of each user, evenly chosen. Shapes: rows (k,), ascending; users (n,), the user of each row."""
    order = np.argsort(users[rows], kind="stable")
    sorted_users = users[rows][order]
    starts = np.searchsorted(sorted_users, sorted_users, "left")
    counts = np.searchsorted(sorted_users, sorted_users, "right") - starts
    place = np.arange(len(rows)) - starts
    return np.sort(rows[order[(place + 1) * most // np.maximum(counts, 1) > place * most // np.maximum(counts, 1)]])


def _marked(places: NDArray[np.integer], n_events: int) -> NDArray[np.bool_]:
    marked = np.zeros(n_events, bool)
    marked[places] = True
    return marked


@dataclass(frozen=True, slots=True)
class Slice:
    """A log and its newest slice: events in the slice judge, all others train.

    Shapes: `users`, `items`, `weights`, `ts_ms` and `is_newest` are (n,), sorted by user, oldest first within a user. `items` are positions
    in `item_ids`, `weights` unitless preferences, `is_newest` marks the slice. `split_ts_ms` is the oldest event time in the slice, in
    milliseconds.
    """

    users: I32
    items: I32
    weights: F32
    ts_ms: I64
    item_ids: list[str]
    is_newest: NDArray[np.bool_]
    split_ts_ms: int
    types: NDArray[np.uint8] | None = None
    """Codes of event types, (n,), where they are known."""
    descriptions: Descriptions | None = None
    """What items say, for models that serve items by it which they have no events of."""
    user_profiles: ProfileColumns | None = None
    """Profiles of the users, (U,) by their numbers, for models that read them beside histories."""
    has_moments: bool = True
    """False: times of the slice say that it is newer, and not when it was; then no gap before a case is known."""

    @classmethod
    def cut(
        cls,
        users: NDArray[np.integer],
        items: NDArray[np.integer],
        item_ids: list[str],
        weights: F32,
        ts_ms: I64,
        newest: int | NDArray[np.bool_],
        types: NDArray[np.integer] | None = None,
    ) -> Slice:
        """Sort a log's columns, given in any order; `newest` marks the slice (n,), or is the event time (ms) at which it begins.

        Events of weight 0 are dropped. Events of one user and time keep their order.
        Shapes: (n,) each; `items` are positions in `item_ids`, `users` any whole numbers.
        """
        is_newest = ts_ms >= newest if isinstance(newest, int) else newest
        split_ts_ms = newest if isinstance(newest, int) else int(ts_ms[newest].min(initial=np.iinfo(np.int64).max))
        kept = weights != 0
        _, dense = np.unique(users[kept], return_inverse=True)
        order = np.lexsort((ts_ms[kept], dense))
        return cls(
            dense[order].astype(np.int32),
            items[kept][order].astype(np.int32),
            weights[kept][order].astype(np.float32),
            ts_ms[kept][order].astype(np.int64),
            item_ids,
            is_newest[kept][order],
            split_ts_ms,
            None if types is None else types[kept][order].astype(np.uint8),
        )

    def first_touches(self) -> NDArray[np.bool_]:
        """Mark each user's first interaction with each item, (n,)."""
        keys = self.users * np.int64(max(len(self.item_ids), 1)) + self.items
        _, first = np.unique(keys, return_index=True)
        return _marked(first, len(keys))

    def cases(self, limit: int) -> I64:
        """Return the rows that are targets, (T,): at most `limit` in all and MAX_CASES_PER_USER of one user, evenly chosen.

        A target is a preference in the slice for an item that is new to its user, who touched another one before: without a history there
        is nothing to rank from.
        """
        found = thinned(np.flatnonzero(self._fresh() & self._has_history()).astype(np.int64), self.users)
        return found[np.linspace(0, len(found) - 1, limit).astype(np.int64)] if len(found) > limit else found

    def n_without_history(self) -> int:
        """Return the number of preferences in the slice that are no targets because their user touched nothing before."""
        return int(np.count_nonzero(self._fresh() & ~self._has_history()))

    def _fresh(self) -> NDArray[np.bool_]:
        """Mark the preferences in the slice for items new to their user, (n,)."""
        return self.first_touches() & self.is_newest & (self.weights > 0)

    def _has_history(self) -> NDArray[np.bool_]:
        """Mark the rows of users with an earlier row, (n,)."""
        return np.concatenate(([False], self.users[1:] == self.users[:-1])) if len(self.users) else np.zeros(0, bool)

    def histories(self, cases: I64, length: int, to_model: I32, repeats: tuple[I64, F32] | None = None) -> Histories:
        """Return the `length` items that each case's user touched last before it, as histories of T users.

        One entry per item, as workers hold it: at its last touch, with the strongest weight since its sign last changed. `repeats` is
        `self.repeats()`, which spares finding them again. The list is made at the time of the case, as in replays of the recipe.
        Shapes: cases (T,), row numbers; to_model (I,), each item's position on the model's item axis (−1: unknown to the model).
        """
        following, strongest = self.repeats() if repeats is None else repeats
        starts = np.searchsorted(self.users, self.users[cases])
        shape = (len(cases), length)
        items, weights, ages = np.full(shape, -1, np.int32), np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        gaps, types = np.zeros(len(cases), np.float32), None if self.types is None else np.zeros(shape, np.uint8)
        for at, (start, case) in enumerate(zip(starts.tolist(), cases.tolist(), strict=True)):
            rows = (start + np.flatnonzero(following[start:case] >= case))[-length:]  # each item's last touch before the case
            if len(rows):
                items[at, -len(rows) :] = to_model[self.items[rows]]
                weights[at, -len(rows) :] = strongest[rows]
                ages[at, -len(rows) :] = (self.ts_ms[rows[-1]] - self.ts_ms[rows]) / 1000.0
                gaps[at] = (self.ts_ms[case] - self.ts_ms[rows[-1]]) / 1000.0
                if types is not None and self.types is not None:
                    types[at, -len(rows) :] = self.types[rows]
        return Histories(items, weights, ages, gaps if self.has_moments else None, types)

    def repeats(self) -> tuple[I64, F32]:
        """Return, for each row, the next row of the same user and item, or n; and the strongest weight of that item in an unbroken run of
        one sign up to this row. Two (n,)."""
        n = len(self.users)
        order = np.lexsort((np.arange(n), self.items, self.users))
        same = np.flatnonzero((self.users[order][1:] == self.users[order][:-1]) & (self.items[order][1:] == self.items[order][:-1]))
        following, strongest = np.full(n, n, np.int64), self.weights.copy()
        following[order[same]] = order[same + 1]
        for earlier, later in zip(order[same].tolist(), order[same + 1].tolist(), strict=True):
            if strongest[earlier] * strongest[later] > 0 and abs(strongest[earlier]) > abs(strongest[later]):
                strongest[later] = strongest[earlier]
        return following, strongest

    def seen(self, cases: I64) -> NDArray[np.bool_]:
        """Mark the items that each case's user touched before it, (T, I)."""
        mask = np.zeros((len(cases), len(self.item_ids)), bool)
        starts = np.searchsorted(self.users, self.users[cases])
        lengths = cases - starts
        rows = np.repeat(np.arange(len(cases)), lengths)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        mask[rows, self.items[np.repeat(starts, lengths) + within]] = True
        return mask
