"""Small ridge systems, user by user: compiled.

Shapes: T interactions of U users one after another, of which user u has `starts[u]` to `starts[u + 1]`; D factors.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import add, dot
from recsys.jit import compiled, compiled_sums

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@compiled
def collapse(items: I32, weights: F32) -> None:
    """Let each item of a history count once, in place: `weights` (U, L) become 0 at all places of an item (U, L) but its newest, on the
    right, which gets the newest sign with the largest magnitude since the sign last changed. Items below 0 are padding."""
    length = items.shape[1]
    for user in range(len(items)):
        for newest in range(length - 1, 0, -1):
            item, weight = items[user, newest], weights[user, newest]
            if item < 0 or weight == 0:
                continue
            is_run, strongest = True, abs(weight)
            for at in range(newest - 1, -1, -1):
                other = weights[user, at]
                if items[user, at] == item and other != 0:
                    is_run = is_run and (other > 0) == (weight > 0)
                    if is_run:
                        strongest = max(strongest, abs(other))
                    weights[user, at] = 0
            weights[user, newest] = strongest if weight > 0 else -strongest


@compiled_sums
def ridge(factors: F32, diagonal: F32, items: I64, weights: F32, starts: I64, ridges: F32, most_dual: int, out: F32) -> None:
    """Solve (diag(`diagonal`) + `ridges[u]` E + Σ |w| yyᵀ) x = Σ_{w>0} w y over each user's interactions; write x to `out` (U, D).

    Users with up to `most_dual` interactions are solved in the dual form.
    Shapes: factors (I, D), the rows y; diagonal (D,); items (T,), rows of `factors`; weights (T,), none of them 0; ridges (U,).
    """
    size = max(factors.shape[1], most_dual)
    system, side = np.empty((size, size), np.float32), np.empty(most_dual, np.float32)
    damped, divided = np.empty(len(diagonal), np.float32), np.empty((most_dual, len(diagonal)), np.float32)
    for user in range(len(out)):
        own = slice(starts[user], starts[user + 1])
        for i in range(len(diagonal)):
            damped[i] = diagonal[i] + ridges[user]
        if starts[user + 1] - starts[user] <= most_dual:
            _dual(factors, damped, items[own], weights[own], divided, system, side, out[user])
        else:
            _primal(factors, damped, items[own], weights[own], system, out[user])


@compiled_sums
def _dual(factors: F32, damped: F32, items: I64, weights: F32, divided: F32, system: F32, side: F32, out: F32) -> None:
    """Solve one user's system over the interactions: x = H⁻¹ Yᵀ (|W|⁻¹ + Y H⁻¹ Yᵀ)⁻¹ p.

    H = diag(`damped`); pᵢ = 1 where wᵢ > 0, else 0. Scratch, overwritten: divided (n, D), system (n, n) and side (n,), or more.
    """
    for i in range(len(items)):
        row = factors[items[i]]
        for d in range(len(row)):
            divided[i, d] = row[d] / damped[d]
        for j in range(i + 1):
            system[i, j] = dot(divided[i], factors[items[j]])
        system[i, i] += 1 / abs(weights[i])
        side[i] = 1 if weights[i] > 0 else 0
    solve(system, side[: len(items)])
    out[:] = 0
    for i in range(len(items)):
        add(out, divided[i], side[i])


@compiled_sums
def _primal(factors: F32, damped: F32, items: I64, weights: F32, system: F32, out: F32) -> None:
    """Solve the same system over the factors. `system` (D, D and more) is overwritten."""
    out[:] = 0
    for d in range(len(damped)):
        system[d, :d] = 0
        system[d, d] = damped[d]
    for i in range(len(items)):
        row, weight = factors[items[i]], abs(weights[i])
        for d in range(len(row)):
            add(system[d, : d + 1], row[: d + 1], weight * row[d])
        if weights[i] > 0:
            add(out, row, weight)
    solve(system, out)


@compiled_sums
def solve(system: F32, side: F32) -> None:
    """Replace `side` (n,) by the solution of a positive definite system, and the system's lower half (n, n) by its Cholesky factor."""
    for i in range(len(side)):
        for j in range(i):
            system[i, j] = (system[i, j] - dot(system[i, :j], system[j, :j])) / system[j, j]
        system[i, i] = math.sqrt(system[i, i] - dot(system[i, :i], system[i, :i]))
        side[i] = (side[i] - dot(system[i, :i], side[:i])) / system[i, i]
    for i in range(len(side) - 1, -1, -1):
        side[i] /= system[i, i]
        add(side[:i], system[i, :i], -side[i])
