"""Cases of new users: what people choose of whom only the profile is known.

Shapes: n events, U users, T cases, I items.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation.metrics import mean_ranks
from recsys.evaluation.protocol import Slice
from recsys.evaluation.ranking import MAX_CASES, Ranked, blocks
from recsys.models.segments.model import SegmentsModel
from recsys.state.profiles import ProfileColumns

I64 = NDArray[np.int64]

MAX_CHOICES = 5
"""Cases of one user."""


@dataclass(frozen=True, slots=True)
class FirstChoices(Slice):
    """A log and its newest slice, of which the first choices of new users with a profile judge. `profiles` (U,) by number of the user."""

    profiles: ProfileColumns = field(kw_only=True)

    @classmethod
    def of(cls, part: Slice, profiles: ProfileColumns) -> FirstChoices:
        """Return the slice with the profiles of its users."""
        columns = (part.users, part.items, part.weights, part.ts_ms, part.item_ids, part.is_newest, part.split_ts_ms)
        return cls(*columns, profiles=profiles)

    def cases(self, limit: int) -> I64:
        """Return the rows that are targets, (T,): the first preferences of users with a profile whose first interaction lies in the slice,
        at most `MAX_CHOICES` of one user and `limit` in all."""
        starts = np.searchsorted(self.users, self.users)
        is_new = self.is_newest[starts] & (self.profiles.keys[self.users, 0] != 0)
        rows = np.flatnonzero(is_new & self.first_touches() & (self.weights > 0))
        place = np.arange(len(rows)) - np.searchsorted(self.users[rows], self.users[rows])
        found = rows[place < MAX_CHOICES].astype(np.int64)
        return found[np.linspace(0, len(found) - 1, limit).astype(np.int64)] if len(found) > limit else found


def rank_by_profile(model: SegmentsModel, part: FirstChoices, *, limit: int = MAX_CASES) -> Ranked:
    """Rank the cases of a slice by segments: all items of the log except those that the user touched before. The target of a user of no
    segment is a miss, and so is one that the model does not know."""
    cases = part.cases(limit)
    known = {item_id: position for position, item_id in enumerate(model.item_ids)}
    to_model = np.array([known.get(item_id, -1) for item_id in part.item_ids], np.int64)
    in_model = to_model >= 0
    item_vectors = model.item_vectors[to_model]
    ranks, blank = np.full(len(cases), np.inf), np.zeros(len(cases), np.bool_)
    for rows in blocks(len(cases), len(part.item_ids)):
        vectors = model.encode_profiles(part.profiles.at(part.users[cases[rows]].astype(np.int64)))
        blank[rows] = ~np.any(vectors, axis=1)
        scores = vectors @ item_vectors.T
        scores[:, ~in_model] = -np.inf
        ranks[rows] = mean_ranks(scores, part.items[cases[rows]].astype(np.int64), part.seen(cases[rows]))
    unknown = ~in_model[part.items[cases]]
    ranks[unknown | blank] = np.inf
    return Ranked(part.users[cases], ranks, {"n_unknown_items": float(unknown.sum()), "n_without_segment": float(blank.sum())})
