"""Greedy choice of items that differ, compiled.

Shapes: U users, P ranked candidates, K places, G rows of features, W most columns of a row, F features, D dimensions of embeddings.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import add, dot
from recsys.catalogue.content_rows import ContentRows
from recsys.jit import compiled

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
Whole = Any
"""int or np.int64, which are one kind where it is compiled."""

OWN = np.float32(0.1)
"""Share of an item that its content does not describe: films of one genre and year are alike, but not the same film. Without it the second
of two items with equal content would never be chosen, whatever its relevance; so Wilhelm et al. 2018 scale all but the diagonal."""
_LEAST_STRENGTH = 1e-6


class Compared(NamedTuple):
    """Sparse features of one user's candidates, each of length 1, by feature: `lines` (L, P), of which candidate c has those of the first
    `used[c]` (P,) of `own[c]` (P, W), with `values[c]` (P, W). `dense` (P,) are the rows of their embeddings, −1 for none, and `inverse`
    (P,) 1 / their length before. `line_of` (F,) is −1 between two uses, and `features` (L,) are what lines are of. `alike` (P,) are the
    cosines with the item compared last."""

    lines: F32
    used: I64
    own: I64
    values: F32
    dense: I64
    inverse: F32
    line_of: I64
    features: I64
    alike: F32


@compiled
def mmr(numbers: I64, relevance: F32, features: ContentRows, size: int, strength: float, order: I64) -> None:
    """Write the columns of `numbers` (U, P), −1 for none, into `order` (U, P): the first `size` by maximal marginal relevance, then the
    others as they were.

    Each place gets the candidate with the largest (1 − λ) · relevance − λ · (largest similarity to those chosen before), the first of
    equal ones; λ is the `strength`. Relevance (U, P) is between 0 and 1, and so is similarity: the cosine, at least 0.
    Source: Carbonell & Goldstein 1998, whose λ is 1 − λ here.
    """
    n_columns = numbers.shape[1]
    taken, nearest, compared = np.empty(n_columns, np.bool_), np.empty(n_columns, np.float32), _room(features, n_columns)
    for user in range(len(numbers)):
        n_candidates = _count(numbers[user])
        _begin(features, user, n_candidates, compared)
        taken[:], nearest[:] = False, 0
        n_chosen = min(size, n_candidates)
        for at in range(n_chosen):
            chosen, best = -1, -np.inf
            for column in range(n_candidates):
                gain = (1 - strength) * relevance[user, column] - strength * nearest[column]
                if gain > best and not taken[column]:
                    chosen, best = column, gain
            taken[chosen] = True
            order[user, at] = chosen
            if at + 1 < n_chosen:
                _compare(features.dense, chosen, n_candidates, compared)
                for column in range(n_candidates):
                    nearest[column] = max(nearest[column], compared.alike[column])
        _append_others(taken, n_chosen, order[user])


@compiled
def dpp(numbers: I64, relevance: F32, features: ContentRows, size: int, strength: float, order: I64) -> None:
    """Write the columns of `numbers` (U, P), −1 for none, into `order` (U, P): the first `size` by greedy inference of a determinantal
    point process, then the others as they were.

    Each place gets the candidate that adds most to (1 − λ) · Σ relevance + λ · log det S, the first of equal ones; λ is the `strength`, and
    S the kernel of similarities: 1 on its diagonal, and (1 − `OWN`) · (1 + cosine) / 2 beside it. The gain of the determinant is the square
    of the next diagonal element of S's Cholesky factor, of which each choice adds a row: O(P · K²) in all.
    Source: Chen, Zhang & Zhou 2018, algorithm 1 and section 4.
    """
    n_columns = numbers.shape[1]
    taken, compared = np.empty(n_columns, np.bool_), _room(features, n_columns)
    quality, left = np.empty(n_columns), np.empty(n_columns, np.float32)  # e^(gain / λ) is a product, and needs no logarithm
    factor = np.empty((max(min(size, n_columns), 1), n_columns), np.float32)
    for user in range(len(numbers)):
        n_candidates = _count(numbers[user])
        _begin(features, user, n_candidates, compared)
        for column in range(n_candidates):
            quality[column] = np.exp((1 - strength) / max(strength, _LEAST_STRENGTH) * (relevance[user, column] - 1))
        taken[:], left[:] = False, 1
        n_chosen = min(size, n_candidates)
        for at in range(n_chosen):
            chosen, best = -1, -1.0
            for column in range(n_candidates):
                gain = quality[column] * left[column]
                if gain > best and not taken[column]:
                    chosen, best = column, gain
            taken[chosen] = True
            order[user, at] = chosen
            if at + 1 < n_chosen and strength > 0:  # at strength 0 nothing is left to the determinant, not even equal candidates
                _compare(features.dense, chosen, n_candidates, compared)
                _add_row(factor, at, chosen, n_candidates, compared.alike, left)
        _append_others(taken, n_chosen, order[user])


@compiled
def _count(numbers: I64) -> int:
    """Return the number of a user's candidates: those before the first −1."""
    count = 0
    while count < len(numbers) and numbers[count] >= 0:
        count += 1
    return count


@compiled
def _room(features: ContentRows, n_columns: int) -> Compared:
    """Return room for the features of `n_columns` candidates."""
    shape = (n_columns, features.columns.shape[1])
    n_lines = max(min(features.width, shape[0] * shape[1]), 1)
    return Compared(
        np.empty((n_lines, n_columns), np.float32),
        np.empty(n_columns, np.int64),
        np.empty(shape, np.int64),
        np.empty(shape, np.float32),
        np.empty(n_columns, np.int64),
        np.empty(n_columns, np.float32),
        np.full(features.width, -1, np.int64),
        np.empty(n_lines, np.int64),
        np.empty(n_columns, np.float32),
    )


@compiled
def _begin(features: ContentRows, user: Whole, n_candidates: Whole, compared: Compared) -> None:
    """Copy the features of a user's candidates, each of length 1."""
    lines, line_of, n_lines = compared.lines, compared.line_of, 0
    for column in range(n_candidates):
        row, dense, total, used = features.rows[user, column], features.dense_rows[user, column], np.float32(0), 0
        for w in range(features.columns.shape[1]):
            value = features.values[row, w]
            total += value * value
        if dense >= 0:
            total += dot(features.dense[dense], features.dense[dense])
        inverse = np.float32(1 / np.sqrt(total)) if total > 0 else np.float32(0)
        for w in range(features.columns.shape[1]):
            feature, value = features.columns[row, w], features.values[row, w]
            if value == 0:
                continue
            line = line_of[feature]
            if line < 0:
                line = n_lines
                line_of[feature], compared.features[line] = line, feature
                lines[line, :n_candidates] = 0
                n_lines += 1
            compared.own[column, used], compared.values[column, used] = line, value * inverse
            lines[line, column] += value * inverse
            used += 1
        compared.used[column], compared.dense[column], compared.inverse[column] = used, dense, inverse
    for line in range(n_lines):
        line_of[compared.features[line]] = -1


@compiled
def _compare(dense: F32, chosen: Whole, n_candidates: Whole, compared: Compared) -> None:
    """Write the cosines of all candidates with the `chosen` one into `compared.alike`: of each feature that it has, those of all at once.
    `dense` (M, D) are the embeddings."""
    lines, alike, own = compared.lines, compared.alike, compared.dense[chosen]
    alike[:n_candidates] = 0
    for w in range(compared.used[chosen]):
        line, value = compared.own[chosen, w], compared.values[chosen, w]
        for column in range(n_candidates):
            alike[column] += value * lines[line, column]
    if own >= 0:
        for column in range(n_candidates):
            if compared.dense[column] >= 0:
                scale = compared.inverse[chosen] * compared.inverse[column]
                alike[column] += dot(dense[own], dense[compared.dense[column]]) * scale


@compiled
def _add_row(factor: F32, at: Whole, chosen: Whole, n_candidates: Whole, alike: F32, left: F32) -> None:
    """Add the row of the `chosen` candidate to the Cholesky `factor` (K, P), and take it from what is `left` (P,) of each candidate."""
    row = factor[at, :n_candidates]
    for column in range(n_candidates):
        row[column] = (np.float32(1) - OWN) * (np.float32(1) + alike[column]) * np.float32(0.5)
    for before in range(at):
        add(row, factor[before, :n_candidates], -factor[before, chosen])
    scale = np.float32(1) / np.sqrt(left[chosen])
    for column in range(n_candidates):
        row[column] *= scale
        left[column] = max(left[column] - row[column] * row[column], OWN * np.float32(0.5))  # it is above OWN but for rounding


@compiled
def _append_others(taken: Bools, n_chosen: Whole, order: I64) -> None:
    """Write the columns that are not `taken` (P,) behind the first `n_chosen` of `order` (P,)."""
    for column in range(len(taken)):
        if not taken[column]:
            order[n_chosen] = column
            n_chosen += 1
