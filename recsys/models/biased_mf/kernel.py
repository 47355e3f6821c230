"""Solvers of matrix factorisation with biases, compiled.

Shapes: T ratings of R rows one after another, of which row r has `starts[r]` to `starts[r + 1]`; C columns; D factors. The last of D + 1
numbers of a vector is the bias.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import add, dot
from recsys.jit import compiled, compiled_sums
from recsys.models.ials.ridge_kernel import solve

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@compiled_sums
def solve_rows(
    columns: I32, ratings: F32, starts: I64, fixed: F32, offsets: F32, shared: F32, shift: F32, ridges: F32, out: F32
) -> None:
    """Write the vectors x that minimise Σ (rating − offset − x · z)² + what all columns add + ridge ‖x‖² into `out` (R, D + 1).

    z is a row of `fixed` (C, D + 1), whose last number is 1, and `offsets` (C,) is what a column adds by itself. All columns add `shared`
    (D + 1, D + 1) to the system and `shift` (D + 1,) to its right side. `ridges` (R,) are above 0. A row without ratings keeps its vector.
    """
    size = fixed.shape[1]
    system, side = np.empty((size, size), np.float32), np.empty(size, np.float32)
    for row in range(len(out)):
        if starts[row] == starts[row + 1]:
            continue
        for d in range(size):
            system[d, : d + 1] = shared[d, : d + 1]
            system[d, d] += ridges[row]
            side[d] = shift[d]
        for at in range(starts[row], starts[row + 1]):
            vector = fixed[columns[at]]
            for d in range(size):
                add(system[d, : d + 1], vector[: d + 1], vector[d])
            add(side, vector, ratings[at] - offsets[columns[at]])
        solve(system, side)
        out[row] = side


@compiled_sums
def _move(user: F32, item: F32, error: np.float32, step: np.float32, ridge: np.float32) -> None:
    """Move both vectors (D + 1,) down the gradient of ½ error² + ½ ridge · (squared lengths)."""
    last = len(user) - 1
    for d in range(last):
        own, other = user[d], item[d]
        user[d] += step * (error * other - ridge * own)
        item[d] += step * (error * own - ridge * other)
    user[last] += step * (error - ridge * user[last])
    item[last] += step * (error - ridge * item[last])


@compiled
def descend(
    order: I64,
    users: I32,
    items: I32,
    ratings: F32,
    mean: np.float32,
    step: np.float32,
    ridge: np.float32,
    user_vectors: F32,
    item_vectors: F32,
) -> None:
    """Move the vectors (U, D + 1) and (I, D + 1) by one step for each rating, in the given `order` (T,)."""
    last = user_vectors.shape[1] - 1
    for place in range(len(order)):
        at = order[place]
        user, item = user_vectors[users[at]], item_vectors[items[at]]
        error = ratings[at] - mean - user[last] - item[last] - dot(user[:last], item[:last])
        _move(user, item, error, step, ridge)
