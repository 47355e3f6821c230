"""Impressions of a log that is replayed, folded with its choices as the stream worker folds them.

The list that led to an event was made when its user's event before came, so its own impressions are an outcome of it. They are folded with
the user's next event, before that event itself, and no case of that event knows them: a case reads the counts that the worker held when it
made the list. Impressions after a user's last event are never folded.

Shapes: n events, m impressions, k folded ones and choices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ShapeError
from recsys.state.shown import ShownEvents

I64 = NDArray[np.int64]

NO_CODE = -1


@dataclass(frozen=True, slots=True, eq=False)
class Impressions:
    """Impressions in order of arrival, all (m,): `users` and `items` are the log's numbers, `times_s` seconds, and `places` how many of the
    log's events arrived before, ascending. `type_code` is the code of an impression among the log's types: an event of that type, which an
    impression with a weight is, is one of these and no choice.

    Raises: ShapeError for columns of different lengths, and for places that fall.
    """

    users: I64
    items: I64
    times_s: I64
    places: I64
    type_code: int = NO_CODE

    def __post_init__(self) -> None:
        for name in ("items", "times_s", "places"):
            if len(getattr(self, name)) != len(self):
                raise ShapeError(f"{name} has {len(getattr(self, name))} entries for {len(self)} impressions")
        if (np.diff(self.places) < 0).any():
            raise ShapeError("places of impressions must ascend: sort the impressions by arrival")

    def __len__(self) -> int:
        return len(self.users)

    def first(self, n_events: int) -> Impressions:
        """Return those that arrived before event number `n_events` of the log."""
        rows = slice(int(np.searchsorted(self.places, n_events)))
        return Impressions(self.users[rows], self.items[rows], self.times_s[rows], self.places[rows], self.type_code)


@dataclass(frozen=True, slots=True, eq=False)
class ShownLog:
    """Impressions and choices in the order in which they are folded, all (k,): `places` are those of the events with which they are,
    `is_shown` marks impressions."""

    places: I64
    users: I64
    items: NDArray[np.uint32]
    times_s: NDArray[np.uint32]
    is_shown: NDArray[np.bool_]

    @classmethod
    def of(cls, impressions: Impressions, users: I64, items: I64, times_s: I64, is_choice: NDArray[np.bool_]) -> ShownLog:
        """Return the impressions with the events of a log, all (n,), of which some are choices."""
        released = _next_events(impressions, users)
        kept, chosen = np.flatnonzero(released < len(users)), np.flatnonzero(is_choice)
        places = np.concatenate((released[kept], chosen))
        is_shown = np.arange(len(places)) < len(kept)
        order = np.lexsort((~is_shown, places))  # stable: impressions stay in order of arrival
        return cls(
            places[order],
            np.concatenate((impressions.users[kept], users[chosen]))[order],
            np.concatenate((impressions.items[kept], items[chosen])).astype(np.uint32)[order],
            np.concatenate((impressions.times_s[kept], times_s[chosen])).astype(np.uint32)[order],
            is_shown[order],
        )

    def between(self, start: int, end: int, slot_of: Callable[[int], int]) -> ShownEvents:
        """Return what is folded with the events from `start` to `end` − 1, user after user; `slot_of` gives a user's slot."""
        rows = slice(*np.searchsorted(self.places, (start, end)).tolist())
        order = np.argsort(self.users[rows], kind="stable")
        users, counts = np.unique(self.users[rows], return_counts=True)
        slots = np.array([slot_of(user) for user in users.tolist()], np.int64)
        columns = self.items[rows][order], self.times_s[rows][order], self.is_shown[rows][order]
        return ShownEvents(slots, counts.astype(np.int64), *columns)


def _next_events(impressions: Impressions, users: I64) -> I64:
    """Return for each impression the place of the first event of its user that did not arrive before, (m,); n, the number of events, for
    none."""
    n = len(users)
    keys = np.sort(users * (n + 1) + np.arange(n))
    found = np.append(keys, -1)[np.searchsorted(keys, impressions.users * (n + 1) + impressions.places)]
    return np.where(found // (n + 1) == impressions.users, found % (n + 1), n)
