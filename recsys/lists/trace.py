"""A list step by step: what it could have held, how that was ranked, and where each stage put it.

Shapes: U users, C candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.lists.candidates import Candidates
from recsys.lists.context import ListContext, Users
from recsys.lists.features import RecipeFeatures
from recsys.lists.filters import Filter
from recsys.lists.result import Lists
from recsys.lists.sources.base import Source
from recsys.lists.touch_policy import FOR_EVER

RANKED, PINS = "ranked", "pins"
"""Names of two steps beside those of policy stages: the ranker with what rules add to scores, and what rules pin."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Lists of users for whom rules do the same, and how they came about: the `candidates` that filters left (U, C), all of them `ranked`,
    best first, and the candidates after each of the `steps`, in their order, by name. `filters` by name."""

    users: Users
    context: ListContext
    sources: Sequence[Source]
    filters: Mapping[str, Filter]
    candidates: Candidates
    ranked: Candidates
    steps: Sequence[tuple[str, Candidates]]
    lists: Lists

    def places(self, row: int, item: int) -> list[tuple[str, int | None]]:
        """Return the place of an item after each step, 1 for the first; None where it is no candidate any more."""
        return [(name, _place(after, row, item)) for name, after in self.steps]

    def ranked_place(self, row: int, item: int) -> int | None:
        """Return the place of an item among all candidates as the ranker and what rules add to scores order them."""
        return _place(self.ranked, row, item)

    def blocked_by(self, row: int, item: int) -> list[str]:
        """Return the names of the filters that keep an item off a user's list."""
        user, number, found = self.users.part(slice(row, row + 1)), np.array([[item]], np.int64), []
        for name, one in self.filters.items():
            shared, personal = one.shared(self.context), one.personal(number, user, self.context)
            if (shared is not None and not shared[item]) or (personal is not None and not personal[0, 0]):
                found.append(name)
        return found

    def raw(self, row: int, item: int) -> dict[str, tuple[float, int | None]]:
        """Return each source's raw score of any item, and its rank among the user's candidates if it is one; equal scores have one rank."""
        user, number = self.users.part(slice(row, row + 1)), np.array([[item]], np.int64)
        at = np.flatnonzero(self.candidates.numbers[row] == item)
        found: dict[str, tuple[float, int | None]] = {}
        for source in self.sources:
            if not len(at):
                found[source.name] = float(source.score(user, number, self.context)[0, 0]), None
                continue
            scores = self.candidates.raw[source.name][row]
            better = (scores > scores[at[0]]) & (self.candidates.numbers[row] >= 0)
            found[source.name] = float(scores[at[0]]), 1 + int(np.count_nonzero(better))
        return found

    def features(self, row: int, item: int) -> dict[str, float]:
        """Return the features of a candidate that recipes read; none of an item that is no candidate."""
        at = np.flatnonzero(self.candidates.numbers[row] == item)
        if not len(at):
            return {}
        made = RecipeFeatures()(self.candidates, self.users, self.context)
        return dict(zip(made.names, made.values[row, at[0]].tolist(), strict=True))

    def parts(self, row: int, item: int) -> dict[str, float]:
        """Return what each part gave to the score of a candidate, from the least that it gave to any of the user's candidates."""
        place = self.ranked_place(row, item)
        return {} if place is None else {name: float(part[row, place - 1]) for name, part in self.ranked.parts.items()}

    def score(self, row: int, item: int) -> float | None:
        """Return the score of a candidate, as `parts` add up; the score of a list counts from the least of fewer candidates."""
        place = self.ranked_place(row, item)
        return None if place is None else float(self.ranked.scores[row, place - 1])

    def off_until_s(self, row: int, item: int) -> int | None:
        """Return the event time until which the touches of an item keep it off the user's list, which they do now; None for ever."""
        table, slot = self.context.table, int(self.users.slots[row])
        columns = np.flatnonzero(table.items[slot] == item)
        columns = columns[columns >= table.history_length - table.lengths[slot]]
        if not len(columns):
            return None  # it left the history
        at = int(columns[-1])
        off_s = self.context.options.touch_policy.table[
            int(self.context.catalogue.touch_groups[item]), int(table.weights[slot, at] < 0), int(table.types[slot, at])
        ]
        return None if off_s >= FOR_EVER else int(table.times_s[slot, at]) + int(off_s)


def _place(candidates: Candidates, row: int, item: int) -> int | None:
    at = np.flatnonzero(candidates.numbers[row] == item)
    return int(at[0]) + 1 if len(at) else None
