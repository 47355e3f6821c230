"""Intervals of a metric and tests of the difference between two contenders. Users are drawn whole: what one user does is not independent.

Shapes: C cases, U users, M metrics, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ShapeError
from recsys.evaluation.metrics import F64

CONFIDENCE = 0.95
RESAMPLES = 2_000
_BLOCK = 4_000_000
"""Draws held at once, 32 MB."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of a metric less that of a rival, its interval, and two p-values for "there is no difference"."""

    mean: float
    low: float
    high: float
    p_bootstrap: float
    p_sign_flip: float


def intervals(values: F64, users: NDArray[np.integer], *, seed: int = 0, confidence: float = CONFIDENCE) -> F64:
    """Return the percentile interval of each metric's mean over cases, by a bootstrap over users, (M, 2); NaN without cases.

    Source: Efron & Tibshirani 1993, ch. 13. Shapes: values (C, M), users (C,), the user of each case.
    Raises: ShapeError if they differ in length.
    """
    sums, counts = _by_user(values, users)
    if not len(counts):
        return np.full((values.shape[1], 2), np.nan)
    means = _resampled(sums, counts, seed)
    tail = (1 - confidence) / 2
    bounds: F64 = np.quantile(means, (tail, 1 - tail), axis=0).T
    return bounds


def paired(ours: F64, theirs: F64, users: NDArray[np.integer], *, seed: int = 0, confidence: float = CONFIDENCE) -> Difference:
    """Compare two contenders on the same cases, (C,) each, by a paired bootstrap and by random sign flips of users' differences.

    Both tests are two-sided. Source: Efron & Tibshirani 1993, ch. 16 (bootstrap); Fisher 1935, Good 2005 (sign flips).
    Raises: ShapeError for arrays of different lengths.
    """
    if ours.shape != theirs.shape:
        raise ShapeError(f"metrics of {ours.shape} and {theirs.shape} are not of the same cases")
    sums, counts = _by_user((ours - theirs)[:, None], users)
    if not len(counts):
        return Difference(0.0, 0.0, 0.0, 1.0, 1.0)
    means = _resampled(sums, counts, seed)[:, 0]
    tail = (1 - confidence) / 2
    low, high = (float(bound) for bound in np.quantile(means, (tail, 1 - tail)))
    n_less, n_more = int(np.count_nonzero(means <= 0)), int(np.count_nonzero(means >= 0))
    p_bootstrap = min(1.0, 2 * (1 + min(n_less, n_more)) / (1 + len(means)))
    return Difference(float(sums.sum() / counts.sum()), low, high, p_bootstrap, _sign_flip(sums[:, 0], seed))


def _by_user(values: F64, users: NDArray[np.integer]) -> tuple[F64, F64]:
    """Return the sums of values by user (U, M), and the number of cases (U,)."""
    if values.ndim != 2 or len(values) != len(users):
        raise ShapeError(f"values {values.shape} and users {users.shape} do not fit")
    distinct, place = np.unique(users, return_inverse=True)
    sums = np.zeros((len(distinct), values.shape[1]))
    for metric in range(values.shape[1]):
        sums[:, metric] = np.bincount(place, weights=values[:, metric], minlength=len(distinct))
    return sums, np.bincount(place, minlength=len(distinct)).astype(np.float64)


def _resampled(sums: F64, counts: F64, seed: int) -> F64:
    """Return the means of resamples of the users, (R, M)."""
    chance, n_users = np.random.default_rng(seed), len(counts)
    step = max(1, min(RESAMPLES, _BLOCK // n_users))
    means = []
    for first in range(0, RESAMPLES, step):
        n = min(step, RESAMPLES - first)
        drawn = chance.integers(n_users, size=(n, n_users)) + np.arange(n)[:, None] * n_users
        times = np.bincount(drawn.ravel(), minlength=n * n_users).reshape(n, n_users).astype(np.float64)  # how often each user is drawn
        means.append((times @ sums) / (times @ counts)[:, None])
    return np.concatenate(means)


def _sign_flip(differences: F64, seed: int) -> float:
    """Return the share of random signs that give a sum as far from 0 as that of the differences (U,), the given signs included."""
    chance, n_users = np.random.default_rng(seed + 1), len(differences)
    seen = abs(float(differences.sum())) * (1 - 1e-12)
    step = max(1, min(RESAMPLES, _BLOCK // n_users))
    n_as_far = 1
    for first in range(0, RESAMPLES, step):
        n = min(step, RESAMPLES - first)
        signs = chance.integers(0, 2, size=(n, n_users), dtype=np.int8).astype(np.float64) * 2 - 1
        n_as_far += int(np.count_nonzero(np.abs(signs @ differences) >= seen))
    return n_as_far / (RESAMPLES + 1)
