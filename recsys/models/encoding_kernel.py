"""From histories to user vectors, user by user: self-attention without padding, and small ridge systems; compiled, without gradients.

Shapes: T interactions of U users one after another, of which user u has `starts[u]` to `starts[u + 1]`; D dimensions, which the heads of
attention share.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from recsys.arithmetic_kernel import add, dot
from recsys.jit import compiled_sums

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@compiled_sums
def causal(qkv: F32, starts: I64, n_heads: int, out: F32) -> None:
    """Queries, keys and values (T, 3 D) ▸ `out` (T, D): each interaction attends to those of its user up to itself."""
    width = out.shape[1]
    depth = width // n_heads
    shares = np.empty(_longest(starts), np.float32)
    for user in range(len(starts) - 1):
        start = starts[user]
        for at in range(start, starts[user + 1]):
            for first in range(0, width, depth):
                query, mixed = qkv[at, first : first + depth], out[at, first : first + depth]
                _attend(query, qkv, start, at + 1, width + first, width, shares, mixed)


@compiled_sums
def newest(queries: F32, keys_values: F32, starts: I64, n_heads: int, out: F32) -> None:
    """Queries (U, D), keys and values (T, 2 D) ▸ `out` (U, D): each user's last interaction attends to all of them; nobody has none."""
    width = out.shape[1]
    depth = width // n_heads
    shares = np.empty(_longest(starts), np.float32)
    for user in range(len(out)):
        for first in range(0, width, depth):
            query, mixed = queries[user, first : first + depth], out[user, first : first + depth]
            _attend(query, keys_values, starts[user], starts[user + 1], first, width, shares, mixed)


@compiled_sums
def _longest(starts: I64) -> int:
    longest = 0
    for user in range(len(starts) - 1):
        longest = max(longest, starts[user + 1] - starts[user])
    return longest


@compiled_sums
def _attend(query: F32, rows: F32, start: int, end: int, column: int, width: int, shares: F32, out: F32) -> None:
    """What a query of one head reads of the interactions from `start` to `end`: in `rows` their keys begin at `column`, their values
    `width` columns later. `shares` is overwritten."""
    depth, values = len(query), column + width
    highest = np.float32(-np.inf)
    for at in range(start, end):
        share = dot(query, rows[at, column : column + depth])
        shares[at - start] = share
        highest = max(highest, share)
    scale, total = np.float32(1 / math.sqrt(depth)), np.float32(0)
    for place in range(end - start):
        share = np.float32(math.exp((shares[place] - highest) * scale))
        shares[place] = share
        total += share
    out[:] = 0
    for at in range(start, end):
        add(out, rows[at, values : values + depth], shares[at - start] / total)


@compiled_sums
def embedded(
    items: F32, positions: F32, sequences: I64, starts: I64, scale: F32, shift: F32, added: float, out: F32, normed: F32
) -> None:
    """Items (I, D) plus positions, counted from each user's first of `sequences` (T,), into `out` (T, D), and their layer norm into
    `normed` (T, D)."""
    for user in range(len(starts) - 1):
        for at in range(starts[user], starts[user + 1]):
            item, position = items[sequences[at]], positions[at - starts[user]]
            for d in range(out.shape[1]):
                out[at, d] = item[d] + position[d]
            _norm(out[at], scale, shift, np.float32(added), normed[at])


@compiled_sums
def add_and_norm(x: F32, addend: F32, bias: F32, scale: F32, shift: F32, added: float, normed: F32) -> None:
    """`x` (T, D) becomes x + addend + bias, and `normed` (T, D) the layer norm of that."""
    for at in range(len(x)):
        for d in range(x.shape[1]):
            x[at, d] += addend[at, d] + bias[d]
        _norm(x[at], scale, shift, np.float32(added), normed[at])


@compiled_sums
def rectify(x: F32, bias: F32) -> None:
    """`x` (T, D) becomes max(x + bias, 0)."""
    for at in range(len(x)):
        for d in range(x.shape[1]):
            x[at, d] = max(x[at, d] + bias[d], np.float32(0))


@compiled_sums
def _norm(row: F32, scale: F32, shift: F32, added: np.float32, out: F32) -> None:
    total, squares, width = np.float32(0), np.float32(0), np.float32(len(row))
    for d in range(len(row)):
        total += row[d]
    mean = total / width
    for d in range(len(row)):
        squares += (row[d] - mean) * (row[d] - mean)
    factor = np.float32(1 / math.sqrt(squares / width + added))
    for d in range(len(row)):
        out[d] = (row[d] - mean) * factor * scale[d] + shift[d]


@compiled_sums
def ridge(factors: F32, diagonal: F32, items: I64, weights: F32, starts: I64, ridges: F32, most_dual: int, out: F32) -> None:
    """The solutions `out` (U, D) of (diag(`diagonal`) + `ridges[u]` E + Σ |w| yyᵀ) x = Σ_{w>0} w y over each user's interactions, in
    whose dual form up to `most_dual` of them are solved: `factors` (I, D) has the y of `items` (T,), `weights` (T,) are not 0."""
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
    """x = H⁻¹ Yᵀ (|W|⁻¹ + Y H⁻¹ Yᵀ)⁻¹ p with H = diag(`damped`) and pᵢ = 1 where wᵢ > 0, else 0."""
    for i in range(len(items)):
        row = factors[items[i]]
        for d in range(len(row)):
            divided[i, d] = row[d] / damped[d]
        for j in range(i + 1):
            system[i, j] = dot(divided[i], factors[items[j]])
        system[i, i] += 1 / abs(weights[i])
        side[i] = 1 if weights[i] > 0 else 0
    _solve(system, side[: len(items)])
    out[:] = 0
    for i in range(len(items)):
        add(out, divided[i], side[i])


@compiled_sums
def _primal(factors: F32, damped: F32, items: I64, weights: F32, system: F32, out: F32) -> None:
    """The same by the system over the dimensions."""
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
    _solve(system, out)


@compiled_sums
def _solve(system: F32, side: F32) -> None:
    """`side` (n,) becomes the solution of a positive definite system, whose lower half (n, n and more) becomes its Cholesky factor."""
    for i in range(len(side)):
        for j in range(i):
            system[i, j] = (system[i, j] - dot(system[i, :j], system[j, :j])) / system[j, j]
        system[i, i] = math.sqrt(system[i, i] - dot(system[i, :i], system[i, :i]))
        side[i] = (side[i] - dot(system[i, :i], side[:i])) / system[i, i]
    for i in range(len(side) - 1, -1, -1):
        side[i] /= system[i, i]
        add(side[:i], system[i, :i], -side[i])
