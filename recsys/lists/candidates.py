"""Candidates of lists, on which filters, features, the ranker and the policy work.

Shapes: U users, C candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from recsys.lists import candidates_kernel

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Items that may be listed, all (U, C): `numbers`, −1 for none; each source's `raw` scores; and `scales` (U,), which make them shares
    of the user's best candidate's, times the source's weight. After ranking: `scores`, what each feature gave to them (`parts`), and the
    `propensities` of being listed. `wide` (U, C) is the wide reading of co-occurrence where it is known already. Where a number is −1, a
    score is −∞ and all else may be anything.
    `reference` (U,) by part is what each gave to the average candidate, where the ranker says so."""

    numbers: I64
    raw: Mapping[str, F32]
    scales: Mapping[str, F32]
    scores: F32
    parts: Mapping[str, F32]
    propensities: F32
    wide: F32 | None = None
    fades: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Of sources whose weight falls with the length of the history: `Source.fades`."""
    reference: Mapping[str, F32] | None = None

    @classmethod
    def unranked(
        cls,
        numbers: I64,
        raw: Mapping[str, F32],
        weights: Mapping[str, float],
        wide: F32 | None = None,
        fades: Mapping[str, tuple[int, ...]] | None = None,
    ) -> Candidates:
        """Return candidates that no ranker has seen. `weights` by source name."""
        none, scales = np.zeros((len(numbers), 0), np.float32), {}
        for name, scores in raw.items():
            scales[name] = np.empty(len(numbers), np.float32)
            candidates_kernel.scale(scores, numbers, np.float32(weights.get(name, 1.0)), scales[name])
        return cls(numbers, raw, scales, none, {}, none, wide, fades or {})

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def valid(self) -> Bools:
        """Return where there is a candidate, (U, C)."""
        return self.numbers >= 0

    def only(self, kept: Bools) -> Candidates:
        """Return the candidates that are `kept` (U, C)."""
        scores = np.where(kept, self.scores, np.float32(-np.inf)) if self.scores.size else self.scores
        return replace(self, numbers=np.where(kept, self.numbers, -1), scores=scores)

    def closed_up(self) -> Candidates:
        """Return the ranked candidates in the same order without gaps: those that are none come last."""
        if self.valid.all():
            return self
        closed = self.at(np.argsort(~self.valid, axis=1, kind="stable"))
        return closed.only(closed.valid)

    def at(self, columns: I64) -> Candidates:
        """Return the ranked candidates at `columns` (U, K), in that order."""
        places = flat(columns, self.numbers.shape[1])
        return Candidates(
            self.numbers.ravel()[places],
            self.raw_at(places),
            self.scales,
            self.scores.ravel()[places],
            {name: part.ravel()[places] for name, part in self.parts.items()},
            self.propensities.ravel()[places],
        )

    def raw_at(self, places: I64) -> dict[str, F32]:
        """Return the raw scores at flat `places` (U, K)."""
        return {name: raw.ravel()[places] for name, raw in self.raw.items()}

    def first(self, size: int) -> Candidates:
        """Return each user's first `size` candidates, as contiguous arrays: compiled loops would be compiled again for others."""
        if size >= self.numbers.shape[1]:
            return self
        return Candidates(
            np.ascontiguousarray(self.numbers[:, :size]),
            {name: np.ascontiguousarray(raw[:, :size]) for name, raw in self.raw.items()},
            self.scales,
            np.ascontiguousarray(self.scores[:, :size]),
            {name: np.ascontiguousarray(part[:, :size]) for name, part in self.parts.items()},
            np.ascontiguousarray(self.propensities[:, :size]),
        )


def best(scores: F32, numbers: I64, size: int) -> tuple[I64, I64, F32]:
    """Return the `size` best candidates of each user by `scores` (U, C), best first, equal ones by number: their columns, numbers and
    scores (U, size); 0, −1 and −∞ where there are no more."""
    shape = (len(numbers), size)
    columns, items, values = np.zeros(shape, np.int64), np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32)
    candidates_kernel.best(scores, numbers, columns, items, values)
    return columns, items, values


def flat(columns: I64, width: int) -> I64:
    """Return where `columns` (U, K) of an array (U, `width`) are when it is flat: indexing so is much faster than by two indices."""
    places: I64 = columns + width * np.arange(len(columns))[:, None]
    return places
