"""Brings a list's mix of categories nearer to that of the user's own history.

Shapes: U users, P ranked candidates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.labels import CATEGORY
from recsys.lists.candidates import Candidates
from recsys.lists.context import ListContext, Users
from recsys.lists.policies import calibration_kernel
from recsys.lists.policies.relevance import relevance
from recsys.lists.scratch import Scratch

I64 = NDArray[np.int64]

_places = Scratch(np.int32)


class Calibration:
    """Fills the places one by one with the candidate that is best by relevance and by how near it brings the list's categories to the
    user's own: those of the liked items of the whole history, by the entries' weights. A user whose history names none is left alone."""

    def __call__(self, candidates: Candidates, size: int, users: Users, context: ListContext) -> Candidates:
        options = context.options.policy.calibration
        if options is None or options.strength <= 0:
            return candidates
        labels, order = context.catalogue.labels[CATEGORY], np.empty(candidates.numbers.shape, np.int64)
        categories = calibration_kernel.Categories(labels.of, labels.sets)
        with _places.borrowed(max(labels.bound, 1)) as places:
            calibration_kernel.calibrate(
                np.ascontiguousarray(candidates.numbers),
                relevance(candidates),
                users.entries(context),
                categories,
                size,
                float(options.strength),
                places,
                order,
            )
        return candidates.at(order)
