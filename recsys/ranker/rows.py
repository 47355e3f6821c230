"""Cases as rows of candidates, divided by time: older ones train, the newest decide when to stop.

Shapes: n rows, B cases, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recsys.errors import TooFewInteractions
from recsys.ranker.cases import RankerCases

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

LEAST_CASES = 100
"""Fewer cases than this say next to nothing."""
VALIDATION = 0.2
"""Share of the cases, the newest, that decides when to stop."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Candidates of B cases, case after case: `features` (n, F), the recipe's `scores` (n,), case b's from `starts[b]` to `starts[b + 1]`;
    `targets` (B,), the row of the item that the event was about; `weights` (B,), below 0 where the user rejected it."""

    features: F32
    scores: F32
    starts: I64
    targets: I64
    weights: F32

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def counts(self) -> I64:
        """Return the number of candidates of each case, (B,)."""
        return np.diff(self.starts)

    @classmethod
    def of(cls, cases: RankerCases) -> Self:
        """Return the rows of all cases, each of which has a target. Weights are divided by their mean magnitude."""
        valid, starts = cases.valid, np.concatenate(([0], np.cumsum(cases.counts))).astype(np.int64)
        mean = max(float(np.abs(cases.weights).mean()), 1e-9)
        weights = (cases.weights / np.float32(mean)).astype(np.float32)
        return cls(cases.features[valid], cases.scores[valid], starts, starts[:-1] + cases.targets, weights)


def divided(cases: RankerCases) -> tuple[Rows, Rows]:
    """Return the older cases and the newest fifth, of those whose item is a candidate and that say something.

    Raises: TooFewInteractions for fewer than 100 of them, and where none of the newest is a choice.
    """
    cases = cases.at(np.flatnonzero((cases.targets >= 0) & (cases.counts > 1) & (cases.weights != 0)))
    n_train = int(len(cases) * (1 - VALIDATION))
    newest = cases.at(np.arange(n_train, len(cases))[cases.weights[n_train:] > 0])
    if len(cases) < LEAST_CASES or not len(newest):
        raise TooFewInteractions(f"a ranker needs {LEAST_CASES} cases or more whose item is a candidate, and there are {len(cases)}")
    return Rows.of(cases.at(slice(n_train))), Rows.of(newest)


def log_likelihood(rows: Rows, scores: F32) -> float:
    """Return the weighted mean of log p of the cases' items, p from a softmax of `scores` (n,) over each case. It says more of few cases
    than NDCG does, which few places decide."""
    of_case, starts = np.repeat(np.arange(len(rows)), rows.counts), rows.starts[:-1]
    most = np.maximum.reduceat(scores, starts)
    sums = np.bincount(of_case, np.exp(scores - most[of_case]), len(rows))
    weights = np.abs(rows.weights)
    return float((weights * (scores[rows.targets] - most - np.log(sums))).sum() / weights.sum())
