"""A model's scores over all items as seen in a sample, compiled. Shapes: U users, S sampled vectors, C candidates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import exp_of_negative
from recsys.jit import compiled, compiled_sums

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@compiled
def share_above(sampled: F32, shares: F32) -> None:
    """Write the share of the sum of squares of each row (U, S) that belongs to positive values into `shares` (U,); 0 for a row of zeros."""
    for user in range(len(sampled)):
        above, total = _squares(sampled[user])
        shares[user] = above / total if total > 0 else np.float32(0)


@compiled_sums
def _squares(row: F32) -> tuple[np.float32, np.float32]:
    above, total = np.float32(0), np.float32(0)
    for i in range(len(row)):
        positive = (row[i] + abs(row[i])) * np.float32(0.5)
        above += positive * positive
        total += row[i] * row[i]
    return above, total


@compiled
def mean_below(sampled: F32, shift: F32, least: F32, means: F32) -> None:
    """Write the mean of e^(2 · (s − shift[u])) over those s of each row (U, S), none above `shift` (U,), that are less than `least[u]` into
    `means` (U,); 0 where there are none."""
    for user in range(len(sampled)):
        total, count = _exponentials(sampled[user], shift[user], least[user])
        means[user] = total / np.float32(max(count, 1))


@compiled_sums
def _exponentials(row: F32, shift: np.float32, least: np.float32) -> tuple[np.float32, int]:
    total, count = np.float32(0), 0
    for i in range(len(row)):
        below = row[i] < least
        total += exp_of_negative(np.float32(2) * (row[i] - shift)) if below else np.float32(0)
        count += below
    return total, count


@compiled
def softened(scores: F32, rows: I64, shift: F32) -> None:
    """Replace each logit (U, C) by e^(min(logit − shift[u], 0)), or 0 where the row (U, C) is −1."""
    for user in range(len(scores)):
        for column in range(scores.shape[1]):
            difference = min(scores[user, column] - shift[user], np.float32(0))
            scores[user, column] = np.exp(difference) if rows[user, column] >= 0 else np.float32(0)
