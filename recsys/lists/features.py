"""Features of candidates: what a ranker sees.

Shapes: U users, C candidates, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.lists.candidates import Candidates
from recsys.lists.context import ListContext, Users

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """`values` (U, C, F) by `names` (F). Each feature's values lie together in memory."""

    names: tuple[str, ...]
    values: F32

    @classmethod
    def of(cls, names: tuple[str, ...], columns: F32) -> Features:
        """Return features whose values are `columns` (F, U, C)."""
        return cls(names, columns.transpose(1, 2, 0))

    def column(self, name: str) -> F32:
        """Return one feature, (U, C)."""
        return self.values[:, :, self.names.index(name)]

    def at(self, places: I64) -> Features:
        """Return the features at flat `places` (U, K) of (U, C)."""
        columns = self.values.transpose(2, 0, 1)
        return Features.of(self.names, columns.reshape(len(columns), -1)[:, places])


class FeatureMaker(Protocol):
    """Computes features from candidates, in serving and in training alike. `version` changes with what they mean."""

    version: int

    def __call__(self, candidates: Candidates, users: Users, context: ListContext) -> Features: ...


class SourceParts:
    """Makes one feature of each source: its raw score, scaled to root mean square 1 over all items, times its weight."""

    version = 1

    def __call__(self, candidates: Candidates, users: Users, context: ListContext) -> Features:
        columns = np.empty((len(candidates.raw), *candidates.numbers.shape), np.float32)
        for column, (name, raw) in zip(columns, candidates.raw.items(), strict=True):
            np.multiply(raw, candidates.scales[name][:, None], out=column)
        return Features.of(tuple(candidates.raw), columns)
