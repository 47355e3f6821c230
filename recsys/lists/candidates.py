"""Candidates of lists, on which filters, features, the ranker and the policy work.

Shapes: U users, C candidates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from recsys.lists import candidates_kernel

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Columns(Mapping[str, F32]):
    """Arrays (U, C) by name, each of an array that is `held` and the flat places in it, None for all of it as it is. They are gathered when
    they are asked for: of the parts of a score and the raw scores, most stages read none, and lists show few places."""

    held: Mapping[str, tuple[F32, I64 | None]]
    _gathered: dict[str, F32] = field(default_factory=dict)

    @classmethod
    def of(cls, arrays: Mapping[str, F32]) -> Columns:
        """Return these arrays."""
        return arrays if isinstance(arrays, Columns) else cls({name: (array, None) for name, array in arrays.items()})

    def __getitem__(self, name: str) -> F32:
        array, places = self.held[name]
        if places is None:
            return array
        if name not in self._gathered:
            self._gathered[name] = array.ravel()[places]
        return self._gathered[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.held)

    def __len__(self) -> int:
        return len(self.held)

    def at(self, places: I64) -> Columns:
        """Return the arrays at flat `places` (U, K)."""
        moved: dict[int, I64] = {}
        for _, before in self.held.values():
            if before is not None and id(before) not in moved:
                moved[id(before)] = before.ravel()[places]
        return Columns({name: (array, places if old is None else moved[id(old)]) for name, (array, old) in self.held.items()})

    def and_(self, name: str, array: F32) -> Columns:
        """Return the arrays with one more, or another one of that name."""
        return Columns({**self.held, name: (array, None)})


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
            Columns.of(self.parts).at(places),
            self.propensities.ravel()[places],
        )

    def raw_at(self, places: I64) -> Columns:
        """Return the raw scores at flat `places` (U, K)."""
        return Columns.of(self.raw).at(places)

    def first(self, size: int) -> Candidates:
        """Return each user's first `size` candidates, as contiguous arrays: compiled loops would be compiled again for others."""
        if size >= self.numbers.shape[1]:
            return self
        return self.at(np.tile(np.arange(size), (len(self), 1)))


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
